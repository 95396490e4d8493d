"""What an evaluation has finished so far, on disk after every question.

Place in the data's way: a long evaluation adds each record here; killed and started again, it goes on where
it was. A line cut in half by the kill is left out and asked again.

Example:
    journal = Journal.open(Path("rag.json.partial.jsonl"), Record, about={"model": "..."}, resume=True)
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Generic, TypeVar

from ..core.errors import EvaluationError, StorageError

T = TypeVar("T")


class Journal(Generic[T]):
    """Records of one type by key, appended to a file of JSON Lines."""

    def __init__(self, path: Path, records: dict[str, T]) -> None:
        """Keep what is there; see `open`."""
        self._path = path
        self._records = records

    @classmethod
    def open(cls, path: Path, kind: type[T], about: dict[str, Any], *, resume: bool) -> Journal[T]:
        """Start a journal, or go on with one.

        Args:
            path: The file.
            kind: A dataclass of strings, numbers and tuples of strings.
            about: What the records depend on: model, prompts, files.
            resume: Go on with the file where it is there.

        Raises:
            EvaluationError: The file is there and `resume` is not given, or it is of another evaluation.
            StorageError: The file can't be read or written.
        """
        try:
            lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
            if lines and not resume:
                raise EvaluationError(
                    f"{path} holds the questions finished by an interrupted run.",
                    hint="Add --resume to go on with it, or delete it to start again.",
                )
            rows = [row for row in map(_parse, lines) if row is not None]
            header = {"about": about}
            if rows and rows[0] != header:
                raise EvaluationError(
                    f"{path} is of another evaluation: {rows[0].get('about')}.",
                    hint="Repeat its command, or delete the file to start again.",
                )
            kept = rows or [header]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(_line(row) for row in kept), encoding="utf-8")
        except OSError as exc:
            raise StorageError(f"{path} can't be used: {exc.strerror}.") from exc
        return cls(path, {row["key"]: _record(kind, row["record"]) for row in kept[1:]})

    def __len__(self) -> int:
        """Return how many records there are."""
        return len(self._records)

    def get(self, key: str) -> T | None:
        """Return a record, or None."""
        return self._records.get(key)

    def add(self, key: str, record: T) -> None:
        """Keep a record.

        Raises:
            StorageError: The disk is full.
        """
        self._records[key] = record
        fields = dataclasses.asdict(record)  # type: ignore[call-overload]  # T is a dataclass
        row = {"key": key, "record": fields}
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line(row))
        except OSError as exc:
            raise StorageError(f"{self._path} can't be written: {exc.strerror}.") from exc

    def close(self, keep_as: Path) -> None:
        """Give the file its final name, for all is done."""
        self._path.replace(keep_as)


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _parse(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _record(kind: type[T], fields: dict[str, Any]) -> T:
    return kind(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    )
