"""Reads CSV and TSV: a header line with the fields' names, then a record a line, in UTF-8.

Place in the data's way: a table from a spreadsheet -> `Record`s whose values are all texts. A quoted field
may run over several lines; the record then bears the number of its last.

Example:
    records = [item for item in read_csv(Path("labels.csv")) if isinstance(item, Record)]
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from ...core.errors import DatasetError
from .records import MAX_LINE_BYTES, BadLine, Record, byte_lines, text_fault


def read_csv(path: Path) -> Iterator[Record | BadLine]:
    """Yield what each line after the header holds; fields are parted by tabs in .tsv, by commas elsewhere.

    A field of more than 131,072 characters is a fault of its line: so it looks where a quote isn't closed.

    Raises:
        DatasetError: The file can't be read, is UTF-16, or has no usable header.
    """
    lines = _TextLines(path)
    rows = csv.reader(lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
    names = _header(path, rows)
    while True:
        try:
            values = next(rows, None)
            reason = ""
        except csv.Error as exc:
            values, reason = [], f"it is not valid CSV: {exc}"
        if values is None:
            return
        fields = dict(zip(names, values, strict=False))
        if not reason and not values:
            continue
        if not reason and len(values) != len(names):
            reason = f"it has {len(values)} fields, but the header names {len(names)}"
        reason = lines.take_fault() or reason or text_fault(fields)
        source = f"{path.name}:{lines.number}"
        yield BadLine(source, reason, lines.end_byte) if reason else Record(fields, source, lines.end_byte)


class _TextLines:
    """The file's lines as text for `csv`, with where they stand and what is wrong with their bytes."""

    def __init__(self, path: Path) -> None:
        self._lines = byte_lines(path)
        self._fault = ""
        self.number = 0
        self.end_byte = 0

    def __iter__(self) -> Iterator[str]:
        for line, end_byte in self._lines:
            self.number += 1
            self.end_byte = end_byte
            if line is None:
                self._fault = f"it is longer than {MAX_LINE_BYTES >> 20} MiB"
                line = b"\n"
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError as exc:
                self._fault = f"it is not UTF-8: {exc.reason} at byte {exc.start + 1}"
                yield line.decode("utf-8", "replace")

    def take_fault(self) -> str:
        """Return what was wrong with the bytes since the last call, or ""."""
        fault, self._fault = self._fault, ""
        return fault


def _header(path: Path, rows: Iterator[list[str]]) -> list[str]:
    hint = "The first line of a CSV file names its fields, each once."
    try:
        names = [name.strip() for name in next(rows, [])]
    except csv.Error as exc:
        raise DatasetError(f"{path}, line 1: the header is not valid CSV: {exc}.", hint) from exc
    if not names or "" in names or len(set(names)) != len(names):
        raise DatasetError(f"{path}, line 1: {names!r} is no header.", hint)
    if fault := text_fault(dict.fromkeys(names, "")):
        raise DatasetError(f"{path}, line 1: {fault}.", hint)
    return names
