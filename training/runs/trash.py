"""Deleted runs, kept for a while so that deleting can be undone.

Place in the data's way: a page deletes a run -> it lies in `.trash` beside the others -> `restore_run`, or it
is gone for good after some days.

Example:
    discard_run(open_run(settings.runs_dir, "mine"))
    restore_run(settings.runs_dir, "mine")
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from ...core.errors import StorageError, TrainingError
from .holder import forget_holder
from .run_folder import CONFIG_FILE, RunFolder

TRASH_DIR = ".trash"


def discard_run(run: RunFolder) -> None:
    """Move a run to the trash; an earlier one of this name there is gone for good.

    Raises:
        TrainingError: It is being trained.
        StorageError: The folder can't be moved.
    """
    bin_ = run.path.parent / TRASH_DIR / run.run_id
    with run:
        try:
            bin_.parent.mkdir(exist_ok=True)
            shutil.rmtree(bin_, ignore_errors=True)
            forget_holder(run.path)  # this process is no trainer
            os.replace(run.path, bin_)
            os.utime(bin_)
        except OSError as exc:
            raise StorageError(f"{run.path} can't be deleted: {exc.strerror}.") from exc


def restore_run(runs_dir: Path, run_id: str) -> RunFolder:
    """Take a run out of the trash.

    Raises:
        TrainingError: It is not there, or another run has its name by now.
    """
    path, bin_ = runs_dir / run_id, runs_dir / TRASH_DIR / run_id
    if run_id not in discarded_runs(runs_dir):
        raise TrainingError(f"There is no deleted run {run_id}.")
    if path.exists():
        raise TrainingError(f"There is a run named {run_id} by now.", hint="Delete that one first.")
    os.replace(bin_, path)
    return RunFolder(path)


def discarded_runs(runs_dir: Path) -> list[str]:
    """Return the names of deleted runs that can be restored."""
    return sorted(bin_.name for bin_ in (runs_dir / TRASH_DIR).glob("*") if (bin_ / CONFIG_FILE).is_file())


def purge_discarded(runs_dir: Path, older_than_days: float) -> None:
    """Delete the runs for good that have lain in the trash for so many days."""
    for bin_ in (runs_dir / TRASH_DIR).glob("*"):
        if time.time() - bin_.stat().st_mtime >= older_than_days * 86_400:
            shutil.rmtree(bin_, ignore_errors=True)
