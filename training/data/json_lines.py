"""Reads JSON Lines: one object a line, in UTF-8.

Place in the data's way: a .jsonl file, as data sets and chat logs come -> `Record`s, one line in memory at a
time.

Example:
    records = [item for item in read_json_lines(path) if isinstance(item, Record)]
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from .records import MAX_LINE_BYTES, BadLine, Record, byte_lines, text_fault


def read_json_lines(path: Path) -> Iterator[Record | BadLine]:
    """Yield what each line that is not blank holds.

    Raises:
        DatasetError: The file can't be read, or is UTF-16.
    """
    for number, (line, end_byte) in enumerate(byte_lines(path), 1):
        source = f"{path.name}:{number}"
        if line is None:
            yield BadLine(source, f"it is longer than {MAX_LINE_BYTES >> 20} MiB", end_byte)
            continue
        if not line.strip():
            continue
        try:
            fields = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
            reason = text_fault(fields) if isinstance(fields, dict) else "it is not a JSON object"
        except UnicodeDecodeError as exc:
            reason = f"it is not UTF-8: {exc.reason} at byte {exc.start + 1}"
        except ValueError as exc:
            reason = f"it is not valid JSON: {exc}"
        except RecursionError:
            reason = "it is nested too deeply"
        yield BadLine(source, reason, end_byte) if reason else Record(fields, source, end_byte)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")
