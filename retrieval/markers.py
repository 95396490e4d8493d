"""The `[n]` that a model writes behind its statements: read, cleaned and corrected while they stream.

Place in the data's way: completion -> `MarkerStream` (numbers that name no passage never reach the person,
wrong ones are corrected) -> the answer's text, whose numbers `citations.check` looks at.

Example:
    >>> [piece.numbers for piece in parse("Paris [1, 2]. Lyon [3].") if piece.numbers]
    [(1, 2), (3,)]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..core.sentences import sentence_spans
from .words import content_words

_MARKER = re.compile(r"\[\s*(?:passages?\s+)?(\d{1,4}(?:\s*[,;]\s*\d{1,4})*)\s*\]", re.IGNORECASE)
# Small models write "(2)" for "[2]" at the end of a line.
_ROUND_MARKER = re.compile(r"(?<=\S )\((\d{1,2})\)(?=[.,;!?]?[ \t]*(?:\n|\Z))")
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)
# What may still become a marker when more text comes, with the white space before it. Behind a round one
# may stand square ones that are taken out, which leaves it at the end of its line.
_OPEN_SQUARE = r"\[\s*(?:p[a-z]{0,7}\s*)?[\d,;\s]{0,40}\Z"
_OPENED = re.compile(_OPEN_SQUARE, re.IGNORECASE)
_OPEN_MARKER = re.compile(
    rf"\s*{_OPEN_SQUARE}"
    r"|\s*\(\d{0,2}(?:\)(?:[.,;!? \t]|\[[^\[\]\n]{0,48}\])*)?\s*\Z"
    r"|\s+\Z",
    re.IGNORECASE,
)
Correct = Callable[[str, int], int]
"""Called with a claim and the number written behind it; returns the number to show."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of an answer: plain text, or one marker.

    Attributes:
        text: As written; the pieces joined are the answer.
        numbers: Numbers that the marker names; empty for plain text.
    """

    text: str
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Cleaned:
    """An answer whose numbers all name passages.

    Attributes:
        text: The answer, every marker written `[n]` or `[n, m]`.
        removed: The numbers taken out, for they name no passage.
        corrected: For every number left, in order of appearance, whether it stands in place of what the
            model wrote.
    """

    text: str
    removed: tuple[int, ...]
    corrected: tuple[bool, ...]


def parse(text: str) -> list[Piece]:
    """Split an answer into plain text and markers; markers inside code are plain text."""
    code = [match.span() for match in _CODE.finditer(text)]
    pieces = []
    end = 0
    for match in _MARKER.finditer(text):
        if any(start <= match.start() < stop for start, stop in code):
            continue
        if _OPENED.search(text, max(end, match.start() - 50), match.start()):
            continue  # brackets within brackets, as in "[0[1]]": no marker, whatever becomes of the inner one
        if match.start() > end:
            pieces.append(Piece(text[end : match.start()]))
        found = tuple(int(number) for number in re.findall(r"\d+", match.group(1)))
        pieces.append(Piece(match.group(), found))
        end = match.end()
    if end < len(text):
        pieces.append(Piece(text[end:]))
    return pieces


def strip_markers(text: str) -> str:
    """Return the text without its markers and without the space before each."""
    kept: list[str] = []
    for piece in parse(text):
        if piece.numbers and kept:
            kept[-1] = kept[-1].rstrip(" ")
        elif not piece.numbers:
            kept.append(piece.text)
    return "".join(kept)


def clean(text: str, num_passages: int, correct: Correct | None = None) -> Cleaned:
    """Take out the numbers that name no passage, and correct the others.

    Args:
        text: An answer.
        num_passages: Passages that the model read.
        correct: Says which number to show; None to leave them.
    """
    named, removed = _with_known_numbers(text, num_passages)
    kept: list[str] = []
    corrected: list[bool] = []
    for piece in parse(_with_square_markers(named, num_passages)):
        if not piece.numbers:
            kept.append(piece.text)
            continue
        shown = _corrected(piece.numbers, "".join(kept), correct)
        kept.append(f"[{', '.join(map(str, shown))}]")
        corrected += shown.values()
    return Cleaned("".join(kept), removed, tuple(corrected))


def _with_known_numbers(text: str, num_passages: int) -> tuple[str, tuple[int, ...]]:
    """Return the text without the numbers that name no passage, and these."""
    kept: list[str] = []
    removed: list[int] = []
    for piece in parse(text):
        good = [number for number in piece.numbers if 1 <= number <= num_passages]
        removed += [number for number in piece.numbers if number not in good]
        if not piece.numbers:
            kept.append(piece.text)
        elif good:
            kept.append(f"[{', '.join(map(str, good))}]")
        elif kept:
            kept[-1] = kept[-1].rstrip(" ")
    return "".join(kept), tuple(removed)


def _corrected(written: Sequence[int], before: str, correct: Correct | None) -> dict[int, bool]:
    """Return the numbers to show for a marker, each with whether the model wrote another in its place."""
    claim = _last_claim(before) if correct is not None else ""
    shown: dict[int, bool] = {}
    for number in written:
        right = number if correct is None else correct(claim, number)
        shown[right] = shown.get(right, True) and right != number
    return shown


class MarkerStream:
    """Cleans an answer while it is streamed: the pieces that come out, joined, are the cleaned answer.

    Attributes:
        removed: Numbers taken out so far.
        corrected: As in `Cleaned`, of the numbers shown so far.
    """

    def __init__(self, num_passages: int, correct: Correct | None = None) -> None:
        """Start an empty stream.

        Args:
            num_passages: Passages that the model read.
            correct: Says which number to show; None to leave them.
        """
        self._num_passages = num_passages
        self._correct = correct
        self._text = ""
        self._sent = 0
        self.removed: tuple[int, ...] = ()
        self.corrected: tuple[bool, ...] = ()

    def feed(self, text: str) -> str:
        """Take what the model wrote and return what can be shown; a marker is held back until it is whole."""
        self._text += text
        return self._send(self._text[: _held_from(self._text)])

    def close(self) -> str:
        """Return what is left, without white space at the end."""
        return self._send(self._text.rstrip())

    def _send(self, ready: str) -> str:
        all_of_it = clean(ready.lstrip(), self._num_passages, self._correct)
        self.removed, self.corrected = all_of_it.removed, all_of_it.corrected
        cleaned = all_of_it.text.rstrip()
        fresh = cleaned[self._sent :]
        self._sent = max(self._sent, len(cleaned))
        return fresh


def _held_from(text: str) -> int:
    """Return where the part begins whose meaning depends on what comes next: an open marker or open code."""
    code_end = max((match.end() for match in _CODE.finditer(text)), default=0)
    tick = text.find("`", max(code_end, text.rfind("\n") + 1))
    end = len(text) if tick < 0 else tick
    while held := _OPEN_MARKER.search(text[:end]):  # what stands before an open part may be open too
        if held.start() == end:
            break
        end = held.start()
    return end


def _with_square_markers(text: str, num_passages: int) -> str:
    """Write `(n)` at the end of a line as `[n]` where it names a passage, outside code."""
    code = [match.span() for match in _CODE.finditer(text)]

    def square(match: re.Match[str]) -> str:
        is_code = any(start <= match.start() < end for start, end in code)
        is_marker = not is_code and 1 <= int(match.group(1)) <= num_passages
        return f"[{match.group(1)}]" if is_marker else match.group()

    return _ROUND_MARKER.sub(square, text)


def _last_claim(text: str) -> str:
    """Return the last sentence that says something, without markers."""
    for start, end in reversed(list(sentence_spans(text))):
        claim = strip_markers(text[start:end]).strip()
        if content_words(claim):
            return claim
    return strip_markers(text).strip()
