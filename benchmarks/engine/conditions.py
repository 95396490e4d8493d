"""Whether the machine is quiet enough to measure on, and what else ran while we did.

Place in the data's way: `__main__` refuses a busy machine before it starts; `rounds` notes the processor time
that other programs took during each run; `report` writes it down.

Example:
    with ForeignLoad() as load:
        run()
    print(load.cores)
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from typing import Any

import psutil

QUIET_CORES = 0.15
"""Processor time of other programs, in cores, from which on the figures are not worth having."""
_LOOK_S = 3.0
_IDLE_CORES = 0.05
_IDLE_TIMEOUT_S = 180.0


class ForeignLoad:
    """Measures, from enter to exit, how many cores other programs kept busy.

    Attributes:
        cores: Their processor time over the wall time; 0 for none.
    """

    def __init__(self) -> None:
        self.cores = 0.0

    def __enter__(self) -> ForeignLoad:
        """Begin."""
        self._begun = (time.monotonic(), _busy_s(), own_cpu_s())
        return self

    def __exit__(self, *_: object) -> None:
        """Compare."""
        wall, busy, own = self._begun
        foreign = (_busy_s() - busy) - (own_cpu_s() - own)
        self.cores = max(0.0, foreign / max(time.monotonic() - wall, 1e-9))


def foreign_cores_now() -> float:
    """Return how many cores other programs use, watched for three seconds."""
    with ForeignLoad() as load:
        time.sleep(_LOOK_S)
    return load.cores


def own_cpu_s() -> float:
    """Return the processor seconds of this process and all below it, dead children included."""
    me = psutil.Process()
    total = 0.0
    for process in [me, *me.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def wait_until_idle(name: str, pid: int, timeout_s: float = _IDLE_TIMEOUT_S) -> None:
    """Wait until a started server has come to rest.

    Raises:
        TimeoutError: It goes on using the processor, so that it can't stay up beside the others.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        before = _tree_cpu_s(pid)
        time.sleep(1.0)
        if _tree_cpu_s(pid) - before < _IDLE_CORES:
            return
    raise TimeoutError(f"{name} uses the processor although nobody asks it anything.")


def versions() -> dict[str, str]:
    """Return the versions that decide speed."""
    named = ("llama-cpp-python", "localsmith", "numpy", "httpx", "uvicorn", "fastapi")
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in named:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def state_now() -> dict[str, Any]:
    """Return load average and free memory, for the record."""
    return {
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "available_gib": round(psutil.virtual_memory().available / 2**30, 1),
    }


def _busy_s() -> float:
    times = psutil.cpu_times()
    # Linux counts a guest's time in `user` too, and waiting for a disk is no work.
    not_busy = sum(getattr(times, name, 0.0) for name in ("idle", "iowait", "guest", "guest_nice"))
    return float(sum(times) - not_busy)


def _tree_cpu_s(pid: int) -> float:
    total = 0.0
    try:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            times = process.cpu_times()
            total += times.user + times.system
    except psutil.NoSuchProcess:
        return total
    return total
