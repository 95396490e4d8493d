"""What the sources of model files share: how they report progress, stop, and say why they failed.

Place in the data's way: `pull` gives each source a `Transfer` -> the source (`hub_source`, `package_source`)
writes the files and tells the transfer how many bytes are there -> the person sees rate and ETA.

Example:
    >>> transfer = Transfer(1000, "hub:owner/repo")
    >>> transfer.update(250)
    >>> transfer.done_bytes
    250
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ...core.errors import ModelDownloadError

_REPORT_EVERY_S = 0.1
_RATE_WINDOW_S = 5.0


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far a pull has come.

    Attributes:
        stage: "waiting" for another process that pulls the same model, "downloading" or "verifying".
        source: Where the bytes come from.
        done_bytes: Bytes there, those of an earlier try included.
        total_bytes: Bytes in all.
        bytes_per_s: Rate over the last seconds; 0 where unknown.
        eta_s: Expected seconds left; None where unknown.
    """

    stage: Literal["waiting", "downloading", "verifying"]
    source: str
    done_bytes: int
    total_bytes: int
    bytes_per_s: float
    eta_s: float | None


OnPullProgress: TypeAlias = Callable[[PullProgress], None]


class PullCancelled(ModelDownloadError):
    """The person stopped the pull; what has arrived is kept."""


class SourceFailed(Exception):
    """One source could not deliver, with the cause in words for people; the next is tried."""


class Transfer:
    """One source's delivery of one model: counts bytes, reports them, stops when asked to.

    Thread-safe: the parts of a model may come on several threads.
    """

    def __init__(
        self,
        total_bytes: int,
        source: str,
        on_progress: OnPullProgress | None = None,
        cancel: threading.Event | None = None,
    ) -> None:
        """Start counting at zero.

        Args:
            total_bytes: Size of all files.
            source: Name of the source, for people.
            on_progress: Called at most ten times a second.
            cancel: Setting it stops the transfer.
        """
        self.total_bytes = total_bytes
        self.done_bytes = 0
        self._source = source
        self._on_progress = on_progress
        self._cancel = cancel or threading.Event()
        self._samples: deque[tuple[float, int]] = deque()
        self._reported_at = 0.0
        self._lock = threading.Lock()

    def check(self) -> None:
        """Stop here if the person asked to.

        Raises:
            PullCancelled: They did.
        """
        if self._cancel.is_set():
            raise PullCancelled("Stopped.", "Run the same command again: it goes on where it stopped.")

    def sleep(self, seconds: float) -> None:
        """Wait, but not longer than until the person stops the pull.

        Raises:
            PullCancelled: They did.
        """
        self._cancel.wait(seconds)
        self.check()

    def update(self, done_bytes: int) -> None:
        """Say how many bytes are there now; fewer than before are not believed, see `rewind`.

        Raises:
            PullCancelled: The person stopped the pull.
        """
        self.check()
        with self._lock:
            now = time.monotonic()
            self.done_bytes = min(max(done_bytes, self.done_bytes), self.total_bytes)
            self._samples.append((now, self.done_bytes))
            while self._samples[0][0] < now - _RATE_WINDOW_S and len(self._samples) > 2:
                self._samples.popleft()
            if now - self._reported_at < _REPORT_EVERY_S and self.done_bytes < self.total_bytes:
                return
            self._reported_at = now
            progress = self._progress("downloading")
        if self._on_progress is not None:
            self._on_progress(progress)

    def rewind(self, done_bytes: int) -> None:
        """Say that bytes which had arrived must come again."""
        with self._lock:
            self.done_bytes = done_bytes
            self._samples.clear()

    def report(self, stage: Literal["waiting", "verifying"]) -> None:
        """Say that no bytes come now, and why.

        Raises:
            PullCancelled: The person stopped the pull.
        """
        self.check()
        if self._on_progress is not None:
            self._on_progress(self._progress(stage))

    def _progress(self, stage: Literal["waiting", "downloading", "verifying"]) -> PullProgress:
        rate = self._rate() if stage == "downloading" else 0.0
        eta_s = (self.total_bytes - self.done_bytes) / rate if rate > 0 else None
        return PullProgress(stage, self._source, self.done_bytes, self.total_bytes, rate, eta_s)

    def _rate(self) -> float:
        (began, first), (ended, last) = self._samples[0], self._samples[-1]
        return max(0.0, (last - first) / (ended - began)) if ended > began else 0.0
