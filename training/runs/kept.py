"""What the finished stages of a run came to, so that a kill after them does not have them done again.

Place in the data's way: `fine_tune` keeps the figures of each comparison and what it exported -> a resume
takes them from here -> once the run is finished, its state has them all.

Example:
    kept = KeptStages(run.path)
    losses = kept.figures("losses", lambda: comparison.losses(model))
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...core.whole_file import whole_file

KEPT_FILE = "kept.json"


class KeptStages:
    """Keeps JSON values by stage.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / KEPT_FILE

    def read(self, stage: str) -> dict[str, Any] | None:
        """Return what a stage came to; None where it was not finished, or the file is damaged."""
        value = self._all().get(stage)
        return value if isinstance(value, dict) else None

    def keep(self, stage: str, value: Mapping[str, Any]) -> None:
        """Keep what a stage came to, beside the others.

        Raises:
            StorageError: The disk failed.
        """
        content = {**self._all(), stage: dict(value)}
        with whole_file(self._path) as partial:
            partial.write_text(json.dumps(content, indent=1), encoding="utf-8")

    def figures(self, stage: str, compute: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        """Return the figures of a stage: kept ones, or those computed now, which are kept then.

        Raises:
            StorageError: The disk failed.
        """
        kept = self.read(stage)
        if kept is None:
            kept = dict(compute())
            self.keep(stage, kept)
        return kept

    def _all(self) -> dict[str, Any]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}
