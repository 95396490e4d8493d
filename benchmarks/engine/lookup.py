"""The lookup workload: does guessing the next tokens from the prompt make answers come sooner?

Place in the data's way: one of the `workloads`, in a file of its own. The same engine with and without
`model.draft_tokens`, greedily, one request at a time: once on a task that copies from its text, once on one
that puts it in other words.

Example:
    lookup(bench).figures["lookup_quote_speedup"]
"""

from __future__ import annotations

import dataclasses

from . import prompts
from .rounds import Raw, ratio, values
from .setup import OURS
from .worker import Worker
from .workloads import GUESSING, PLAIN, WARM_UP, WARM_UP_TOKENS, Bench, Result, spread_figures

DRAFT_TOKENS = 5
TASKS = {
    "quote": "Copy out, word for word, the three sentences of this text that say most about its subject.",
    "summary": prompts.CLIENT_TASK,
}


def lookup(bench: Bench) -> Result:
    """Measure seconds an answer's token takes, with and without guesses."""
    guessing_setup = dataclasses.replace(bench.setup, draft_tokens=DRAFT_TOKENS)
    guessing = Worker("ours", guessing_setup, bench.logs / "guessing.log")
    with bench.worker(OURS) as plain, guessing:
        texts: dict[int, str] = {}

        def run(worker: Worker, index: int) -> Raw:
            if index not in texts:
                texts[index] = bench.fitted(plain, bench.sizes.client_prompt_tokens)
            found: Raw = {}
            for task, words in TASKS.items():
                turns = [["user", f"{texts[index]}\n\n{words}"]]
                usage = worker.ask("turns", turns=turns, max_tokens=bench.sizes.completion_tokens)
                found[task] = usage["decode_s"] / max(1, usage["completion_tokens"])
            return found | {"value": sum(found.values()) / len(found)}

        for worker in (plain, guessing):
            worker.ask("turns", turns=[["user", WARM_UP]], max_tokens=WARM_UP_TOKENS)
        raw = bench.rounds.run(
            "lookup",
            {PLAIN: lambda index: run(plain, index), GUESSING: lambda index: run(guessing, index)},
            "s/token",
        )
    return Result(raw, lookup_figures(raw))


def lookup_figures(raw: dict[str, list[Raw]]) -> dict[str, float]:
    """Return how many times sooner a token comes with guesses, for each task and both together."""
    figures = spread_figures("lookup_speedup", ratio(values(raw[PLAIN]), values(raw[GUESSING])))
    for task in TASKS:
        plain = [run[task] for run in raw[PLAIN]]
        guessing = [run[task] for run in raw[GUESSING]]
        figures |= spread_figures(f"lookup_{task}_speedup", ratio(plain, guessing))
    return figures
