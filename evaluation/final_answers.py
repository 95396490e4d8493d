r"""The answer that a text states, found without looking at the gold answer.

Place in the data's way: an answer as shown to a person -> what it says is the answer ->
`evaluation.grading`. The strategies cut their answers out in their own way; this is a second, independent
reading, so that a fault there is no fault of the grades.

Example:
    >>> stated_answer("3 boxes of 6 make 18.\n**The answer is $18.**"), numbers("1,018 of 3/4")
    ('$18.', [Number(value=1018.0, num_decimals=0), Number(value=0.75, num_decimals=0)])
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ..core.sentences import sentence_spans

# A longer answer's beginning is not read: what it states stands at its end.
MAX_READ_CHARS = 20_000
MAX_STATED_CHARS = 400

_MINUS = str.maketrans({"−": "-", "–": "-", "\u00a0": " ", "\u202f": " "})
_MARKUP = "*_`~\"'“”‘’ \t"
_CITATION = re.compile(r"\[\d+(?:, \d+)*\]")
# "The answer is X", "Answer: X", "**Final answer:** X", GSM8K's "#### X", LaTeX's "\boxed{X}".
_STATEMENT = re.compile(
    r"\banswer\b[\s*_)\"”’]{0,4}(?:is|are|was|would be|will be|=|:)[ \t*_:=]*"
    r"|(?:^|\n)[ \t]*####[ \t]*"
    r"|\\boxed[ \t]*\{",
    re.IGNORECASE,
)
_CITATION_BEHIND = re.compile(r"(?<=[\w.)%])[ \t]*\[\d+(?:, \d+)*\]")
_NUMBER = re.compile(
    r"(?<![\w)])(?:-?[$€£¥₹][ \t]?-?|-)?(?P<whole>\d{1,3}(?:,\d{3})+(?!\d)|\d{1,300})?"
    r"(?:\.(?P<part>\d{1,300}))?(?:[eE](?P<exponent>[-+]?\d{1,3})(?!\w))?"
    r"(?:[ \t]*/[ \t]*(?P<divisor>\d{1,15})(?![\d/]))?"
)


@dataclass(frozen=True, slots=True)
class Number:
    """A number as a text has it.

    Attributes:
        value: Its value; "50%" has 50.
        num_decimals: Digits behind the point, as written.
    """

    value: float
    num_decimals: int


def stated_answer(text: str) -> str | None:
    """Return what the text says is the answer, of several statements the last; None where there is none.

    Args:
        text: An answer as shown.

    Returns:
        The rest of the line behind "the answer is", "Answer:", "####" or within a box; the next line where
        nothing stands behind it.
    """
    text = text[-MAX_READ_CHARS:]
    for found in reversed(list(_STATEMENT.finditer(text))):
        rest = text[found.end() :]
        said = _braced(rest) if found[0].endswith("{") else next(filter(_has_words, rest.splitlines()), "")
        if said := said[:MAX_STATED_CHARS].strip(_MARKUP):
            return said
    return None


def short_answer(text: str) -> str:
    """Return the part of an answer that is compared with the gold answers; it never looks at them.

    Args:
        text: An answer as shown.

    Returns:
        The first line up to its first citation marker or its first sentence's end, whichever comes first,
        without emphasis, quotes, a marker in front and the mark at the end.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    line = next((part for part in _CITATION.split(lines[0]) if part.strip(_MARKUP)), "")
    spans = sentence_spans(line)
    first = line[spans[0][0] : spans[0][1]] if spans else line
    return first.strip(_MARKUP).rstrip(".!,;:").strip(_MARKUP)


def numbers(text: str) -> list[Number]:
    """Return the numbers of a text in order, citations left out: 1,234.50, -3, $5, .5, 2e6, 3/4."""
    text = _CITATION_BEHIND.sub(" ", text)
    text = re.sub(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}", r"\1/\2", text[-MAX_READ_CHARS:].translate(_MINUS))
    text = text.replace("{,}", ",").replace("\\$", "$").replace("\\", " ")
    return [number for found in _NUMBER.finditer(text) if (number := _number(found)) is not None]


def _number(found: re.Match[str]) -> Number | None:
    whole, part, exponent = found["whole"], found["part"] or "", found["exponent"] or "0"
    if whole is None and not part:
        return None
    value = float(f"{(whole or '0').replace(',', '')}.{part or '0'}e{exponent}")
    if (divisor := int(found["divisor"] or 1)) == 0 or not math.isfinite(value):
        return None
    value = value / divisor
    return Number(-value if "-" in found[0].partition(whole or ".")[0] else value, len(part))


def _braced(rest: str) -> str:
    """Return a text up to the brace that closes it."""
    depth = 1
    for place, char in enumerate(rest[:MAX_STATED_CHARS]):
        depth += {"{": 1, "}": -1}.get(char, 0)
        if depth == 0:
            return re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", rest[:place])
    return ""


def _has_words(line: str) -> bool:
    return any(char.isalnum() for char in line)
