"""What a person says to the memory itself: "remember that …" and "forget that …".

Place in the data's way: a message -> `command_of` -> `agents/memory.py`, which obeys at once, without the
model.

Example:
    >>> command_of("Please remember that my name is Ann.")
    MemoryCommand(verb='remember', text='my name is Ann.', is_whole=True, is_plain=True)
    >>> command_of("Do you remember that bridge?") is None
    True
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ...core.sentences import sentence_spans

_POLITE = r"^(?:(?:please|also|and|ok|okay|hey|now|can you|could you|will you)[, ]+)*"
_REMEMBER = re.compile(
    _POLITE + r"(?:remember|note|keep in mind|don'?t forget|memori[sz]e)(?:\s+please)?[, ]*"
    r"(?:\s+(?:that|this)\b\s*:?|:|(?=\s+(?:i|i'm|i've|my|we|we're|our|to)\b))\s*(?P<text>\S.*)$",
    re.IGNORECASE | re.DOTALL,
)
_FORGET = re.compile(
    _POLITE + r"forget(?:\s+(?:that|(?P<loose>(?:what i (?:said|told you) )?about))\b\s*:?"
    r"|:|(?=\s+(?:my|everything)\b))\s*(?P<text>[^\s,.;!?].*)$",
    re.IGNORECASE | re.DOTALL,
)
_EVERYTHING = re.compile(
    r"^(?:everything|all)(?:\s+(?:of it|about me|you know(?: about me)?|i (?:said|told you)))?\W*$",
    re.IGNORECASE,
)
_QUESTION_MARK = re.compile(r"[?？؟]")


@dataclass(frozen=True, slots=True)
class MemoryCommand:
    """A word to the memory.

    Attributes:
        verb: "remember", "forget", or "forget_all".
        text: What to remember or to forget; "" with "forget_all".
        is_whole: Whether the message is nothing else; where it asks something, too, that wants an answer.
        is_plain: Whether it can mean nothing else; "forget about the budget" can.
    """

    verb: Literal["remember", "forget", "forget_all"]
    text: str
    is_whole: bool
    is_plain: bool = True


def command_of(message: str) -> MemoryCommand | None:
    """Return the command that a message begins with, or None."""
    message = message.strip().replace("’", "'")
    spans = sentence_spans(message)
    if not spans:
        return None
    is_whole = not _QUESTION_MARK.search(message)
    first = message if is_whole else message[: spans[0][1]]
    if _QUESTION_MARK.search(first):
        return None
    if found := _REMEMBER.match(first):
        return MemoryCommand("remember", _one_line(found["text"]).removeprefix("to "), is_whole)
    if found := _FORGET.match(first):
        text = _one_line(found["text"])
        is_all = bool(_EVERYTHING.match(text))
        if is_all:
            return MemoryCommand("forget_all", "", is_whole)
        return MemoryCommand("forget", text, is_whole, is_plain=found["loose"] is None)
    return None


def _one_line(text: str) -> str:
    return " ".join(text.split())
