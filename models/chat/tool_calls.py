r"""Tool calls in a model's text: found as it streams, and written the way the model writes them.

Place in the data's way: `ChatLocalsmith` and the HTTP server push the text of a generation through a
`ToolCallStream`; what comes back is text to show and whole calls. The form is the one that the chat templates
of Qwen2.5 and Hermes ask for.

Example:
    >>> stream = ToolCallStream()
    >>> stream.push('I look.\n<tool_call>\n{"name": "find", "argu')
    ('I look.', [])
    >>> text, calls = stream.push('ments": {"query": "x"}}\n</tool_call>')
    >>> text, calls[0].name, calls[0].arguments
    ('', 'find', '{"query": "x"}')
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from typing import Any

OPEN, CLOSE = "<tool_call>", "</tool_call>"
# What may still become a call: the beginning of the tag at the end of the text, and white space before it.
_HELD = re.compile(r"\s*(?:" + "|".join(re.escape(OPEN[:size]) for size in range(len(OPEN), 0, -1)) + r")?\Z")


@dataclass(frozen=True, slots=True)
class ParsedToolCall:
    """A call that the model wrote.

    Attributes:
        id: Identifier of the call, "call_…", unique.
        name: The tool's name.
        arguments: The arguments, a JSON object as text.
    """

    id: str
    name: str
    arguments: str


class ToolCallStream:
    """Takes a generation's text in pieces and tells calls from text.

    No part of a `<tool_call>` is given out as text while it may still become a call; one that turns out to be
    malformed is given out as it stands. White space around calls is dropped, but for a line break.
    """

    def __init__(self) -> None:
        self._pending = ""
        self._has_shown = False
        self._has_called = False  # and nothing but white space since

    def push(self, text: str) -> tuple[str, list[ParsedToolCall]]:
        """Take a piece of text; return the text that can be shown now and the calls finished by it."""
        self._pending += text
        return self._take(is_last=False)

    def finish(self) -> tuple[str, list[ParsedToolCall]]:
        """Return what was held back: a call that lacks only its closing tag counts as one."""
        return self._take(is_last=True)

    def _take(self, *, is_last: bool) -> tuple[str, list[ParsedToolCall]]:
        shown = ""
        calls: list[ParsedToolCall] = []
        while (start := self._pending.find(OPEN)) >= 0:
            before, body = self._pending[:start], self._pending[start + len(OPEN) :]
            read = _read_call(body, is_last=is_last)
            if read is None:  # not whole yet
                self._pending = self._pending[len(before.rstrip()) :]
                return shown + self._plain(before.rstrip()), calls
            call, size = read
            if call is None:  # malformed: the tag is text like any other
                shown += self._plain(before + OPEN)
                self._pending = body
                continue
            shown += self._plain(before.rstrip())
            calls.append(call)
            self._has_called = True
            self._pending = body[size:]
        held = 0 if is_last else len(_HELD.search(self._pending)[0])  # type: ignore[index]  # it matches ""
        ready = self._pending[: len(self._pending) - held]
        self._pending = self._pending[len(ready) :]
        return shown + self._plain(ready), calls

    def _plain(self, text: str) -> str:
        if self._has_called and (text := text.lstrip()):
            self._has_called = False
            text = "\n" * self._has_shown + text
        self._has_shown = self._has_shown or bool(text)
        return text


def split_tool_calls(text: str) -> tuple[str, list[ParsedToolCall]]:
    """Return the text without its calls, and the calls."""
    stream = ToolCallStream()
    shown, calls = stream.push(text)
    rest, last = stream.finish()
    return shown + rest, calls + last


def tool_call_text(name: str, arguments: dict[str, Any]) -> str:
    """Return a call as the model writes it, and as `ToolCallStream` reads it."""
    call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"{OPEN}\n{call}\n{CLOSE}"


def _read_call(body: str, *, is_last: bool) -> tuple[ParsedToolCall | None, int] | None:
    """Read what follows `<tool_call>`.

    Returns:
        The call and the length read, (None, 0) where it is malformed, None where more text may complete it.
    """
    end = body.find(CLOSE)
    lead = len(body) - len(body.lstrip())
    if body[lead : lead + 1] not in ("", "{"):
        return None, 0  # seen at once, so that prose about the tag isn't held back for long
    if end < 0 and not is_last:
        return None
    try:
        value, size = json.JSONDecoder(strict=False).raw_decode(body, lead)
    except (json.JSONDecodeError, RecursionError) as exc:
        # Where the closing tag stands inside a string, the object may still go on behind it.
        is_open = isinstance(exc, json.JSONDecodeError) and (
            exc.pos > end or exc.msg.startswith("Unterminated string")
        )
        return None if is_open and not is_last else (None, 0)
    rest = body[size:].lstrip()
    if not rest.startswith(CLOSE) and not (is_last and not rest):
        return None if not is_last and CLOSE.startswith(rest) else (None, 0)
    size = len(body) - len(rest) + (len(CLOSE) if rest else 0)
    return _call_of(value), size if _is_call(value) else 0


def _is_call(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("name"), str)
        and isinstance(value.get("arguments", {}), dict)
    )


def _call_of(value: Any) -> ParsedToolCall | None:
    if not _is_call(value):
        return None
    arguments = json.dumps(value.get("arguments", {}), ensure_ascii=False)
    return ParsedToolCall(f"call_{uuid.uuid4().hex[:24]}", value["name"], arguments)
