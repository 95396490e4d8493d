"""Whether passages can be re-used at other positions (K-shift) without making answers wrong.

Each question's prompt is read in several ways and answered greedily; see `WAYS`. Only the questions from the
201st on are used: the first 200 are the published figures'. Writes `benchmarks/results/kshift.json` and every
answer to `kshift.answers.jsonl`; an interrupted run goes on with `--resume`.

The rule, fixed before the run: a way is kept only if, at 95 % confidence, it costs at most `MARGIN` of the
answers that contain the gold answer and at most `MARGIN` of F1, paired by question.

Example: `python -m benchmarks.kshift --data ../shared/data/squad --model qwen2.5-coder-0.5b`
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, median

import numpy as np
import numpy.typing as npt
from localsmith.agents.answering.abstention import is_abstention
from localsmith.core.settings import load_settings
from localsmith.evaluation.final_answers import short_answer
from localsmith.evaluation.journal import Journal
from localsmith.evaluation.metrics import bootstrap, contains_answer, exact_match, f1
from localsmith.evaluation.question_files import GoldQuestion, load_articles, load_questions
from localsmith.evaluation.results import write_results
from localsmith.models.chat.template import ChatTemplate
from localsmith.models.llama.runtime import LlamaRuntime

from .engine.home import find_model
from .kshift_blocks import FIRST, BlockBench, Reading
from .kshift_prompts import Case, CutPrompt, choose_cases, cut_prompt

RESULTS = Path(__file__).parent / "results"
NUM_PUBLISHED = 200
MAX_TOKENS = 48
MARGIN = 0.03
HEADS = (16, 64)
WAYS = {
    "ordinary": "all behind the system prompt is computed",
    "turned": "control: the ordinary cells, all shifted by 64 positions; nothing is left out",
    "blocks": "each passage's cells from an earlier request, shifted; only markers and question computed",
    **{f"blocks_head{n}": f"as blocks, the first {n} tokens of each passage computed anew" for n in HEADS},
}
_TURN = 64


@dataclass(frozen=True, slots=True)
class Outcome:
    """One question answered in one way.

    Attributes:
        way: A key of `WAYS`.
        text: The answer.
        answers: The gold answers.
        gold_place: Place of the gold paragraph in the prompt, from 1.
        exact_match: 0 or 1, of the short answer.
        f1: 0 to 1, of the short answer.
        contains_answer: 0 or 1.
        abstained: 0 or 1.
        prompt_tokens: Tokens of the prompt, system prompt included.
        computed_tokens: Those that ran through the model, the system prompt's never.
        seconds: Wall time until the first token's logits, copying and turning included.
        cpu_seconds: Processor time of the same.
        divergence: KL divergence of the first token's distribution from the ordinary one, in nats.
        block_bytes: Mean size of a kept passage.
    """

    way: str
    text: str
    answers: tuple[str, ...]
    gold_place: int
    exact_match: float
    f1: float
    contains_answer: float
    abstained: float
    prompt_tokens: int
    computed_tokens: int
    seconds: float
    cpu_seconds: float
    divergence: float
    block_bytes: float


def answer_all_ways(bench: BlockBench, case: Case, prompt: CutPrompt, ways: Sequence[str]) -> list[Outcome]:
    """Read one prompt in every way asked for, "ordinary" being the first, and answer."""
    ordinary = bench.read_ordinarily(prompt)
    make: dict[str, Callable[[], Reading]] = {
        "ordinary": lambda: ordinary,
        "turned": lambda: bench.turned(ordinary, prompt, _TURN),
        "blocks": lambda: bench.read_with_blocks(prompt),
        **{f"blocks_head{n}": partial(bench.read_with_blocks, prompt, n) for n in HEADS},
    }
    readings = {way: make[way]() for way in ways}
    texts = bench.write(list(readings.values()), MAX_TOKENS)
    block_bytes = fmean(bench.block_bytes or [0])
    return [
        _outcome(way, text, case, prompt, reading, divergence(ordinary.logits, reading.logits), block_bytes)
        for (way, reading), text in zip(readings.items(), texts, strict=True)
    ]


def divergence(reference: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """Return KL(reference || other) in nats of two rows of logits, each `(n_vocab,)`."""
    p, q = _log_softmax(reference), _log_softmax(other)
    return float(np.sum(np.exp(p) * (p - q)))


def figures_of(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Compare every way with the ordinary one, question by question.

    Returns:
        Means of each way; differences from ordinary with `_low` and `_high` of their 95 % bootstrap interval.
    """
    by_way = {way: [outcome for outcome in outcomes if outcome.way == way] for way in WAYS}
    by_way = {way: own for way, own in by_way.items() if own}
    base = by_way["ordinary"]
    figures = {"num_questions": float(len(base)), "prompt_tokens_mean": fmean(o.prompt_tokens for o in base)}
    figures["block_mib_mean"] = base[-1].block_bytes / 2**20
    for way, own in by_way.items():
        for name in ("exact_match", "f1", "contains_answer", "abstained", "computed_tokens", "divergence"):
            figures[f"{way}_{name}"] = fmean(getattr(outcome, name) for outcome in own)
        for name in ("seconds", "cpu_seconds"):
            figures[f"{way}_{name}_median"] = median(getattr(outcome, name) for outcome in own)
        if way != "ordinary":
            figures |= _comparison(way, own, base)
    return figures


