"""What a data file holds before it is known what is to be learned from it: named fields, line by line.

Place in the data's way: a JSONL or CSV file -> `Record`s, and a `BadLine` for each that can't be one ->
`forms` or a template makes rows of them. A bad line is reported and the import goes on; only a file that
can't be read as a whole is an error.

Example:
    for item in read_records(Path("dialogues.jsonl")):
        if isinstance(item, Record):
            summary = item.fields["summary"]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ...core.errors import DatasetError

# Longer than any row that a model could learn as one; keeps a file without line ends out of memory.
MAX_LINE_BYTES = 16 << 20
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_UTF8_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Record:
    """One example as the file has it.

    Attributes:
        fields: JSON values by field name.
        source: File name and line, from 1, as "dialogues.jsonl:17".
        end_byte: Bytes of the file read so far, for progress.
    """

    fields: Mapping[str, Any]
    source: str
    end_byte: int


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no record.

    Attributes:
        source: File name and line, from 1.
        reason: What is wrong with it.
        end_byte: Bytes of the file read so far, for progress.
    """

    source: str
    reason: str
    end_byte: int


Reader: TypeAlias = Callable[[Path], Iterator[Record | BadLine]]


def read_records(path: Path) -> Iterator[Record | BadLine]:
    """Read a data file by its ending: .jsonl and .ndjson, .csv, .tsv.

    Raises:
        DatasetError: The ending is another one, or the file can't be read or is not UTF-8 as a whole.
    """
    from .csv_lines import read_csv
    from .json_lines import read_json_lines

    readers: dict[str, Reader] = {
        ".jsonl": read_json_lines,
        ".ndjson": read_json_lines,
        ".csv": read_csv,
        ".tsv": read_csv,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DatasetError(
            f"{path} is not a data file that can be read.",
            hint=f"Give a file that ends with one of: {', '.join(readers)}.",
        )
    return reader(path)


def byte_lines(path: Path) -> Iterator[tuple[bytes | None, int]]:
    """Yield (line with its end, bytes read so far); None for a line of more than `MAX_LINE_BYTES`.

    Raises:
        DatasetError: The file can't be read, or is UTF-16.
    """
    try:
        with path.open("rb") as file:
            if file.peek(2)[:2] in _UTF16_MARKS:
                raise DatasetError(f"{path} is UTF-16 text.", hint="Save it as UTF-8.")
            if file.peek(3)[:3] == _UTF8_MARK:
                file.read(3)
            while line := file.readline(MAX_LINE_BYTES):
                is_whole = line.endswith(b"\n") or len(line) < MAX_LINE_BYTES
                rest = b"" if is_whole else line
                while rest and not rest.endswith(b"\n"):
                    rest = file.readline(MAX_LINE_BYTES)
                yield (line if is_whole else None), file.tell()
    except OSError as exc:
        raise DatasetError(
            f"{path} can't be read: {exc.strerror or exc}.", hint="Check the path and who may read it."
        ) from exc


def text_fault(value: Any) -> str:
    """Return why a JSON value can't be learned from: a NUL or half a surrogate pair in it; "" where it can.

    Both would end a string early or fail to encode somewhere inside a tokenizer.
    """
    if isinstance(value, str):
        if "\0" in value:
            return "it holds a NUL character"
        return "" if _is_unicode(value) else "it holds half a surrogate pair, which is no character"
    if isinstance(value, Mapping):
        return next((fault for item in value.items() for part in item if (fault := text_fault(part))), "")
    if isinstance(value, list):
        return next((fault for item in value if (fault := text_fault(item))), "")
    return ""


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
