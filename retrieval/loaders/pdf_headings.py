"""Which lines of a PDF are headings, and of which level.

Place in the data's way: `pdf_layout` asks before it forms blocks. A PDF doesn't say; its bookmarks do where
it has some, else the size and weight of the letters must do.

Example:
    >>> title = Line("Tea", 0.1, 0.1, 0.2, 0.12, 18, True)
    >>> body = Line("Boil the water first.", 0.1, 0.2, 0.5, 0.21, 10, False)
    >>> heading_levels([Page(1, (title, body))], ())
    {(1, 0): 1}
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from .pdfium import HYPHEN, Line, Page

_LETTERS = re.compile(r"[^\W\d_]{2}")
HEADING_RATIO = 1.12
MIN_OUTLINE_HEADINGS = 5
MAX_HEADING_CHARS = 200
MAX_HEADING_SHARE = 0.35


def heading_levels(
    pages: Sequence[Page], outline: Sequence[tuple[int, str, int]]
) -> dict[tuple[int, int], int]:
    """Find the headings.

    Args:
        pages: The pages, without what repeats on them.
        outline: Bookmarks as (level from 1, title, page number from 1).

    Returns:
        The level of every heading, from 1, by (page number, position of its line).
    """
    marks = {(page, _key(title)): level for level, title, page in outline if _key(title)}
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
    if len(found) >= MIN_OUTLINE_HEADINGS:  # the author's own list is better than a guess
        return found
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
