"""Which checkpoints of a run are whole: a marker is written last, so a kill in the middle leaves none.

Place in the data's way: the trainer saves `checkpoint-N` -> `mark` seals it -> a resume asks for `newest`.
Checkpoints without a marker are remains of a kill or of a full disk; `remove_unfinished` clears them away.

Example:
    mark(run.checkpoints_dir / "checkpoint-40")
    newest(run.checkpoints_dir)  # Checkpoint(step=40, path=...)
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import StorageError

MARKER = "COMPLETE"
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that is whole.

    Attributes:
        step: Optimizer steps that it has done.
        path: Its folder.
    """

    step: int
    path: Path


def mark(path: Path) -> None:
    """Seal a checkpoint whose files have all been written.

    Raises:
        StorageError: The disk failed.
    """
    try:
        for file in [child for child in path.rglob("*") if child.is_file()]:
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        with (path / MARKER).open("w", encoding="utf-8") as marker:
            marker.flush()
            os.fsync(marker.fileno())
    except OSError as exc:
        raise StorageError(f"{path} can't be written: {exc.strerror}.", hint="Free some space.") from exc


def complete(folder: Path) -> list[Checkpoint]:
    """Return the whole checkpoints of a run, oldest first."""
    return sorted(
        (Checkpoint(step, path) for step, path in _all(folder) if (path / MARKER).is_file()),
        key=lambda checkpoint: checkpoint.step,
    )


def newest(folder: Path) -> Checkpoint | None:
    """Return the newest whole checkpoint, or None."""
    return next(reversed(complete(folder)), None)


def remove_unfinished(folder: Path) -> None:
    """Remove checkpoints that were not written to their end."""
    for _, path in _all(folder):
        if not (path / MARKER).is_file():
            shutil.rmtree(path, ignore_errors=True)


def _all(folder: Path) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    matches = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir() if path.is_dir())
    return [(int(match[1]), path) for match, path in matches if match]
