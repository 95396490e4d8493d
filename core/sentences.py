"""Where sentences begin and end, in any script, without a model.

Place in the data's way: the budget shortens passages at these edges, citations quote whole sentences, and the
evaluation takes an answer's first one. A wrong guess costs a longer or shorter quote, never a character.

Example:
    >>> text = "Dr. Li left. She came back in 1.5 hours!"
    >>> [text[start:end] for start, end in sentence_spans(text)]
    ['Dr. Li left.', 'She came back in 1.5 hours!']
"""

from __future__ import annotations

import re

# An end mark, closing quotes, and citation markers that follow it ("Paris. [1]" is one sentence); or an end
# mark of a script that puts no space after it; or a blank line; or the line break before a list item.
_END = re.compile(
    r"""[.!?…؟۔।]+["'”’»)\]]*(?:[ \t]*\[[\d,; ]{1,24}\])*(?=\s|$)"""
    r"""|[。！？｡]+["'”’」』）》]*"""
    r"""|\n[ \t]*(?=\n|[-*•][ \t]|\d{1,3}[.)][ \t])"""
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[“\"'])(?:(?:[^\W\d_]\.)*[^\W\d_]|mr|mrs|ms|dr|prof|st|sr|jr|vs|etc|cf|e\.g|i\.e|no|vol|fig|figs|eq|sec"
    r"|ch|pp|al|inc|ltd|co|corp|gen|col|lt|sgt|capt|rev|hon|gov|sen|rep|dept|approx|ca|jan|feb|mar|apr|jun|jul"
    r"|aug|sept|sep|oct|nov|dec|bzw|usw|vgl|abb|nr)$",
    re.IGNORECASE,
)
_ABBREVIATION_CHARS = 16


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return the (start, end) of every sentence, in order, surrounding white space left out.

    Args:
        text: Any text.

    Returns:
        Spans that do not overlap and together hold every character that is not white space.
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _END.finditer(text):
        if _goes_on(text, match):
            continue
        _append_span(spans, text, start, match.end())
        start = match.end()
    _append_span(spans, text, start, len(text))
    return spans


def _goes_on(text: str, match: re.Match[str]) -> bool:
    """Tell a dot within a sentence from one that ends it."""
    mark = match.group()
    if mark[0] not in ".!?…":
        return False
    after = text[match.end() : match.end() + 3].lstrip()
    if after[:1].islower():
        return True
    before = text[max(0, match.start() - _ABBREVIATION_CHARS) : match.start()]
    return mark == "." and bool(after) and bool(_ABBREVIATION.search(before))


def _append_span(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    stripped = piece.strip()
    if stripped:
        first = start + len(piece) - len(piece.lstrip())
        spans.append((first, first + len(stripped)))
