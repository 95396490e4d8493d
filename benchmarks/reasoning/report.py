"""The scoreboard on disk and as a picture: `benchmarks/results/reasoning.json` and `reasoning.png`.

Place in the data's way: `__main__` measures an entry -> here it is merged with those measured before, with
the same model, and all are written and drawn; `page` makes the docs page of the same file.

Example:
    write(RESULTS, add(read(RESULTS), "gsm8k_cot", measured, model="qwen2.5-coder-1.5b"))
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from localsmith.evaluation.results import write_results

from .entries import ENTRIES, PROBES, TARGETS, Entry

RESULTS = Path(__file__).resolve().parent.parent / "results" / "reasoning.json"
BAR_COLOUR, MISSED_COLOUR, TARGET_COLOUR = "#2f6f6a", "#b9c4c2", "#c9a227"


@dataclass(frozen=True, slots=True)
class Measured:
    """One entry as it was measured.

    Attributes:
        model: The model; "" where none took part.
        num_questions: Questions asked.
        date: Day, UTC, as YYYY-MM-DD.
        machine: What it ran on.
        command: How to get it again.
        figures: All figures of the evaluation.
        about: What the answers depend on.
    """

    model: str
    num_questions: int
    date: str
    machine: str
    command: str
    figures: dict[str, float]
    about: dict[str, Any] = field(default_factory=dict)


Scoreboard = Mapping[str, Measured]


def read(path: Path = RESULTS) -> dict[str, Measured]:
    """Return the entries of a results file; none where there is no file.

    Raises:
        ValueError: The file is not one of this benchmark.
    """
    if not path.exists():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    return {name: Measured(**fields) for name, fields in content["details"]["entries"].items()}


def merged(earlier: Scoreboard, measured: Scoreboard, model: str) -> dict[str, Measured]:
    """Return what this run measured, and of earlier runs what they measured with the same model.

    Args:
        earlier: The entries as the file has them.
        measured: This run's.
        model: This run's model.
    """

    def is_kept(name: str, entry: Measured) -> bool:
        return name in PROBES or (name in ENTRIES and entry.model == model)

    kept = {name: entry for name, entry in earlier.items() if is_kept(name, entry)}
    whole = kept | dict(measured)
    return {name: whole[name] for name in (*ENTRIES, *PROBES) if name in whole}


def flat_figures(entries: Scoreboard) -> dict[str, float]:
    """Return the figures under the scoreboard's names, each with its interval, tokens and seconds."""
    figures: dict[str, float] = {}
    for name, measured in entries.items():
        if name in PROBES:
            figures |= measured.figures
            continue
        own = measured.figures
        metric = ENTRIES[name].metric
        for end in ("", "_low", "_high"):
            figures[f"{name}{end}"] = own[f"{metric}{end}"]
        figures[f"{name}_tokens"] = own["tokens_mean"]
        figures[f"{name}_tokens_low"] = own["tokens_mean_low"]
        figures[f"{name}_tokens_high"] = own["tokens_mean_high"]
        figures[f"{name}_prompt_tokens"] = own["prompt_tokens_mean"]
        figures[f"{name}_cached_tokens"] = own["cached_tokens_mean"]
        figures[f"{name}_completion_tokens"] = own["completion_tokens_mean"]
        figures[f"{name}_seconds"] = own["seconds_per_question"]
        figures[f"{name}_no_answer_share"] = own["no_answer_share"]
        figures[f"{name}_n"] = measured.num_questions
    return figures


def write(entries: Scoreboard, command: str, path: Path = RESULTS) -> dict[str, float]:
    """Write the results file; return its figures.

    Raises:
        StorageError: The file can't be written.
    """
    figures = flat_figures(entries)
    details = {"entries": {name: asdict(measured) for name, measured in entries.items()}}
    write_results(path, figures, command=command, details=details)
    return figures


def misses(figures: Mapping[str, float]) -> list[str]:
    """Return, in words, the targets that the figures at hand miss."""
    return [
        f"{target.name} = {figures[target.name]:.3f}, to be {target.words}"
        for target in TARGETS
        if target.is_missed(figures)
    ]


def draw(entries: Scoreboard, path: Path) -> None:
    """Draw the rates with intervals and targets, and the tokens they cost; nothing where there are none."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    names = [name for name in entries if name in ENTRIES]
    if not names:
        return
    figures = flat_figures(entries)
    plot, (rates, tokens) = plt.subplots(
        1, 2, figsize=(10, 1.4 + 0.36 * len(names)), sharey=True, width_ratios=(3, 2), squeeze=True
    )
    _draw_rates(rates, names, figures)
    bars = tokens.barh(names, [figures[f"{name}_tokens"] for name in names], color=BAR_COLOUR)
    tokens.bar_label(bars, [f"{figures[f'{name}_tokens']:,.0f}" for name in names], padding=3, fontsize=8)
    tokens.set_xlabel("tokens computed a question (less is better)", fontsize=8)
    tokens.set_xlim(0, 1.25 * max(figures[f"{name}_tokens"] for name in names))
    tokens.tick_params(labelsize=8)
    models = sorted({entries[name].model for name in names})
    plot.suptitle(", ".join(models), fontsize=10)
    plot.tight_layout()
    plot.savefig(path, dpi=120)
    plt.close(plot)


def _draw_rates(axes: Any, names: list[str], figures: Mapping[str, float]) -> None:
    values = [figures[name] for name in names]
    below = [max(0.0, figures[name] - figures[f"{name}_low"]) for name in names]
    above = [max(0.0, figures[f"{name}_high"] - figures[name]) for name in names]
    targets = {target.name: target for target in TARGETS}
    missed = [name in targets and targets[name].is_missed(figures) is True for name in names]
    colours = [MISSED_COLOUR if is_missed else BAR_COLOUR for is_missed in missed]
    axes.barh(names, values, xerr=[below, above], capsize=3, color=colours)
    is_labelled = False
    for place, name in enumerate(names):
        bound = targets[name].bound(figures) if name in targets else None
        if bound is not None:
            label = None if is_labelled else "to reach"
            axes.plot(
                [bound, bound], [place - 0.4, place + 0.4], color=TARGET_COLOUR, linewidth=2, label=label
            )
            is_labelled = True
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share right, or F1; lines are 95 % intervals, grey misses its target", fontsize=8)
    axes.tick_params(labelsize=8)
    if is_labelled:
        axes.legend(fontsize=7, loc="lower right")


def names_of(only: str, entries: Mapping[str, Entry] = ENTRIES) -> list[str]:
    """Return the entries to measure.

    Args:
        only: Names with commas between them; "" for all that are no extras, "all" for all.
        entries: Those there are.

    Raises:
        ValueError: There is none of a name.
    """
    if not only:
        return [*(name for name, entry in entries.items() if not entry.is_extra), *PROBES]
    if only == "all":
        return [*entries, *PROBES]
    probe_of = {figure: probe for probe, figures in PROBES.items() for figure in figures}
    names = [probe_of.get(name, name) for name in only.split(",")]
    if unknown := [name for name in names if name not in entries and name not in PROBES]:
        raise ValueError(f"There is no entry {unknown[0]!r}; there are {', '.join((*entries, *PROBES))}.")
    return list(dict.fromkeys(names))