def main() -> None:
    """Measure, write, print."""
    arguments = _arguments()
    articles = load_articles(arguments.data / "articles.jsonl")
    questions = load_questions(arguments.data / "questions.jsonl", articles)[NUM_PUBLISHED:]
    numbered = dict(enumerate(choose_cases(questions, articles), start=NUM_PUBLISHED + 1))
    cases = [numbered[number] for number in arguments.questions if number in numbered]
    model = find_model(arguments.model)
    settings = load_settings().model.model_copy(
        update={"n_ctx": 4096, "kv_cells": 8192, "n_threads": arguments.threads}
    )
    about = {"model": model.sha256, "threads": arguments.threads, "ways": WAYS, "max_tokens": MAX_TOKENS}
    out: Path = arguments.json
    unfinished = out.with_name(out.name + ".partial.jsonl")
    journal = Journal.open(unfinished, Outcome, about, resume=arguments.resume)
    runtime = LlamaRuntime(model.path, settings, n_seq=FIRST + len(WAYS))
    try:
        outcomes, num_ordinary = _run(runtime, cases, arguments.ways, journal)
    finally:
        runtime.close()
    figures = figures_of(outcomes) | {"same_tokens_as_uncut": num_ordinary / len(cases)}
    command = f"python -m benchmarks.kshift --data squad --model {model.name} --threads {runtime.n_threads}"
    command += f" --ways {','.join(arguments.ways)} --questions {_ranges(arguments.questions)}"
    details = {"model_sha256": model.sha256, "cells": runtime.num_cells, "ways": WAYS, "margin": MARGIN}
    write_results(out, figures, command=command, details=details)
    journal.close(out.with_name(out.stem + ".answers.jsonl"))
    for key, value in figures.items():
        print(f"{key:40} {value:12.4f}")


def _run(
    runtime: LlamaRuntime, cases: Sequence[Case], ways: Sequence[str], journal: Journal[Outcome]
) -> tuple[list[Outcome], int]:
    """Answer what the journal doesn't hold yet; return all outcomes and how many prompts cut cleanly."""
    bench, template = BlockBench(runtime), ChatTemplate(runtime)
    prompts = [cut_prompt(template, runtime, case) for case in cases]
    outcomes: list[Outcome] = []
    begun, num_new = time.monotonic(), 0
    for done, (case, prompt) in enumerate(zip(cases, prompts, strict=True), start=1):
        kept = [journal.get(f"{case.question.id} {way}") for way in ways]
        found = [outcome for outcome in kept if outcome is not None]
        if len(found) < len(ways):
            found = answer_all_ways(bench, case, prompt, ways)
            for outcome in found:
                journal.add(f"{case.question.id} {outcome.way}", outcome)
            num_new += 1
            left_s = (time.monotonic() - begun) / num_new * (len(cases) - done)
            print(f"{done}/{len(cases)}, about {left_s / 60:.1f} min left", file=sys.stderr, flush=True)
        outcomes += found
    return outcomes, sum(prompt.is_ordinary for prompt in prompts)


