"""Nothing heavy happens before it is needed."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

MAX_HELP_S = 0.5
NUM_RUNS = 5


def cpu_seconds(command: list[str]) -> float:
    """Run a command and return the processor time that it and its children took.

    Processor time, not wall time: the promise is about the work done before the words appear, and a busy test
    machine must not change the verdict. With one thread the wall time of a quiet machine is the same or less.
    """
    before = os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    used = (after.children_user, after.children_system, before.children_user, before.children_system)
    return used[0] + used[1] - used[2] - used[3]


def test_help_answers_at_once() -> None:
    program = Path(sys.executable).with_name("localsmith")
    command = str(program) if program.exists() else shutil.which("localsmith")
    assert command, "localsmith is not installed"
    cpu_seconds([command, "--help"])  # the first run compiles the byte code
    times = [cpu_seconds([command, "--help"]) for _ in range(NUM_RUNS)]
    assert statistics.median(times) < MAX_HELP_S, times


def test_importing_the_front_door_is_quick() -> None:
    command = [sys.executable, "-c", "import localsmith"]
    cpu_seconds(command)
    assert statistics.median(cpu_seconds(command) for _ in range(NUM_RUNS)) < MAX_HELP_S
