"""The cells of an XLSX workbook, as values: numbers as numbers, dates as ISO text.

Place in the data's way: an uploaded workbook -> here -> `tables.py`, which makes a SQL table of each sheet.
The retrieval loaders turn sheets into sentences for search; to calculate, the values themselves are needed.

Source:
    ECMA-376, Part 1: 18.3.1.4 (cells), 18.4.9 (shared strings), 18.8.30 (number formats), 18.17.4.1 (dates).

Example:
    for sheet in read_workbook(path, "sales.xlsx", max_rows=10_000):
        print(sheet.name, sheet.rows[0])
"""

from __future__ import annotations

import datetime as dt
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeAlias
from xml.etree import ElementTree

from ...core.errors import LoadError
from ...retrieval.loaders.archive import check_archive

Cell: TypeAlias = str | int | float | None

MAX_COLUMNS = 256
_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_TARGETS = "{http://schemas.openxmlformats.org/package/2006/relationships}Relationship"
_DATE_FORMATS = frozenset([*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)])
_LITERAL = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]')
_COLUMN = re.compile(r"[A-Z]{1,3}")


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet.

    Attributes:
        name: As its tab says.
        rows: Its cells, row by row; empty rows are left out.
        is_cut: Whether it has more rows than were read.
    """

    name: str
    rows: tuple[tuple[Cell, ...], ...]
    is_cut: bool = False


def read_workbook(path: Path, name: str, max_rows: int) -> list[Sheet]:
    """Read all sheets.

    Args:
        path: The file.
        name: Its name, for messages.
        max_rows: Rows read of a sheet.

    Raises:
        LoadError: It is damaged, or a zip bomb.
    """
    check_archive(path, name)
    try:
        with zipfile.ZipFile(path) as archive:
            return list(_Workbook(archive).sheets(max_rows))
    except (zipfile.BadZipFile, ElementTree.ParseError, KeyError, ValueError, IndexError, OSError) as exc:
        raise LoadError(f"{name} is damaged: {exc}.", "corrupt", hint="Save it anew, or as CSV.") from exc


class _Workbook:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._texts = self._shared_texts()
        self._date_styles = self._styles()
        root = self._root("xl/workbook.xml")
        properties = root.find(f"{_MAIN}workbookPr")
        is_1904 = properties is not None and properties.get("date1904") in ("1", "true")
        self._epoch = dt.datetime(1904, 1, 1) if is_1904 else dt.datetime(1899, 12, 30)
        self._listed = [
            (sheet.get("name", "sheet"), sheet.get(_RELATION, "")) for sheet in root.iter(f"{_MAIN}sheet")
        ]

    def sheets(self, max_rows: int) -> Iterator[Sheet]:
        targets = {
            item.get("Id", ""): item.get("Target", "")
            for item in self._root("xl/_rels/workbook.xml.rels").iter(_TARGETS)
        }
        for name, relation in self._listed:
            target = targets[relation]
            member = target.lstrip("/") if target.startswith("/") else f"xl/{target}"
            if "worksheets/" in member:  # a chart has no cells
                with self._archive.open(member) as file:
                    yield self._sheet(name, file, max_rows)

    def _sheet(self, name: str, file: IO[bytes], max_rows: int) -> Sheet:
        rows: list[tuple[Cell, ...]] = []
        for _, element in ElementTree.iterparse(file):
            if element.tag != f"{_MAIN}row":
                continue
            if len(rows) >= max_rows:
                return Sheet(name, tuple(rows), is_cut=True)
            cells: list[Cell] = []
            for cell in element.iter(f"{_MAIN}c"):
                column = _column(cell.get("r", ""), len(cells))
                if column < MAX_COLUMNS:
                    cells += [None] * (column + 1 - len(cells))
                    cells[column] = self._value(cell)
            if any(cell not in (None, "") for cell in cells):
                rows.append(tuple(cells))
            element.clear()
        return Sheet(name, tuple(rows))

    def _value(self, cell: ElementTree.Element) -> Cell:
        kind = cell.get("t", "n")
        if kind == "inlineStr":
            return "".join(part.text or "" for part in cell.iter(f"{_MAIN}t"))
        found = cell.find(f"{_MAIN}v")
        text = found.text if found is not None else None
        if text is None:
            return None
        if kind == "s":
            return self._texts[int(text)]
        if kind == "b":
            return int(text)
        if kind != "n":
            return text  # a formula's text, an error, an ISO date
        number = float(text)
        if int(cell.get("s", "0")) in self._date_styles:
            return self._date(number)
        return int(number) if number.is_integer() and abs(number) < 2**53 else number

    def _date(self, number: float) -> str | float:
        """Return a day number as ISO text; a fraction of a day alone is a time."""
        try:
            moment = self._epoch + dt.timedelta(seconds=round(number * 86_400))
        except OverflowError:
            return number
        if 0 <= number < 1:
            return moment.time().isoformat()
        return moment.date().isoformat() if moment.time() == dt.time() else moment.isoformat(" ")

    def _shared_texts(self) -> list[str]:
        if "xl/sharedStrings.xml" not in self._archive.namelist():
            return []
        root = self._root("xl/sharedStrings.xml")
        return ["".join(run.text or "" for run in item.iter(f"{_MAIN}t")) for item in root.iter(f"{_MAIN}si")]

    def _styles(self) -> frozenset[int]:
        """Return the numbers of the cell styles that show a date."""
        if "xl/styles.xml" not in self._archive.namelist():
            return frozenset()
        root = self._root("xl/styles.xml")
        dates = set(_DATE_FORMATS)
        for own in root.iter(f"{_MAIN}numFmt"):
            if re.search("[ymdhs]", _LITERAL.sub("", own.get("formatCode", "")).lower()):
                dates.add(int(own.get("numFmtId", "0")))
        used = root.find(f"{_MAIN}cellXfs")
        styles = [] if used is None else list(used)
        return frozenset(i for i, style in enumerate(styles) if int(style.get("numFmtId", "0")) in dates)

    def _root(self, member: str) -> ElementTree.Element:
        content = self._archive.read(member)
        if b"<!DOCTYPE" in content[:4096]:  # no workbook declares entities
            raise ValueError("it declares a document type")
        return ElementTree.fromstring(content)


def _column(reference: str, following: int) -> int:
    """Return a cell's column from 0, by its reference such as "AB12"; the next one where it has none."""
    letters = _COLUMN.match(reference)
    if letters is None:
        return following
    number = 0
    for letter in letters[0]:
        number = 26 * number + ord(letter) - ord("A") + 1
    return number - 1
