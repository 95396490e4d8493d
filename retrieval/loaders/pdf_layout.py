"""Lines on pages to paragraphs and headings.

Place in the data's way: `pdf` hands over the lines of all pages; blocks with line boxes go on. Reading
order is PDFium's. White space and indents part the paragraphs; words divided at line ends are joined,
unless the document writes them with a hyphen elsewhere.

Example:
    >>> from .pdfium import Line
    >>> title = Line("Tea", 0.1, 0.1, 0.2, 0.12, 18, True)
    >>> body = Line("Boil it.", 0.1, 0.2, 0.5, 0.21, 10, False)
    >>> [(block.kind, block.text) for block in layout([Page(1, (title, body))], ())]
    [('heading', 'Tea'), ('paragraph', 'Boil it.')]
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...core.types import Box
from ..loaded import Block, LineBox
from .pdf_headings import heading_levels
from .pdf_repeats import without_repeats
from .pdfium import HYPHEN, Line, Page

_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_SPACE = re.compile(r"[\s\x00-\x1f\x7f\ufeff\ufffe\uffff]+")
_NUMBERED = re.compile(r"^(?:(?:\d+|[A-Z])(?:\.\d+)*\.?|[IVX]+\.|§\s*\d+)\s+\S")
_LIST = re.compile(r"^(?:[•·▪‣●○–\-*]|\(?\d{1,2}[.)]|\(?[a-z]\))\s+\S")
_SENTENCE_END = (".", "!", "?", ":", "。", "！", "？", "”", '."')
MAX_HEADING_LINES = 4


@dataclass(frozen=True, slots=True)
class _Placed:
    line: Line
    page: int
    level: int = 0


def layout(pages: Sequence[Page], outline: Sequence[tuple[int, str, int]]) -> tuple[Block, ...]:
    """Group lines into blocks.

    Args:
        pages: The pages with text.
        outline: Bookmarks as (level from 1, title, page number from 1).

    Returns:
        Paragraphs and headings in reading order.
    """
    kept = without_repeats([Page(page.number, tuple(_visible(_rows(page.lines)))) for page in pages])
    vocabulary = _vocabulary(kept)
    levels = heading_levels(kept, outline)
    groups: list[list[_Placed]] = []
    for page in kept:
        for position, line in enumerate(page.lines):
            placed = _Placed(line, page.number, levels.get((page.number, position), 0))
            if groups and _continues(groups[-1], placed):
                groups[-1].append(placed)
            else:
                groups.append([placed])
    return tuple(block for group in groups if (block := _block(group, vocabulary)) is not None)


def _rows(lines: Iterable[Line]) -> list[Line]:
    """Join what PDFium cut although it stands in one row: after superscripts, between table cells."""
    rows: list[Line] = []
    for line in lines:
        last = rows[-1] if rows else None
        if last is None or last.text.endswith(HYPHEN) or not _same_row(last, line):
            rows.append(line)
            continue
        glue = "" if line.text[0] in ",.;:)]" or line.left - last.right < 0.002 else " "
        larger = last if len(last.text) >= len(line.text) else line
        rows[-1] = Line(
            last.text + glue + line.text,
            min(last.left, line.left),
            min(last.top, line.top),
            max(last.right, line.right),
            max(last.bottom, line.bottom),
            larger.size,
            last.is_bold and line.is_bold,
        )
    return rows


def _same_row(last: Line, line: Line) -> bool:
    overlap = min(last.bottom, line.bottom) - max(last.top, line.top)
    height = min(last.bottom - last.top, line.bottom - line.top)
    return height > 0 and overlap > 0.5 * height and -0.01 <= line.left - last.right < 0.06


def _visible(lines: Iterable[Line]) -> Iterable[Line]:
    # Printers' marks beyond the crop box are in the file but on no screen.
    return (
        line
        for line in lines
        if line.right > 0
        and line.left < 1
        and line.bottom > 0
        and line.top < 1
        # Rules and ornaments drawn with characters say nothing.
        and (len(line.text) < 4 or any(char.isalnum() for char in line.text))
    )


def _vocabulary(pages: Sequence[Page]) -> set[str]:
    words: set[str] = set()
    is_divided = False
    for page in pages:
        for line in page.lines:
            found = _WORD.findall(line.text.lower())
            begin, is_divided = int(is_divided), line.text.endswith(HYPHEN)
            words.update(found[begin : len(found) - is_divided])  # halves of a divided word are no words
    return words


def _continues(group: Sequence[_Placed], new: _Placed) -> bool:
    last = group[-1]
    a, b = last.line, new.line
    if new.page != last.page:
        return False
    height = max(min(a.bottom - a.top, b.bottom - b.top), 0.004)
    gap = b.top - a.bottom
    if last.level or new.level:
        is_same = last.level == new.level and abs(a.size - b.size) < 0.05 * max(a.size, 1)
        return (
            is_same
            and -height < gap < 1.2 * height
            and len(group) < MAX_HEADING_LINES
            and not _NUMBERED.match(b.text)
        )
    if a.text.endswith(HYPHEN):
        return True
    if gap < -0.5 * height or gap > 1.1 * height:  # another column, or white space between
        return False
    if min(a.right, b.right) < max(a.left, b.left):
        return False
    if abs(a.size - b.size) > 0.15 * max(a.size, b.size, 1):
        return False
    if _LIST.match(b.text):
        return False
    # An indented line after the end of a sentence begins a paragraph.
    return not (b.left - min(item.line.left for item in group) > 0.012 and a.text.endswith(_SENTENCE_END))


def _block(group: Sequence[_Placed], vocabulary: set[str]) -> Block | None:
    right = max(item.line.right for item in group)
    width = right - min(item.line.left for item in group)
    text = ""
    lines: list[LineBox] = []
    previous: Line | None = None
    for item in group:
        content = _SPACE.sub(" ", item.line.text.rstrip(HYPHEN)).strip()
        if not content:
            continue
        if previous is not None:
            text = _joined(text, previous, content, right - 0.15 * width, vocabulary)
        box = _box(item)
        if box is not None:
            lines.append(LineBox(len(text), len(text) + len(content), box))
        text += content
        previous = item.line
    if not text:
        return None
    level = group[0].level
    if level:
        return Block(text.replace("\n", " "), "heading", level, group[0].page, tuple(lines))
    page = group[0].page
    return Block(text, "list" if _LIST.match(text) else "paragraph", 0, page, tuple(lines))


def _joined(text: str, previous: Line, content: str, full_right: float, vocabulary: set[str]) -> str:
    if previous.text.endswith(HYPHEN):
        first = _WORD.match(content)
        stem = re.search(r"[^\W\d_]+(?:-[^\W\d_]+)*$", text)
        if first is None or stem is None or not first.group()[0].islower():
            return text + "-"
        return text + "-" if _is_compound(stem.group().lower(), first.group().lower(), vocabulary) else text
    # A short line ended on purpose: a row of a table, a line of code, an item.
    return text + (" " if previous.right >= full_right else "\n")


def _is_compound(stem: str, rest: str, vocabulary: set[str]) -> bool:
    """Say whether "mixed-" and "mode" keep their hyphen, unlike "com-" and "pile"."""
    if stem + rest in vocabulary:
        return False
    return f"{stem}-{rest}" in vocabulary or (min(len(stem), len(rest)) > 2 and {stem, rest} <= vocabulary)


def _box(item: _Placed) -> Box | None:
    line = item.line
    left, top = max(line.left, 0.0), max(line.top, 0.0)
    right, bottom = min(line.right, 1.0), min(line.bottom, 1.0)
    if left >= right or top >= bottom:
        return None
    return Box(item.page, round(left, 5), round(top, 5), round(right, 5), round(bottom, 5))
