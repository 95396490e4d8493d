"""Parts that take seconds to load, loaded on their own threads, with a state that can be shown.

Place in the data's way: the front door starts one `Part` for the model and one for the embedder; the chat
page shows their states; the first question waits for both.

Example:
    >>> part = Part("model", lambda report: 42)
    >>> part.start(); part.result()
    42
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

import structlog

from .core.errors import LocalsmithError, ModelLoadError

log = structlog.get_logger(__name__)
T = TypeVar("T")
Report = Callable[[float | None, str], None]
"""Called with the share done, 0 to 1 or None, and a few words."""


@dataclass(frozen=True, slots=True)
class LoadingState:
    """How far a part is.

    Attributes:
        name: The part, "model" or "embedder".
        state: Where it stands.
        progress: Share done, 0 to 1; None where unknown.
        detail: A few words for people, or ""; of a model that is ready, what becomes of its replacement.
        error: Why it failed; None where it did not.
        elapsed_s: Seconds since its start, until it ended.
        is_replacing: Whether it was ready before: questions that come while it loads are answered then.
    """

    name: str
    state: Literal["idle", "loading", "ready", "failed"] = "idle"
    progress: float | None = None
    detail: str = ""
    error: LocalsmithError | None = None
    elapsed_s: float = 0.0
    is_replacing: bool = False


class Part(Generic[T]):
    """One value that a background thread makes, once; after a failure `start` tries again.

    Args:
        name: Its name.
        make: Makes the value; gets a function to report progress with.
    """

    def __init__(self, name: str, make: Callable[[Report], T]) -> None:
        self._make = make
        self._state = LoadingState(name)
        self._began = 0.0
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._value: T | None = None

    @property
    def state(self) -> LoadingState:
        """How far it is now."""
        state = self._state
        if state.state == "loading":
            return replace(state, elapsed_s=time.monotonic() - self._began)
        return state

    def start(self) -> None:
        """Begin, unless it runs or is ready."""
        with self._lock:
            if self._state.state in ("loading", "ready"):
                return
            self._done.clear()
            self._began = time.monotonic()
            self._state = LoadingState(self._state.name, "loading")
        threading.Thread(target=self._run, name=f"localsmith-load-{self._state.name}", daemon=True).start()

    def result(self) -> T:
        """Wait for the value; starts it where it was not started.

        Raises:
            LocalsmithError: It failed; the same error for everyone who waited.
        """
        if self._state.state == "idle":
            self.start()
        self._done.wait()
        if self._state.error is not None:
            raise self._state.error
        assert self._value is not None
        return self._value

    def _run(self) -> None:
        try:
            self._value = self._make(self._report)
            self._end("ready", None)
        except LocalsmithError as exc:
            self._end("failed", exc)
        except Exception as exc:  # noqa: BLE001 - whatever fails must reach those who wait
            log.exception("loading failed", part=self._state.name)
            error = ModelLoadError(f"The {self._state.name} could not be loaded: {exc}", hint="See the log.")
            self._end("failed", error)

    def _report(self, progress: float | None, detail: str) -> None:
        self._state = replace(self._state, progress=progress, detail=detail)

    def _end(self, state: Literal["ready", "failed"], error: LocalsmithError | None) -> None:
        elapsed_s = time.monotonic() - self._began
        self._state = replace(self._state, state=state, detail="", error=error, elapsed_s=elapsed_s)
        self._done.set()
