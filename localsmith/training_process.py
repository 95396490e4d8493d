"""Training in a process of its own, which outlives the page, the browser and the chat's server.

Place in the data's way: the Training page -> `start_training` -> `localsmith train resume RUN`, detached;
what it says goes into the run's folder -> the page reads the folder. It is stopped by what Ctrl-C sends.

It gets a lower priority, so that the chat on the same processor stays usable while it trains.

Example:
    run = RunFolder.create(settings.runs_dir, "sft", plan.to_json(), "mine")
    start_training(settings, run)
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from .core.errors import StorageError, TrainingError
from .core.settings import HOME_VARIABLE, Settings

if TYPE_CHECKING:
    from pathlib import Path

    from .training.runs.run_folder import RunFolder

LOG_FILE = "training.log"
NICENESS = 10
"""Beside a thread of the chat, one of this niceness gets a tenth of a busy core (Linux: 110 to 1024)."""
_LOG_CHARS = 4000


def start_training(settings: Settings, run: RunFolder) -> int:
    """Go on with a run in a process that nobody has to wait for; return its id.

    Args:
        settings: Whose data folder the process is to use; it reads the rest from where this process did.
        run: The run; nobody may be training it.

    Raises:
        TrainingError: It is being trained, or is finished.
        StorageError: The folder can't be written.
    """
    from .training.runs.holder import note_holder

    if is_worked_on(run.path):
        raise TrainingError(f"The run {run.run_id} is being trained already.", hint="Look at its progress.")
    if run.state.status == "finished":
        raise TrainingError(f"The run {run.run_id} is finished.", hint="Start a new one.")
    command = [sys.executable, "-m", "localsmith.cli", "train", "resume", run.run_id]
    run.stages.clear()
    try:
        with (run.path / LOG_FILE).open("ab") as log:
            process = subprocess.Popen(
                lowered(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, HOME_VARIABLE: str(settings.home), "COLUMNS": "100"},
                start_new_session=True,  # the end of this process or its terminal is not that one's end
            )
    except OSError as exc:
        raise StorageError(f"The training of {run.run_id} can't be started: {exc.strerror}.") from exc
    note_holder(run.path, process.pid)
    # Somebody has to ask for the exit status, or the ended process stays in the system's table.
    threading.Thread(target=process.wait, name=f"training-{run.run_id}", daemon=True).start()
    return process.pid


def is_worked_on(folder: Path) -> bool:
    """Return whether a process trains this run, or is about to."""
    from .training.runs.holder import read_holder

    holder = read_holder(folder)
    return holder is not None and holder.is_alive


def log_tail(folder: Path) -> str:
    """Return the end of what the process has said; "" where it has said nothing."""
    try:
        text = (folder / LOG_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text[-_LOG_CHARS:].strip()


def lowered(command: list[str]) -> list[str]:
    """Return the command with a lower priority, where the system has the means."""
    nice = shutil.which("nice")
    return [nice, "-n", str(NICENESS), *command] if nice else command
