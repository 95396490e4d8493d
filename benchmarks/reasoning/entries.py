"""What the scoreboard measures: a strategy, a file, a figure; and what the figures are to reach.

Place in the data's way: `__main__` measures these entries one after the other; `report` and `page` show them
in this order.

Example:
    >>> ENTRIES["gsm8k_cot_sc8"].strategy
    'cot-sc'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from localsmith.evaluation_run import StrategyRun

Metric = Literal["accuracy", "f1"]

GSM8K, GSM8K_TRAIN, GSM_HARD = "gsm8k/test.jsonl", "gsm8k/train.jsonl", "pal/gsmhardv2.jsonl"
HOTPOTQA, SQUAD, ARTICLES = "hotpotqa/dev.jsonl", "squad/questions.jsonl", "squad/articles.jsonl"
# A run of ReAct has a limit of time, which the runs beside it use up, too.
REACT_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the scoreboard.

    Attributes:
        strategy: The strategy.
        file: The questions, below the data folder.
        metric: The figure that is shown.
        num_samples: Samples that vote; None for one that does not vote.
        corpus: Documents, below the data folder; "" for none.
        examples: Examples for few-shot, below the data folder; "" for none.
        at_once: Questions asked at the same time; None for as many as the run says.
        is_extra: Whether it is measured only where it is named.
    """

    strategy: str
    file: str
    metric: Metric = "accuracy"
    num_samples: int | None = None
    corpus: str = ""
    examples: str = ""
    at_once: int | None = None
    is_extra: bool = False

    def run(self, data: Path, *, model: str, limit: int, at_once: int, seed: int | None) -> StrategyRun:
        """Return what is to be measured."""
        return StrategyRun(
            strategy=self.strategy,
            file=data / self.file,
            limit=limit,
            model=model,
            num_samples=self.num_samples,
            corpus=data / self.corpus if self.corpus else None,
            examples=data / self.examples if self.examples else None,
            at_once=self.at_once or at_once,
            seed=seed,
        )


def _extra(strategy: str, file: str) -> Entry:
    return Entry(strategy, file, is_extra=True)


ENTRIES: Mapping[str, Entry] = {
    "gsm8k_direct": Entry("direct", GSM8K),
    "gsm8k_few_shot": Entry("few-shot", GSM8K, examples=GSM8K_TRAIN),
    "gsm8k_cot": Entry("cot", GSM8K),
    "gsm8k_cot_sc8": Entry("cot-sc", GSM8K, num_samples=8),
    "gsm8k_pal": Entry("pal", GSM8K),
    "gsm8k_pal_vote5": Entry("pal-vote", GSM8K, num_samples=5),
    "gsm8k_auto": Entry("auto", GSM8K),
    "gsmhard_cot": Entry("cot", GSM_HARD),
    "gsmhard_pal": Entry("pal", GSM_HARD),
    "hotpotqa_react_f1": Entry("react", HOTPOTQA, "f1", corpus=ARTICLES, at_once=REACT_AT_ONCE),
    "hotpotqa_direct_f1": Entry("direct", HOTPOTQA, "f1"),
    "squad_react_f1": Entry("react", SQUAD, "f1", corpus=ARTICLES, at_once=REACT_AT_ONCE),
    "svamp_cot": _extra("cot", "pal/svamp.jsonl"),
    "svamp_pal": _extra("pal", "pal/svamp.jsonl"),
    "bbh_date_understanding_cot": _extra("cot", "bbh/date_understanding.jsonl"),
    "bbh_object_counting_cot": _extra("cot", "bbh/object_counting.jsonl"),
    "bbh_object_counting_pal": _extra("pal", "bbh/object_counting.jsonl"),
    "bbh_multistep_arithmetic_two_cot": _extra("cot", "bbh/multistep_arithmetic_two.jsonl"),
    "bbh_multistep_arithmetic_two_pal": _extra("pal", "bbh/multistep_arithmetic_two.jsonl"),
    "bbh_tracking_shuffled_objects_three_objects_cot": _extra(
        "cot", "bbh/tracking_shuffled_objects_three_objects.jsonl"
    ),
    "strategyqa_cot": _extra("cot", "strategyqa/dev.jsonl"),
    "fever_direct": _extra("direct", "fever/dev.jsonl"),
}
# Measured without questions of a file, by `tool_calls` and `sandbox_timing`, whatever model the run names.
PROBES: Mapping[str, tuple[str, ...]] = {
    "tool_calls": ("react_malformed_calls",),
    "sandbox": ("sandbox_warm_median_ms", "sandbox_cold_s"),
}
SINGLE_STRATEGIES = (
    "gsm8k_direct",
    "gsm8k_few_shot",
    "gsm8k_cot",
    "gsm8k_cot_sc8",
    "gsm8k_pal",
    "gsm8k_pal_vote5",
)


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure is to reach.

    Attributes:
        name: The figure.
        words: The bound, for people.
        bound: Its value by the figures there are; None where it hangs on one that is missing.
        is_upper: Whether the figure must not exceed it; False where it must not fall below.
        is_strict: Whether reaching it is not enough.
    """

    name: str
    words: str
    bound: Callable[[Mapping[str, float]], float | None]
    is_upper: bool = False
    is_strict: bool = False

    def is_missed(self, figures: Mapping[str, float]) -> bool | None:
        """Tell whether the figure misses it; None where that can't be told."""
        bound = self.bound(figures)
        if bound is None or self.name not in figures:
            return None
        value = figures[self.name]
        if self.is_strict and value == bound:
            return True
        return value > bound if self.is_upper else value < bound


def _times(name: str, factor: float) -> Callable[[Mapping[str, float]], float | None]:
    return lambda figures: factor * figures[name] if name in figures else None


def _fixed(value: float) -> Callable[[Mapping[str, float]], float | None]:
    return lambda figures: value


def _near_the_best(figures: Mapping[str, float]) -> float | None:
    singles = [figures[name] for name in SINGLE_STRATEGIES if name in figures]
    return max(singles) - 0.02 if len(singles) > 1 else None


TARGETS = (
    Target("gsm8k_cot", ">= 0.55", _fixed(0.55)),
    Target("gsm8k_cot_sc8", "> gsm8k_cot", _times("gsm8k_cot", 1.0), is_strict=True),
    Target("gsm8k_pal", ">= 0.60", _fixed(0.60)),
    Target("gsm8k_pal_vote5", ">= 0.68", _fixed(0.68)),
    Target("gsm8k_auto", ">= best single strategy - 0.02", _near_the_best),
    Target(
        "gsm8k_auto_tokens", "< half of gsm8k_pal_vote5's", _times("gsm8k_pal_vote5_tokens", 0.5), True, True
    ),
    Target("gsmhard_pal", ">= 1.5 x gsmhard_cot", _times("gsmhard_cot", 1.5)),
    Target("react_malformed_calls", "0", _fixed(0.0), True),
    Target("sandbox_warm_median_ms", "< 50", _fixed(50.0), True, True),
    Target("sandbox_cold_s", "< 1", _fixed(1.0), True, True),
)
