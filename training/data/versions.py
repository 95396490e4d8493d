"""Data versions on disk: a folder named by the hash of what is in it.

Place in the data's way: `prepare` saves -> a run loads, checks the hash and notes the id, so that what a
model was trained on can always be told. A folder is there as a whole or not at all; the same rows and recipe
give the same id and are written once.

Example:
    version = load_version(settings.home, "3f2a90c1d4e5b678")
    rows = list(version.train_rows())
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import DatasetError, StorageError
from .recipe import Recipe, recipe_from_json, recipe_to_json
from .report import DataReport, report_from_json, report_to_json
from .rows import HASH_CHARS, TrainingRow, canonical_json, row_from_json, row_to_json

FOLDER = "datasets"
TRAIN_FILE = "train.jsonl"
HELD_OUT_FILE = "held_out.jsonl"
RECIPE_FILE = "recipe.json"
REPORT_FILE = "report.json"
# What the id is the hash of; the report is not: it holds times.
_HASHED_FILES = (RECIPE_FILE, TRAIN_FILE, HELD_OUT_FILE)
_PARTIAL = ".partial-"
_BLOCK_BYTES = 1 << 20
_HINT = "Prepare the data again; the same files and recipe give the same id."


@dataclass(frozen=True, slots=True)
class DataVersion:
    """Prepared data that lies on disk.

    Attributes:
        id: Hash of recipe and rows, 16 hex characters.
        folder: Its folder.
        recipe: What was done.
        sources: What it was made from, as the sources describe themselves.
        report: What came of it.
    """

    id: str
    folder: Path
    recipe: Recipe
    sources: tuple[dict[str, Any], ...]
    report: DataReport

    def train_rows(self) -> Iterator[TrainingRow]:
        """Read the rows to train on.

        Raises:
            DatasetError: The file can't be read, or a line is damaged.
        """
        return _read_rows(self.folder / TRAIN_FILE)

    def held_out_rows(self) -> Iterator[TrainingRow]:
        """Read the held-out rows.

        Raises:
            DatasetError: The file can't be read, or a line is damaged.
        """
        return _read_rows(self.folder / HELD_OUT_FILE)


def save_version(
    home: Path,
    train: Sequence[TrainingRow],
    held_out: Sequence[TrainingRow],
    recipe: Recipe,
    sources: Sequence[dict[str, Any]],
    report: DataReport,
) -> DataVersion:
    """Write a version, or return the one that is there already and whole.

    Args:
        home: The data folder.
        train: Rows to train on.
        held_out: Held-out rows.
        recipe: What was done.
        sources: What the rows were made from; JSON values.
        report: What came of it.

    Raises:
        StorageError: The disk is full or can't be written to; nothing is left behind.
    """
    from filelock import FileLock

    described = canonical_json({"recipe": recipe_to_json(recipe), "sources": list(sources)})
    contents: dict[str, Iterable[bytes]] = {
        RECIPE_FILE: (described,),
        TRAIN_FILE: _Lines(train),
        HELD_OUT_FILE: _Lines(held_out),
    }
    version_id = _hash(contents.items())
    root = home / FOLDER
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".lock"):
            with contextlib.suppress(DatasetError):
                return load_version(home, version_id)
            for orphan in root.glob(f"{_PARTIAL}*"):  # left by a killed process: the lock is ours
                shutil.rmtree(orphan)
            shutil.rmtree(root / version_id, ignore_errors=True)  # there, but damaged
            _write_folder(root, version_id, {**contents, REPORT_FILE: (_indented(report_to_json(report)),)})
    except OSError as exc:
        raise StorageError(
            f"{root} can't be written to: {exc.strerror or exc}.",
            hint="Free some space, or set another home.",
        ) from exc
    return _described(root / version_id)


def load_version(home: Path, version_id: str) -> DataVersion:
    """Return a version after checking that its files are those that gave it its id.

    Raises:
        DatasetError: There is none of this id, or it is damaged.
    """
    folder = home / FOLDER / version_id
    if not _is_id(version_id) or not folder.is_dir():
        known = ", ".join(sorted(path.name for path in _folders(home))) or "none yet"
        raise DatasetError(f"There is no data version {version_id!r}.", hint=f"There are: {known}.")
    try:
        found = _hash((name, _blocks(folder / name)) for name in _HASHED_FILES)
    except OSError as exc:
        raise DatasetError(f"{folder} can't be read: {exc.strerror or exc}.", _HINT) from exc
    if found != version_id:
        raise DatasetError(f"{folder} is damaged: its files are not those of this version.", _HINT)
    return _described(folder)


def list_versions(home: Path) -> list[DataVersion]:
    """Return the versions on this disk, the newest first; their rows are not checked here.

    Raises:
        DatasetError: The recipe or report of one of them is damaged.
    """
    versions = [_described(folder) for folder in _folders(home)]
    return sorted(versions, key=lambda version: (-version.report.prepared_at, version.id))


class _Lines:
    """A file's rows as lines, made anew each time: once to be hashed, once to be written."""

    def __init__(self, rows: Sequence[TrainingRow]) -> None:
        self._rows = rows

    def __iter__(self) -> Iterator[bytes]:
        for row in self._rows:
            yield canonical_json(row_to_json(row)) + b"\n"


def _hash(files: Iterable[tuple[str, Iterable[bytes]]]) -> str:
    """Return the hash of named files; each one's length goes in, so that nothing can move between them."""
    digest = hashlib.sha256()
    for name, blocks in files:
        size = 0
        for block in blocks:
            digest.update(block)
            size += len(block)
        digest.update(f"\0{name} {size}\0".encode())
    return digest.hexdigest()[:HASH_CHARS]


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def _write_folder(root: Path, name: str, contents: dict[str, Iterable[bytes]]) -> None:
    partial = root / f"{_PARTIAL}{name}"
    partial.mkdir()
    try:
        for file_name, blocks in contents.items():
            with (partial / file_name).open("wb") as file:
                file.writelines(blocks)
                file.flush()
                os.fsync(file.fileno())
        _sync_folder(partial)
        os.replace(partial, root / name)
        _sync_folder(root)
    except BaseException:  # Ctrl-C too: nobody else would clear it away before the next version
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Bring a folder's entries to disk, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _described(folder: Path) -> DataVersion:
    described = _json(folder / RECIPE_FILE)
    try:
        recipe, sources = recipe_from_json(described["recipe"]), tuple(described["sources"])
    except (KeyError, TypeError) as exc:
        raise DatasetError(f"{folder / RECIPE_FILE} is damaged: {exc!r}.", _HINT) from exc
    return DataVersion(folder.name, folder, recipe, sources, report_from_json(_json(folder / REPORT_FILE)))


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as exc:
        raise DatasetError(f"{path} can't be read: {exc.strerror or exc}.", _HINT) from exc
    except ValueError as exc:
        raise DatasetError(f"{path} is damaged: {exc}.", _HINT) from exc


def _indented(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode()


def _read_rows(path: Path) -> Iterator[TrainingRow]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield row_from_json(json.loads(line))
                except ValueError as exc:
                    raise DatasetError(f"{path}, line {number} is damaged: {exc}.", _HINT) from exc
    except OSError as exc:
        raise DatasetError(f"{path} can't be read: {exc.strerror or exc}.", _HINT) from exc


def _folders(home: Path) -> list[Path]:
    root = home / FOLDER
    return [path for path in root.iterdir() if path.is_dir() and _is_id(path.name)] if root.is_dir() else []


def _is_id(name: str) -> bool:
    return re.fullmatch(f"[0-9a-f]{{{HASH_CHARS}}}", name) is not None
