"""Drops what a PDF prints on every page: running heads, page numbers, printers' marks.

Place in the data's way: `pdf_layout` calls this before it forms paragraphs, which would otherwise be
interrupted at every page's end. Only what repeats at the same place goes, so that nothing said once is
lost.

Example:
    >>> pages = [Page(n, (Line(f"Report {n}", 0.4, 0.02, 0.6, 0.04, 10, False),)) for n in range(1, 7)]
    >>> [page.lines for page in without_repeats(pages)]
    [(), (), (), (), (), ()]
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

from .pdfium import Line, Page

_MARGIN = 0.12
_MIN_REPEATS = 4
_REPEAT_SHARE = 1 / 3
_OFFSET_SHARE = 1 / 20
_DIGITS = re.compile(r"\d+")
_EDGE_NUMBER = re.compile(r"^\W*(\d{1,5})\b|\b(\d{1,5})\W*$")
_LETTERS = re.compile(r"[^\W\d_]{2}")


def without_repeats(pages: list[Page]) -> list[Page]:
    """Drop what stands at the same place on a third of the pages, then the page numbers.

    Args:
        pages: All pages with text; with fewer than four nothing can be told.

    Returns:
        The same pages with fewer lines.
    """
    if len(pages) < _MIN_REPEATS:
        return pages
    # Left and right pages have heads of their own, hence a third and not a half.
    threshold = max(_MIN_REPEATS, len(pages) * _REPEAT_SHARE)
    counts: Counter[tuple[str, int, int]] = Counter()
    for page in pages:
        counts.update({_repeat_key(line) for line in page.lines})
    pages = [
        replace(page, lines=tuple(line for line in page.lines if counts[_repeat_key(line)] < threshold))
        for page in pages
    ]
    offsets: Counter[int] = Counter()
    for page in pages:
        offsets.update({number - page.number for line in _edges(page) for number in _edge_numbers(line)})
    # A printed page number differs from the file's by a constant, or by a few where blank pages are left out.
    often = max(_MIN_REPEATS, len(pages) * _OFFSET_SHARE)
    known = {offset for offset, count in offsets.items() if count >= often}
    result = []
    for page in pages:
        numbered = [
            line for line in _edges(page) if {number - page.number for number in _edge_numbers(line)} & known
        ]
        result.append(replace(page, lines=tuple(line for line in page.lines if line not in numbered)))
    return result


def _edges(page: Page) -> list[Line]:
    """Return the lines that may carry the page's number: those in the margins, the highest and the lowest."""
    if not page.lines:
        return []
    highest = min(page.lines, key=lambda line: line.top)
    lowest = max(page.lines, key=lambda line: line.bottom)
    return [highest, lowest, *(line for line in page.lines if _is_in_margin(line))]


def _is_in_margin(line: Line) -> bool:
    return line.bottom < _MARGIN or line.top > 1 - _MARGIN


def _repeat_key(line: Line) -> tuple[str, int, int]:
    is_margin = _is_in_margin(line) or line.right < 0.08 or line.left > 0.92
    # Rows of numbers that go on over pages look alike without their digits; lines with words don't.
    has_words = is_margin and _LETTERS.search(line.text)
    text = _DIGITS.sub("#", line.text) if has_words else line.text
    # A centred page number moves a little as it grows: in the margin only the height counts.
    return text, round(line.top * 50), -1 if is_margin else round(line.left * 50)


def _edge_numbers(line: Line) -> set[int]:
    return {int(first or last) for first, last in _EDGE_NUMBER.findall(line.text)}
