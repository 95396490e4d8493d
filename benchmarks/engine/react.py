"""The ReAct workload: a transcript that grows by a thought and an observation a step, with and without cache.

Place in the data's way: one of the `workloads`, in a file of its own. "Without" asks the same prompt with a
first line that was never seen, so that the engine is the same in everything but what it remembers.

Example:
    react(bench).figures["react_prompt_share_computed"]
"""

from __future__ import annotations

from . import prompts
from .rounds import Raw, Spread, ratio, values
from .setup import OURS
from .worker import Worker
from .workloads import CACHED, FRESH, WARM_UP, WARM_UP_TOKENS, Bench, Result, spread_figures

_MAX_TOKENS = 1  # the steps' words are given; only the first token is waited for
_THOUGHT_SHARE = 3  # a third of what a step appends is the model's, the rest the tool's


def react(bench: Bench) -> Result:
    """Measure how much of a growing prompt is computed, and how soon the first token comes."""
    with bench.worker(OURS) as ours:
        transcripts: dict[int, list[list[str]]] = {}

        def turns_of(index: int) -> list[list[str]]:
            if index not in transcripts:
                transcripts[index] = _transcript(bench, ours)
            return transcripts[index]

        def cached(index: int) -> Raw:
            turns = turns_of(index)
            usages = [
                ours.ask("turns", turns=turns[: 2 + 2 * step], max_tokens=_MAX_TOKENS)
                for step in range(bench.sizes.react_steps)
            ]
            return _cached_raw(usages, compared_step(index, bench.sizes.react_steps))

        def fresh(index: int) -> Raw:
            turns = turns_of(index)
            step = compared_step(index, bench.sizes.react_steps)
            first = [turns[0][0], f"Session {index + 1}.\n{turns[0][1]}"]
            usage = ours.ask("turns", turns=[first, *turns[1 : 2 + 2 * step]], max_tokens=_MAX_TOKENS)
            return {"value": usage["time_to_first_token_s"], "step": step + 1, "usage": usage}

        ours.ask("turns", turns=[["user", WARM_UP]], max_tokens=WARM_UP_TOKENS)
        raw = bench.rounds.run("react", {CACHED: cached, FRESH: fresh}, "s to 1st token")
    return Result(raw, react_figures(raw))


def compared_step(round_index: int, num_steps: int) -> int:
    """Return the step, from 0, whose first token is compared in this round: each but the first in turn."""
    return 1 + round_index % (num_steps - 1)


def _transcript(bench: Bench, ours: Worker) -> list[list[str]]:
    """Return system and question, then a thought and an observation for every further step."""
    sizes = bench.sizes
    background = bench.fitted(ours, sizes.react_prefix_tokens)
    turns = [["system", f"{prompts.REACT_TASK}\n\n{background}"], ["user", "What connects these subjects?"]]
    thought = sizes.react_step_tokens // _THOUGHT_SHARE
    for _ in range(sizes.react_steps - 1):
        turns.append(["assistant", f"Thought: {bench.fitted(ours, thought)}"])
        turns.append(["user", f"Observation: {bench.fitted(ours, sizes.react_step_tokens - thought)}"])
    return turns


def _cached_raw(usages: list[Raw], step: int) -> Raw:
    prompt = sum(usage["prompt_tokens"] for usage in usages[1:])
    kept = sum(usage["cached_tokens"] for usage in usages[1:])
    return {
        "value": usages[step]["time_to_first_token_s"],
        "step": step + 1,
        "share_computed": (prompt - kept) / prompt,
        "prompt_tokens": [usage["prompt_tokens"] for usage in usages],
        "cached_tokens": [usage["cached_tokens"] for usage in usages],
        "first_token_s": [round(usage["time_to_first_token_s"], 4) for usage in usages],
    }


def react_figures(raw: dict[str, list[Raw]]) -> dict[str, float]:
    """Return the share computed from the second step on, and how much sooner the first token comes."""
    figures = spread_figures("react_prompt_share_computed", Spread.of(values(raw[CACHED], "share_computed")))
    figures |= spread_figures("react_first_token_s", Spread.of(values(raw[CACHED])))
    figures |= spread_figures("react_first_token_without_cache_s", Spread.of(values(raw[FRESH])))
    return figures | spread_figures(
        "react_first_token_speedup", ratio(values(raw[FRESH]), values(raw[CACHED]))
    )
