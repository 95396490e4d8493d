"""Rows of JSON Lines files, each checked, each fault named by line and field.

Place in the data's way: a file -> rows -> `evaluation.question_files` and `evaluation.tasks`, which make
typed questions of them.

Example:
    for line, row in json_rows(Path("questions.jsonl")):
        question = text_field(path, line, row, "question")
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core.errors import EvaluationError


def json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, row) of every line that is not blank.

    Raises:
        EvaluationError: The file can't be read, is not UTF-8, or a line is no JSON object.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise EvaluationError(f"{path} can't be read: {exc.strerror}.") from exc
    except UnicodeDecodeError as exc:
        raise EvaluationError(f"{path} is not UTF-8 text.", hint="Save it as JSON Lines in UTF-8.") from exc
    for line, raw in enumerate(text.split("\n"), start=1):
        if not raw.strip():
            continue
        try:
            row = json.loads(raw)
        except (ValueError, RecursionError) as exc:
            raise EvaluationError(f"{path}, line {line}: not valid JSON ({exc}).") from exc
        if not isinstance(row, dict):
            raise EvaluationError(f"{path}, line {line}: must be a JSON object.")
        yield line, row


def typed_field(path: Path, line: int, row: dict[str, Any], name: str, kind: type) -> Any:
    """Return a row's field.

    Raises:
        EvaluationError: It is missing or of another type; a truth value is no number.
    """
    if name not in row:
        raise bad_field(path, line, name, "is missing")
    if not isinstance(row[name], kind) or isinstance(row[name], bool):
        raise bad_field(path, line, name, f"must be of type {kind.__name__}, not {type(row[name]).__name__}")
    return row[name]


def text_field(path: Path, line: int, row: dict[str, Any], name: str) -> str:
    """Return a row's text.

    Raises:
        EvaluationError: It is missing, no text, or empty.
    """
    text = typed_field(path, line, row, name, str)
    assert isinstance(text, str)
    if not text.strip():
        raise bad_field(path, line, name, "must not be empty")
    return text


def texts_field(path: Path, line: int, row: dict[str, Any], name: str) -> tuple[str, ...]:
    """Return a row's list of texts.

    Raises:
        EvaluationError: It is missing, no list, empty, or one of the texts is empty.
    """
    texts = typed_field(path, line, row, name, list)
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise bad_field(path, line, name, "must be texts, at least one, none of them empty")
    return tuple(texts)


def bad_field(path: Path, line: int, field: str, problem: str) -> EvaluationError:
    """Return the error that names a field."""
    return EvaluationError(
        f"{path}, line {line}, field {field!r}: {problem}.",
        hint="docs/reference/evaluation.md describes the files.",
    )
