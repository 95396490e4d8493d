"""Tool calls of models that leave the tags away: `{"name": …, "arguments": {…}}` and nothing else.

Place in the data's way: `ChatLocalsmith` reads every completion with tools through a `CallReader`.
Qwen2.5-Coder, for one, often writes the bare object that its template shows between the tags.

Example:
    >>> reader = CallReader({"find"})
    >>> reader.push('{"name": "find", ')
    ('', [])
    >>> reader.push('"arguments": {"query": "x"}}')
    ('', [])
    >>> reader.finish()[1][0].arguments
    '{"query": "x"}'
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Set as AbstractSet
from typing import Any

from .tool_calls import ParsedToolCall, ToolCallStream

_FENCE = re.compile(r"\A```(?:json)?\s*(.*?)\s*(?:```)?\Z", re.DOTALL)
# What a completion that is nothing but a call begins with.
_BEGINNINGS = ("{", "```json", "```\n{")


class CallReader:
    """Tells calls from text, as `ToolCallStream` does, and takes a bare object for a call, too.

    A completion that begins like one is held back until it is whole: it is a call if it names a tool that was
    offered, and text as it stands otherwise.

    Args:
        names: The tools offered.
    """

    def __init__(self, names: AbstractSet[str]) -> None:
        self._names = names
        self._tagged = ToolCallStream()
        self._held = ""
        self._may_be_bare = True

    def push(self, text: str) -> tuple[str, list[ParsedToolCall]]:
        """Take a piece of text; return the text that can be shown now and the calls finished by it."""
        if not self._may_be_bare:
            return self._tagged.push(text)
        self._held += text
        begun = self._held.lstrip()
        if any(begun.startswith(start) or start.startswith(begun) for start in _BEGINNINGS):
            return "", []
        return self._release()

    def finish(self) -> tuple[str, list[ParsedToolCall]]:
        """Return what was held back."""
        if self._may_be_bare and (calls := self._bare_calls()):
            return "", calls
        text, calls = self._release() if self._may_be_bare else ("", [])
        rest, late = self._tagged.finish()
        return text + rest, calls + late

    def _release(self) -> tuple[str, list[ParsedToolCall]]:
        self._may_be_bare = False
        held, self._held = self._held, ""
        return self._tagged.push(held)

    def _bare_calls(self) -> list[ParsedToolCall]:
        """Return the calls that the whole text consists of, one object after the other; none otherwise."""
        text = self._held.strip()
        text = found[1] if (found := _FENCE.match(text)) else text
        calls: list[ParsedToolCall] = []
        position = 0
        while position < len(text):
            try:
                value, position = json.JSONDecoder(strict=False).raw_decode(text, position)
            except (ValueError, RecursionError):
                return []
            if not self._is_call(value):
                return []
            arguments = json.dumps(value["arguments"], ensure_ascii=False)
            calls.append(ParsedToolCall(f"call_{uuid.uuid4().hex[:24]}", value["name"], arguments))
            while text[position : position + 1].isspace():
                position += 1
        return calls

    def _is_call(self, value: Any) -> bool:
        return (
            isinstance(value, dict)
            and set(value) == {"name", "arguments"}
            and isinstance(value["name"], str)
            and value["name"] in self._names
            and isinstance(value["arguments"], dict)
        )
