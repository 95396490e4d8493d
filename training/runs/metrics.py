"""The numbers of a run over its steps: one JSON object a line, appended while it trains.

Place in the data's way: the trainer's callback appends -> pages and commands read, also while it goes on. A
line cut off by a kill is left out; after a resume the lines of steps that were lost are dropped.

Example:
    metrics.append(10, {"loss": 2.31, "tokens_per_s": 410.0})
    metrics.series("loss")  # [(10, 2.31)]
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import StorageError
from ...core.whole_file import whole_file


@dataclass(frozen=True, slots=True)
class MetricsLine:
    """What was logged after one optimizer step.

    Attributes:
        step: Optimizer steps done, from 1.
        time: Seconds since the epoch.
        values: The numbers by name.
    """

    step: int
    time: float
    values: Mapping[str, float]


class MetricsFile:
    """Reads and appends a run's metrics.

    Args:
        path: The file; it is made at the first line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, step: int, values: Mapping[str, float]) -> None:
        """Add a line.

        Raises:
            StorageError: The disk is full or broken.
        """
        line = json.dumps({"step": step, "time": time.time(), "values": dict(values)})
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as exc:
            raise StorageError(f"{self._path} can't be written: {exc.strerror}.", "Free some space.") from exc

    def lines(self) -> list[MetricsLine]:
        """Return what was logged, in order; a line that was cut off is left out."""
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        found = []
        for line in text.splitlines():
            try:
                raw = json.loads(line)
                found.append(MetricsLine(int(raw["step"]), float(raw["time"]), dict(raw["values"])))
            except (ValueError, KeyError, TypeError):
                continue
        return found

    def series(self, name: str) -> list[tuple[int, float]]:
        """Return (step, value) of one number, in order."""
        return [(line.step, line.values[name]) for line in self.lines() if name in line.values]

    def drop_after(self, step: int) -> None:
        """Drop the lines of later steps: those that a resume does again.

        Raises:
            StorageError: The file can't be written.
        """
        kept = [line for line in self.lines() if line.step <= step]
        raw = [{"step": line.step, "time": line.time, "values": dict(line.values)} for line in kept]
        with whole_file(self._path) as partial:
            partial.write_text("".join(json.dumps(line) + "\n" for line in raw), encoding="utf-8")
