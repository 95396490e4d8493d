"""The stall workload: how long a stream pauses between two tokens while a long prompt is being read.

Place in the data's way: one of the `workloads`, in a file of its own. The same stream is watched before the
long prompt comes, so the pause is counted in decode steps of the same run.

Example:
    stall(bench).figures["stall_p95_pause_in_decode_steps"]
"""

from __future__ import annotations

from statistics import median

from . import prompts
from .rounds import Raw, Spread, values
from .setup import OURS
from .workloads import WARM_UP, WARM_UP_TOKENS, Bench, Result, spread_figures


def stall(bench: Bench) -> Result:
    """Measure the pauses of a stream beside a prompt of thousands of tokens."""
    sizes = bench.sizes
    with bench.worker(OURS) as ours:

        def run(index: int) -> Raw:
            long = bench.fitted(ours, sizes.stall_prompt_tokens)
            short = f"{bench.fitted(ours, 60)}\n\n{prompts.CLIENT_TASK}"
            answer: Raw = ours.ask("stall", prompt=short, long=long, alone=sizes.stall_alone_tokens)
            return _raw(answer)

        ours.ask("turns", turns=[["user", WARM_UP]], max_tokens=WARM_UP_TOKENS)
        raw = bench.rounds.run("stall", {OURS: run}, "decode steps")
    return Result(raw, stall_figures(raw))


def _raw(answer: Raw) -> Raw:
    step_s = median(answer["alone_s"])
    pauses = sorted(pause / step_s for pause in answer["beside_s"])
    return {
        "value": _at(pauses, 0.95),
        "median": median(pauses),
        "p99": _at(pauses, 0.99),
        "longest": pauses[-1],
        "alone_p95": _at(sorted(pause / step_s for pause in answer["alone_s"]), 0.95),
        "step_s": step_s,
        "num_tokens_beside": len(pauses),
        "reading_s": answer["reading_s"],
    }


def _at(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def stall_figures(raw: dict[str, list[Raw]]) -> dict[str, float]:
    """Return the pauses in decode steps: 95th percentile with its spread, median, longest, and alone."""
    runs = raw[OURS]
    figures = spread_figures("stall_p95_pause_in_decode_steps", Spread.of(values(runs)))
    for name in ("median", "p99", "longest", "alone_p95"):
        figures[f"stall_{name}_pause_in_decode_steps"] = median(run[name] for run in runs)
    figures["stall_reading_s"] = median(run["reading_s"] for run in runs)
    return figures
