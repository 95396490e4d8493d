"""An event that is set by itself or by another one.

Place in the data's way: a run stops when the person's event is set, or when nobody reads its events any more;
the second must not set the person's event, which may belong to several runs.

Example:
    >>> asked = threading.Event()
    >>> stop = LinkedEvent(asked)
    >>> asked.set()
    >>> stop.is_set()
    True
"""

from __future__ import annotations

import threading
import time

_POLL_S = 0.02


class LinkedEvent(threading.Event):
    """An event that also counts as set while another is."""

    def __init__(self, other: threading.Event | None) -> None:
        """Link to another event; None for none."""
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        """Whether this or the other event is set."""
        return super().is_set() or (self._other is not None and self._other.is_set())

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until one of them is set, at most `timeout` seconds; return whether one is."""
        ends = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left_s = _POLL_S if ends is None else min(_POLL_S, ends - time.monotonic())
            if left_s <= 0 or super().wait(left_s):
                break
        return self.is_set()
