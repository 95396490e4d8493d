"""Lines on pages to paragraphs and headings.

Place in the data's way: `pdf` hands over the lines of all pages; blocks with line boxes go on. Reading
order is PDFium's. What repeats on many pages (running heads, page numbers) is dropped, words divided at
line ends are joined where the document elsewhere writes them in one, headings are known by the bookmarks,
then by letter size and weight.

Example:
    >>> from .pdfium import Line
    >>> title = Line("Tea", 0.1, 0.1, 0.2, 0.12, 18, True)
    >>> body = Line("Boil it.", 0.1, 0.2, 0.5, 0.21, 10, False)
    >>> [(block.kind, block.text) for block in layout([Page(1, (title, body))], ())]
    [('heading', 'Tea'), ('paragraph', 'Boil it.')]
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ...core.types import Box
from ..loaded import Block, LineBox
from .pdfium import HYPHEN, Line, Page

_MARGIN = 0.12
_MIN_REPEATS = 4
_REPEAT_SHARE = 1 / 3
_DIGITS = re.compile(r"\d+|\b[ivxlc]+\b")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_SPACE = re.compile(r"[\s\x00-\x1f\x7f\ufeff\ufffe\uffff]+")
_NUMBERED = re.compile(r"^(?:(?:\d+|[A-Z])(?:\.\d+)*\.?|[IVX]+\.|§\s*\d+)\s+\S")
_LIST = re.compile(r"^(?:[•·▪‣●○–\-*]|\(?\d{1,2}[.)]|\(?[a-z]\))\s+\S")
_LETTERS = re.compile(r"[^\W\d_]{2}")
_SENTENCE_END = (".", "!", "?", ":", "。", "！", "？", "”", '."')
HEADING_RATIO = 1.12
MAX_HEADING_CHARS = 200
MAX_HEADING_LINES = 4
MAX_HEADING_SHARE = 0.35


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
    kept = _without_repeats([Page(page.number, tuple(_visible(_rows(page.lines)))) for page in pages])
    vocabulary = _vocabulary(kept)
    levels = _levels(kept, outline)
    groups: list[list[_Placed]] = []
    for page in kept:
        left = min((line.left for line in page.lines), default=0.0)
        for position, line in enumerate(page.lines):
            placed = _Placed(line, page.number, levels.get((page.number, position), 0))
            if groups and _continues(groups[-1], placed, left):
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
    return (line for line in lines if line.right > 0 and line.left < 1 and line.bottom > 0 and line.top < 1)


def _without_repeats(pages: list[Page]) -> list[Page]:
    if len(pages) < _MIN_REPEATS:
        return pages
    counts: Counter[tuple[str, int, int]] = Counter()
    for page in pages:
        counts.update({_repeat_key(line) for line in page.lines})
    # Left and right pages have heads of their own, hence a third and not a half.
    threshold = max(_MIN_REPEATS, len(pages) * _REPEAT_SHARE)
    result = []
    for page in pages:
        lines = [line for line in page.lines if counts[_repeat_key(line)] < threshold]
        result.append(
            replace(page, lines=tuple(line for line in lines if not _is_page_number(line, page.number)))
        )
    return result


def _repeat_key(line: Line) -> tuple[str, int, int]:
    is_margin = line.bottom < _MARGIN or line.top > 1 - _MARGIN or line.right < 0.08 or line.left > 0.92
    text = _DIGITS.sub("#", line.text) if is_margin else line.text
    # A centred page number moves a little as it grows: in the margin only the height counts.
    return text, round(line.top * 50), -1 if is_margin else round(line.left * 50)


def _is_page_number(line: Line, number: int) -> bool:
    is_margin = line.bottom < _MARGIN or line.top > 1 - _MARGIN
    return is_margin and line.text.strip(" -–|") == str(number)


def _vocabulary(pages: Sequence[Page]) -> set[str]:
    words: set[str] = set()
    for page in pages:
        for line in page.lines:
            words.update(_WORD.findall(line.text.lower()))
    return words


def _levels(pages: Sequence[Page], outline: Sequence[tuple[int, str, int]]) -> dict[tuple[int, int], int]:
    """Return the level of every heading by (page number, position of its line)."""
    marks = {(page, _key(title)): level for level, title, page in outline}
    sizes: Counter[float] = Counter()
    for page in pages:
        for line in page.lines:
            sizes[line.size] += len(line.text)
    body = sizes.most_common(1)[0][0] if sizes else 0.0
    found: dict[tuple[int, int], int] = {}
    large: dict[tuple[int, int], float] = {}
    num_lines = 0
    for page in pages:
        for position, line in enumerate(page.lines):
            num_lines += 1
            level = marks.get((page.number, _key(line.text)))
            if level is not None:
                found[page.number, position] = level
            elif _looks_like_heading(line, body):
                large[page.number, position] = max(line.size, body)
    if len(large) > max(3, MAX_HEADING_SHARE * num_lines):  # a form or a poster, where size means nothing
        return found
    steps = sorted(set(large.values()), reverse=True)
    offset = 0
    if found and large:
        # Lines that the bookmarks don't name stand below those they do.
        offset = max(found.values())
    ranks = {size: min(rank + offset, 6) for rank, near in enumerate(_merged(steps), 1) for size in near}
    return found | {key: ranks[size] for key, size in large.items()}


def _merged(sizes: Sequence[float]) -> list[list[float]]:
    """Group sizes that differ by less than a twentieth."""
    groups: list[list[float]] = []
    for size in sizes:
        if groups and groups[-1][0] - size < 0.05 * groups[-1][0]:
            groups[-1].append(size)
        else:
            groups.append([size])
    return groups


def _looks_like_heading(line: Line, body: float) -> bool:
    text = line.text.strip()
    if not _LETTERS.search(text) or len(text) > MAX_HEADING_CHARS or text.endswith((",", ";", HYPHEN)):
        return False
    if "@" in text or text.count(",") > 3:  # the authors of a paper
        return False
    if line.size >= HEADING_RATIO * body:
        return True
    is_short = len(text) < 80 and line.right - line.left < 0.6 and not text.endswith(".")
    return line.is_bold and is_short and line.size >= 0.97 * body


def _key(text: str) -> str:
    return re.sub(r"[\W_]+", "", re.sub(r"^[\dIVX.\s]+\s", "", text)).lower()


def _continues(group: Sequence[_Placed], new: _Placed, page_left: float) -> bool:
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
