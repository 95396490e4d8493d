"""Which process works on a run, so that another one can tell whether it lives, and ask it to stop.

Place in the data's way: whoever takes a `RunFolder` writes itself down; who starts a process for it writes it
down before that process has come so far -> the page tells "starting" from "gone", and sends the signal that
Ctrl-C sends. The lock, not this note, decides who may train.

Example:
    note_holder(run.path, os.getpid())
    read_holder(run.path).is_alive  # True
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import TrainingError
from ...core.whole_file import write_json

HOLDER_FILE = "holder.json"


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that works on a run, or did.

    Attributes:
        pid: Its id.
        created_at: When it was started, in seconds since the epoch; tells it from a later one of this id.
        is_stopping: Whether it was asked to stop.
    """

    pid: int
    created_at: float
    is_stopping: bool = False

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        import psutil

        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.created_at) < 1.0
            return is_same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


def note_holder(folder: Path, pid: int) -> None:
    """Write down that a process of this machine works on a run; nothing where it has ended already.

    Raises:
        StorageError: The disk failed.
    """
    import psutil

    with contextlib.suppress(psutil.Error):
        _write(folder, Holder(pid, psutil.Process(pid).create_time()))


def read_holder(folder: Path) -> Holder | None:
    """Return the process that was written down last and has not ended in order; None for none."""
    try:
        return Holder(**json.loads((folder / HOLDER_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def forget_holder(folder: Path) -> None:
    """Take the note away, once the process has let the run go."""
    (folder / HOLDER_FILE).unlink(missing_ok=True)


def interrupt_holder(folder: Path) -> None:
    """Ask the process to stop after the step at hand; asked again, it stops at once.

    It is what Ctrl-C does in a terminal; see `localsmith train`.

    Raises:
        TrainingError: No process works on the run.
    """
    import psutil

    holder = read_holder(folder)
    if holder is None or not holder.is_alive:
        raise TrainingError(f"No process is training {folder.name}.", hint="It has ended already.")
    _write(folder, dataclasses.replace(holder, is_stopping=True))
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(holder.pid).send_signal(signal.SIGINT)


def _write(folder: Path, holder: Holder) -> None:
    write_json(folder / HOLDER_FILE, dataclasses.asdict(holder))
