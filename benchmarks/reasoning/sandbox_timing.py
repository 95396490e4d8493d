"""How long the sandbox takes: the first program of a process, and those after it.

Place in the data's way: each cold start is a process of its own, started by `measure`, that chooses the
sandbox as the front door does; the last of them goes on with warm runs.

Example: `python -m benchmarks.reasoning.sandbox_timing --warm 50`
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from localsmith.agents.sandbox import choose_sandbox
from localsmith.core.errors import SandboxError
from localsmith.core.settings import load_settings

from .entries import PROBES

NUM_COLD = 7
NUM_WARM = 100
NUM_RESAMPLES = 2000
TIMEOUT_S = 300
PROGRAM = "prices = [3, 4, 5]\nprint(sum(price * 2 for price in prices))"
EXPECTED = "24"


def measure(num_cold: int = NUM_COLD, num_warm: int = NUM_WARM) -> tuple[dict[str, float], str]:
    """Return the figures with their intervals, and the sandbox's name.

    Raises:
        SandboxError: None can run here.
    """
    cold: list[float] = []
    warm: list[float] = []
    name = ""
    for number in range(num_cold):
        timed = _timed(num_warm if number == num_cold - 1 else 0)
        cold.append(timed["cold_s"])
        warm += timed["warm_ms"]
        name = timed["name"]
    warm_name, cold_name = PROBES["sandbox"]
    return {**_median(warm_name, warm), **_median(cold_name, cold)}, name


def _timed(num_warm: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.reasoning.sandbox_timing", "--warm", str(num_warm)]
    root = Path(__file__).resolve().parent.parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise SandboxError(f"The sandbox can't be timed: {done.stderr.strip()[-500:]}")
    timed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return timed


def _median(name: str, values: list[float], seed: int = 7) -> dict[str, float]:
    """Return the median with its 95 % interval by resampling, as `metrics.bootstrap` does for means."""
    sample = np.asarray(values)
    picks = np.random.default_rng(seed).integers(0, len(sample), (NUM_RESAMPLES, len(sample)))
    low, high = np.quantile(np.median(sample[picks], axis=1), [0.025, 0.975])
    return {name: median(values), f"{name}_low": float(low), f"{name}_high": float(high)}


def _run_once() -> None:
    """Time one process: choosing and the first program, then the warm ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--warm", type=int, default=0)
    num_warm = parser.parse_args().warm
    settings = load_settings()
    begun = time.perf_counter()
    sandbox = choose_sandbox(settings.sandbox, settings.sandbox_cache_dir)
    _check(sandbox.run(PROGRAM).stdout)
    cold_s = time.perf_counter() - begun
    warm_ms = []
    for _ in range(num_warm):
        begun = time.perf_counter()
        _check(sandbox.run(PROGRAM).stdout)
        warm_ms.append(1000 * (time.perf_counter() - begun))
    print(json.dumps({"name": sandbox.name, "cold_s": cold_s, "warm_ms": warm_ms}))


def _check(printed: str) -> None:
    if printed.strip() != EXPECTED:
        raise SandboxError(f"The sandbox printed {printed!r}, not {EXPECTED}.")


if __name__ == "__main__":
    _run_once()
