r"""Bytes of tokens in, text that is safe to show out.

Place in the data's way: the engine pushes each token's bytes; what comes back never ends inside a UTF-8
character and never contains the beginning of a stop text.

Example:
    >>> stream = TextStream(stop=("\nQ:",))
    >>> stream.push(b"Paris\n"), stream.push(b"Q: next"), stream.is_stopped
    ('Paris', '', True)
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """Holds back what may still become a character or a stop text.

    Args:
        stop: Texts that end the stream; empty ones are ignored.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = tuple(text for text in stop if text)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._pending = ""
        self.is_stopped = False

    def push(self, piece: bytes) -> str:
        """Take a token's bytes and return the text that can be shown now.

        Once a stop text has appeared, `is_stopped` is True and nothing after it is returned.
        """
        return self._take(self._decoder.decode(piece))

    def finish(self) -> str:
        """Return what was held back, with U+FFFD for a broken character at the end."""
        text = self._take(self._decoder.decode(b"", final=True))
        rest, self._pending = self._pending, ""
        return text + rest

    def _take(self, text: str) -> str:
        if self.is_stopped:
            return ""
        self._pending += text
        found = [i for i in (self._pending.find(stop) for stop in self._stop) if i >= 0]
        if found:
            ready = self._pending[: min(found)]
            self._pending = ""
            self.is_stopped = True
            return ready
        keep = max((self._overlap(stop) for stop in self._stop), default=0)
        cut = len(self._pending) - keep
        ready, self._pending = self._pending[:cut], self._pending[cut:]
        return ready

    def _overlap(self, stop: str) -> int:
        """Return the length of the longest end of the pending text that begins `stop`."""
        for size in range(min(len(stop) - 1, len(self._pending)), 0, -1):
            if self._pending.endswith(stop[:size]):
                return size
        return 0
