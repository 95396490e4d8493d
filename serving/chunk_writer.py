"""The pieces of a stream as server-sent events; what is the same in all of them is encoded once.

Place in the data's way: `ChatForm` and `CompletionForm` write every piece through one of these.

Example:
    writer = ChunkWriter({"id": "cmpl-1", "model": "m"}, "text", num_choices=1, has_usage=False)
    writer.chunk(0, dumps("Hello"))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .json_bytes import dumps


class ChunkWriter:
    """Writes chunks of one response.

    Args:
        head: The fields that every chunk begins with.
        content_field: The choice's field for what is new, "delta" or "text".
        num_choices: Choices of the response.
        has_usage: Whether the stream ends with the usage; the field is null until then.
    """

    def __init__(
        self, head: Mapping[str, Any], content_field: str, *, num_choices: int, has_usage: bool
    ) -> None:
        opening = b"data: " + dumps(head)[:-1] + b',"choices":['
        field = dumps(content_field)
        self._starts = [opening + b'{"index":%d,%b:' % (i, field) for i in range(num_choices)]
        self._usage_start = opening + b'],"usage":'
        self._has_usage = has_usage
        self._close = b',"usage":null}\n\n' if has_usage else b"}\n\n"

    def chunk(
        self,
        index: int,
        content: bytes,
        logprobs: bytes = b"null",
        reason: bytes = b"null",
        extension: bytes = b"",
    ) -> bytes:
        """Return one event.

        Args:
            index: The choice.
            content: What is new in it, JSON.
            logprobs: Log-probabilities of what is new, JSON.
            reason: Why the choice ends, JSON.
            extension: The field `localsmith`, JSON; empty for none.
        """
        choice = self._starts[index] + content + b',"logprobs":' + logprobs + b',"finish_reason":' + reason
        if extension:
            return choice + b'}],"localsmith":' + extension + self._close
        return choice + b"}]" + self._close

    def end(self, usage: Mapping[str, Any]) -> bytes:
        """Return the event with the usage, where the client asked for it."""
        return self._usage_start + dumps(usage) + b"}\n\n" if self._has_usage else b""
