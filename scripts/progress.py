"""Runs the slow commands of set-up: their output goes to a log file, a person sees the elapsed time.

Place in the data's way: under `setup.py` and `engine_wheel.py`. Standard library only.

Example:
    >>> run_logged("Nothing", [sys.executable, "-c", ""], Path(os.devnull))
    0
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

_TTY_INTERVAL_S = 1.0
_LOG_INTERVAL_S = 30.0


class SetupError(Exception):
    """Set-up can't go on; the message says what a person has to do."""


def say(text: str) -> None:
    """Write one line for people."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def elapsed(seconds: float) -> str:
    """Return minutes and seconds, for example "3:07"."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def tail(log: Path, num_lines: int = 25) -> str:
    """Return the last lines of a log file."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-num_lines:])


def run_logged(
    title: str, command: list[str], log: Path, env: dict[str, str] | None = None, failed: str = "failed"
) -> int:
    """Run a command and show how long it has been running.

    Args:
        title: What is being done, for people.
        command: Program and arguments.
        log: File that stdout and stderr are appended to.
        env: Variables added to the environment; None for none.
        failed: What to call an exit status other than 0.

    Returns:
        The exit status; negative for the signal that ended it.
    """
    start = time.monotonic()
    is_tty = sys.stdout.isatty()
    interval = _TTY_INTERVAL_S if is_tty else _LOG_INTERVAL_S
    if not is_tty:
        say(f"{title} ...")
    with log.open("a") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=os.environ | (env or {})
        )
        try:
            while True:
                try:
                    status = process.wait(timeout=interval)
                    break
                except subprocess.TimeoutExpired:
                    line = f"{title} ... {elapsed(time.monotonic() - start)}"
                    sys.stdout.write(f"\r{line}" if is_tty else f"{line}\n")
                    sys.stdout.flush()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    back = "\r" if is_tty else ""
    outcome = "done" if status == 0 else failed
    say(f"{back}{title}: {outcome} in {elapsed(time.monotonic() - start)}")
    return status
