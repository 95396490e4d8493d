"""One thread for what nobody should wait for: jobs one after the other, each kind at most once in the queue.

Place in the data's way: `agents/memory.py` puts summaries and the noticing of facts here after an answer.

Example:
    >>> background, seen = Background("memory"), []
    >>> background.submit("a", lambda: seen.append(1))
    >>> background.wait(5.0), seen
    (True, [1])
    >>> background.close()
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from ...core.errors import LocalsmithError

_log = structlog.get_logger(__name__)

IDLE_S = 30.0
CLOSE_TIMEOUT_S = 5.0


class Background:
    """A queue with one daemon thread, which ends when there has been nothing to do for a while."""

    def __init__(self, name: str) -> None:
        """Start with nothing; the thread starts with the first job.

        Args:
            name: Name of the thread.
        """
        self._name = name
        self._changed = threading.Condition()
        self._jobs: dict[str, Callable[[], object]] = {}
        self._thread: threading.Thread | None = None
        self._is_busy = False
        self._is_closed = False

    def submit(self, key: str, job: Callable[[], object]) -> None:
        """Put a job at the end of the queue, in the place of one of the same key; none once closed.

        An error in it goes to the log.
        """
        with self._changed:
            if self._is_closed:
                return
            self._jobs.pop(key, None)
            self._jobs[key] = job
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait until everything is done; return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs and not self._is_busy, timeout_s)

    def close(self) -> None:
        """Drop what waits, and wait for the job in hand."""
        with self._changed:
            self._is_closed = True
            self._jobs.clear()
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSE_TIMEOUT_S)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                job()
            except LocalsmithError as error:
                _log.warning("background_job_failed", thread=self._name, error=str(error))
            except Exception as error:  # noqa: BLE001 - the last frame of a thread: logged in full
                _log.error("background_job_crashed", thread=self._name, exc_info=error)
            finally:
                with self._changed:
                    self._is_busy = False
                    self._changed.notify_all()

    def _next(self) -> Callable[[], object] | None:
        """Return the next job; None to end the thread."""
        idle_until = time.monotonic() + IDLE_S
        with self._changed:
            while not self._jobs and not self._is_closed:
                left_s = idle_until - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    break
            if not self._jobs:
                self._thread = None
                return None
            self._is_busy = True
            return self._jobs.pop(next(iter(self._jobs)))
