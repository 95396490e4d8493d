"""What a run is doing at this moment, on disk: so that whoever looks need not be the one who started it.

Place in the data's way: `fine_tune` notes each stage beside telling its caller -> pages read it in any other
process, and tell the time left.

Example:
    run.stages.note("training", 10, 240, "loss 2.310")
    run.stages.read()  # Stage(name='training', done=10, total=240, ...)
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import StorageError
from ...core.whole_file import whole_file

# More would write to the disk for nobody: a page looks about once a second.
_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a run's work.

    Attributes:
        name: What is done, for people, such as "training".
        done: How much of it.
        total: In all; 0 where unknown.
        words: A few more words for people.
        begun_at: When it began, in seconds since the epoch.
        updated_at: When this was noted, in seconds since the epoch.
    """

    name: str
    done: int
    total: int
    words: str
    begun_at: float
    updated_at: float

    @property
    def eta_s(self) -> float | None:
        """Seconds that are left at the pace so far; None before there is one."""
        if not 0 < self.done <= self.total:
            return None
        return (self.updated_at - self.begun_at) * (self.total - self.done) / self.done


class StageFile:
    """Keeps the stage at hand.

    Args:
        path: The file; it is made at the first note.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: Stage | None = None

    def note(self, name: str, done: int, total: int, words: str) -> None:
        """Keep how far a stage is; what comes within half a second of another note is left out."""
        now, last = time.time(), self._last
        is_new = last is None or last.name != name
        if last and not is_new and done < total and now - last.updated_at < _EVERY_S:
            return
        self._last = Stage(name, done, total, words, last.begun_at if last and not is_new else now, now)
        # A note that can't be kept must not end the run.
        with contextlib.suppress(StorageError), whole_file(self._path) as partial:
            partial.write_text(json.dumps(dataclasses.asdict(self._last)), encoding="utf-8")

    def clear(self) -> None:
        """Forget the stage: what an earlier process has noted says nothing of the next."""
        self._path.unlink(missing_ok=True)
        self._last = None

    def read(self) -> Stage | None:
        """Return the stage that was noted last; None before the first."""
        try:
            return Stage(**json.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
