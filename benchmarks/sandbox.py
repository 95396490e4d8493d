"""What the sandbox costs and what it holds: a warm run, a cold start, the suite of hostile programs.

Writes `benchmarks/results/sandbox.json`; figures of the kind that is chosen here have no prefix, those of
bubblewrap beside it begin with `bubblewrap_`, where it runs.

Other work on the machine makes the times longer than the sandbox's own; where it can't be stopped,
`chrt -f 10 python -m benchmarks.sandbox` goes before it, and the results say so.

Example: `python -m benchmarks.sandbox --runs 100`
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from localsmith.agents.sandbox import BubblewrapSandbox, WasmSandbox, compile_module
from localsmith.core.contracts import Sandbox
from localsmith.core.errors import SandboxError
from localsmith.core.settings import load_settings
from localsmith.evaluation.results import write_results

from benchmarks.hostile import Containment, containment

RESULTS = Path(__file__).parent / "results"
LIMIT_S = 1.0
COLD_STARTS = 5
PROGRAM = """
def solution():
    pears, price, paid = 7, 0.45, 10
    return paid - pears * price

print(solution())
"""


def run_once(sandbox: Sandbox) -> float:
    """Return the seconds of one run of a program as PAL writes it."""
    began = time.perf_counter()
    result = sandbox.run(PROGRAM)
    took_s = time.perf_counter() - began
    assert result.stdout == "6.85\n", result
    return took_s


def warm_ms(sandbox: Sandbox, runs: int) -> list[float]:
    """Return the milliseconds of runs one after the other, the first few left out."""
    for _ in range(3):
        run_once(sandbox)
    return [1000 * run_once(sandbox) for _ in range(runs)]


def cold_s(compiled: Path) -> float:
    """Return the seconds from nothing to the first result, once the sandbox has been compiled."""
    with WasmSandbox(compiled, load_settings().sandbox) as sandbox:
        return run_once(sandbox)


def held(prefix: str, found: Containment) -> dict[str, float]:
    """Return the suite's figures."""
    return {
        f"{prefix}hostile_contained": found.contained,
        f"{prefix}hostile_total": found.total,
        f"{prefix}hostile_late_s_max": found.slowest_s,
        f"{prefix}host_memory_growth_mb": found.growth_bytes / 1e6,
        f"{prefix}host_memory_left_mb": found.left_bytes / 1e6,
    }


def measure(runs: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Measure all kinds that run here; return figures and details."""
    settings = load_settings()
    compiled = compile_module(settings.sandbox_cache_dir)
    figures = {"sandbox_cold_s": median(cold_s(compiled) for _ in range(COLD_STARTS))}
    with WasmSandbox(compiled, settings.sandbox) as sandbox:
        times = warm_ms(sandbox, runs)
        figures |= {
            "sandbox_warm_median_ms": median(times),
            "sandbox_warm_p95_ms": quantiles(times, n=20)[-1],
        }
        found = containment(sandbox, limit_s=LIMIT_S)
    figures |= held("", found)
    details: dict[str, Any] = {"ends": found.ends, "escapes": found.escapes}
    details["has_real_time_priority"] = os.sched_getscheduler(0) == os.SCHED_FIFO
    try:
        other = BubblewrapSandbox(settings.sandbox)
    except SandboxError as exc:
        details["bubblewrap"] = str(exc)
        return figures, details
    figures["bubblewrap_median_ms"] = median(warm_ms(other, runs))
    found = containment(other, limit_s=LIMIT_S)
    details["bubblewrap"] = {"ends": found.ends, "escapes": found.escapes}
    return figures | held("bubblewrap_", found), details


def main() -> None:
    """Measure, print, write; fail where a program got out or a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    arguments = parser.parse_args()
    figures, details = measure(arguments.runs)
    for key, value in figures.items():
        print(f"{key:32} {value:12.3f}")
    for line in details["escapes"]:
        print(f"not contained: {line}")
    command = f"python -m benchmarks.sandbox --runs {arguments.runs}"
    write_results(RESULTS / "sandbox.json", figures, command=command, details=details)
    is_well = (
        figures["hostile_contained"] == figures["hostile_total"]
        and figures["host_memory_growth_mb"] < 300
        and figures["sandbox_cold_s"] < 1
        and figures["sandbox_warm_median_ms"] < 50
    )
    sys.exit(0 if is_well else 1)


if __name__ == "__main__":
    main()
