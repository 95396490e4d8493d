"""Removed models, kept for a while so that a removal can be undone.

Place in the data's way: `localsmith models remove` -> the trash folder -> `restore`, or deletion after
`TRASH_DAYS` or when the next model is pulled.

Example:
    >>> remove(settings, "smollm2-135m"); restore(settings, "smollm2-135m")  # doctest: +SKIP
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from ...core.errors import ModelNotFoundError
from ...core.settings import Settings
from ...core.whole_file import write_json
from .installed import (
    InstalledModel,
    changing,
    installed_model,
    model_from_json,
    model_to_json,
    read_json,
)

TRASH_DIR = ".trash"
TRASH_DAYS = 7.0


def remove(settings: Settings, name: str) -> InstalledModel:
    """Move a model to the trash, where it stays for `TRASH_DAYS` or until another model is pulled.

    Returns:
        The model removed.

    Raises:
        ModelNotFoundError: It is not installed.
    """
    model = installed_model(settings, name)
    if model.folder.exists():  # else a remove was cut short after the move, and the trash holds the only copy
        purge_trash(settings, names=[name])
    with changing(settings.models_dir) as state:
        bin_ = settings.models_dir / TRASH_DIR / name
        bin_.mkdir(parents=True, exist_ok=True)
        write_json(bin_ / "model.json", model_to_json(model))
        if model.folder.exists():
            os.replace(model.folder, bin_ / "files")
        del state.models[name]
        state.in_use = None if state.in_use == name else state.in_use
    return model


def restore(settings: Settings, name: str) -> InstalledModel:
    """Take a model out of the trash.

    Raises:
        ModelNotFoundError: It is not there.
    """
    bin_ = settings.models_dir / TRASH_DIR / name
    if name not in trashed(settings):
        raise ModelNotFoundError(
            f"Model {name} is not in the trash.", f"Fetch it again: localsmith models pull {name}"
        )
    with changing(settings.models_dir) as state:
        model = model_from_json(read_json(bin_ / "model.json"), settings.models_dir)
        if not model.folder.exists():
            os.replace(bin_ / "files", model.folder)
        state.models[name] = model
    shutil.rmtree(bin_)
    return model


def trashed(settings: Settings) -> list[str]:
    """Return the names of removed models that can be restored."""
    trash = settings.models_dir / TRASH_DIR
    return sorted(bin_.name for bin_ in trash.glob("*") if (bin_ / "files").is_dir())


def purge_trash(settings: Settings, names: list[str] | None = None, older_than_days: float = 0.0) -> None:
    """Delete removed models for good: those named, or all; only those in the trash for so many days."""
    trash = settings.models_dir / TRASH_DIR
    for bin_ in trash.glob("*"):
        if (names is None or bin_.name in names) and _age_days(bin_) >= older_than_days:
            shutil.rmtree(bin_)


def _age_days(path: Path) -> float:
    return (time.time() - path.stat().st_mtime) / 86_400