def _outcome(
    way: str,
    text: str,
    case: Case,
    prompt: CutPrompt,
    reading: Reading,
    first_divergence: float,
    block_bytes: float,
) -> Outcome:
    question: GoldQuestion = case.question
    abstained = is_abstention(text)
    short = "" if abstained else short_answer(text)
    return Outcome(
        way=way,
        text=text,
        answers=question.answers,
        gold_place=case.gold_place,
        exact_match=exact_match(short, question.answers),
        f1=f1(short, question.answers),
        contains_answer=float(not abstained and contains_answer(text, question.answers)),
        abstained=float(abstained),
        prompt_tokens=len(prompt.tokens),
        computed_tokens=reading.num_computed,
        seconds=reading.seconds,
        cpu_seconds=reading.cpu_seconds,
        divergence=first_divergence,
        block_bytes=block_bytes,
    )


def _comparison(way: str, own: Sequence[Outcome], base: Sequence[Outcome]) -> dict[str, float]:
    figures = {f"{way}_same_text": fmean(a.text == b.text for a, b in zip(own, base, strict=True))}
    is_kept = True
    for name in ("exact_match", "f1", "contains_answer"):
        change = bootstrap([getattr(a, name) - getattr(b, name) for a, b in zip(own, base, strict=True)])
        key = f"{way}_{name}_change"
        figures |= {key: change.mean, f"{key}_low": change.low, f"{key}_high": change.high}
        is_kept &= name == "exact_match" or change.low >= -MARGIN
    pairs = [(a.contains_answer, b.contains_answer) for a, b in zip(own, base, strict=True)]
    figures[f"{way}_answers_lost"] = float(pairs.count((0.0, 1.0)))
    figures[f"{way}_answers_won"] = float(pairs.count((1.0, 0.0)))
    figures[f"{way}_is_within_margin"] = float(is_kept)
    ratios = [b.cpu_seconds / a.cpu_seconds for a, b in zip(own, base, strict=True)]
    return figures | {f"{way}_reading_speedup_median": median(ratios)}


def _log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def _numbers(text: str) -> list[int]:
    """Return the questions named, each counted from 1 in the file."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    if not numbers or min(numbers) <= NUM_PUBLISHED:
        raise argparse.ArgumentTypeError(f"Questions up to {NUM_PUBLISHED} are the published figures'.")
    return numbers


def _ranges(numbers: Sequence[int]) -> str:
    """Write numbers as `_numbers` reads them."""
    starts = [n for i, n in enumerate(numbers) if i == 0 or n != numbers[i - 1] + 1]
    ends = [n for i, n in enumerate(numbers) if i == len(numbers) - 1 or n + 1 != numbers[i + 1]]
    return ",".join(f"{start}-{end}" for start, end in zip(starts, ends, strict=True))


def _ways(text: str) -> list[str]:
    """Return the ways named, the ordinary one among them."""
    named = {"ordinary", *text.split(",")}
    if unknown := named - set(WAYS):
        raise argparse.ArgumentTypeError(f"There is no way {sorted(unknown)[0]!r}.")
    return [way for way in WAYS if way in named]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of articles and questions.jsonl")
    parser.add_argument("--model", required=True, help="an installed model, or a GGUF file")
    parser.add_argument("--questions", type=_numbers, default="201-260", help="as 201-230,261-290")
    parser.add_argument("--threads", type=int, default=0, help="0 for one a physical core")
    parser.add_argument("--ways", type=_ways, default=list(WAYS), help=f"of {', '.join(WAYS)}")
    parser.add_argument("--json", type=Path, default=RESULTS / "kshift.json")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
