"""Rows of cells to text that a model understands, one line a row.

Place in the data's way: every loader that meets a table writes it with `table_text`. Where the first row
names the columns, each later row repeats the names ("Region: EMEA | Sales: 12"), so that a chunk that
begins in the middle of a table still says what its numbers mean.

Example:
    >>> print(table_text([["Region", "Sales"], ["EMEA", "12"], ["APAC", "7"]]))
    Region: EMEA | Sales: 12
    Region: APAC | Sales: 7
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_NUMBER = re.compile(r"^[\s$€£¥(+\-–−]*\d[\d.,'\s\u00a0\u202f]*[)%\s]*$")
_SPACE = re.compile(r"\s+")
_MIDNIGHT = re.compile(r"^(\d{4}-\d\d-\d\d) 00:00:00$")
_LONG_FLOAT = re.compile(r"^-?\d+\.\d{12,}$")
MAX_HEADER_CHARS = 80


def table_text(rows: Sequence[Sequence[str]], *, has_header: bool | None = None, max_titles: int = 0) -> str:
    """Write a table as lines.

    Args:
        rows: Its cells, row by row; rows may differ in length.
        has_header: Whether the first row names the columns; None to judge by the cells.
        max_titles: Rows above the header, such as the titles of a sheet; they stay as they are.

    Returns:
        One line a row, without empty rows; "" for a table without text.
    """
    tidy = [[_tidy(cell) for cell in row] for row in rows]
    tidy = [row for row in tidy if any(row)]
    header_at = 0 if has_header else _find_header(tidy, max_titles) if has_header is None else None
    if header_at is None or header_at + 1 >= len(tidy):
        return "\n".join(" | ".join(filter(None, row)) for row in tidy)
    titles = [" | ".join(filter(None, row)) for row in tidy[:header_at]]
    names = tidy[header_at]
    return "\n".join(titles + [_named(names, row) for row in tidy[header_at + 1 :]])


def _named(names: Sequence[str], row: Sequence[str]) -> str:
    cells = []
    for column, cell in enumerate(row):
        name = names[column] if column < len(names) else ""
        if cell:
            cells.append(f"{name.rstrip(':')}: {cell}" if name and name != cell else cell)
    return " | ".join(cells)


def _find_header(rows: Sequence[Sequence[str]], max_titles: int) -> int | None:
    """Return the row that names the columns: words only, above rows that differ from it."""
    filled = max((sum(map(bool, row)) for row in rows), default=0)
    for index, row in enumerate(rows[: max_titles + 1]):
        names = [cell for cell in row if cell]
        # The corner above a column of row names is often blank, hence "all but one".
        if len(names) < max(2, filled - 1):
            continue
        below = rows[index + 1 :]
        has_numbers = any(_is_number(cell) for other in below[:20] for cell in other)
        is_header = len(set(names)) == len(names) and all(_is_name(cell) for cell in names)
        return (
            index if is_header and below and (has_numbers or (index == 0 and len(names) == filled)) else None
        )
    return None


def _is_number(cell: str) -> bool:
    return bool(_NUMBER.match(cell))


def _is_name(cell: str) -> bool:
    return len(cell) <= MAX_HEADER_CHARS and sum(map(str.isdigit, cell)) <= 0.4 * len(cell)


def _tidy(cell: str) -> str:
    cell = _SPACE.sub(" ", cell).strip()
    if _LONG_FLOAT.match(cell):  # 6.600000000000001 is how a spreadsheet stores 6.6
        return f"{float(cell):.12g}"
    return _MIDNIGHT.sub(r"\1", cell)
