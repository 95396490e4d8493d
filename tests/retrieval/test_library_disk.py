"""A full, damaged, foreign or locked disk: a clear error, and nothing that was acknowledged is lost."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from localsmith.core.errors import LibraryBusyError, StorageError
from localsmith.core.settings import RetrievalSettings
from localsmith.models.embedding.fake import HashingEmbedder
from localsmith.retrieval.library import Library

CHILD = Path(__file__).with_name("disk_child.py")


def _namespace() -> list[str] | None:
    """Return the command that gives a child its own mounts; None where this machine does not allow it."""
    if shutil.which("unshare") is None:
        return None
    command = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    probe = subprocess.run([*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
    return command if probe.returncode == 0 else None


@pytest.mark.parametrize("limit", ["tmpfs", "rlimit"])
def test_a_full_disk_loses_nothing_and_the_library_goes_on_when_there_is_room(
    tmp_path: Path, limit: str
) -> None:
    command: list[str] | None = [] if limit == "rlimit" else _namespace()
    if command is None:
        pytest.skip("This machine lets us mount no small disk; the file size limit stands in for it.")
    done = subprocess.run(
        [*command, sys.executable, str(CHILD), str(tmp_path), limit],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["num_added"] >= 2, result
    assert "full" in result["message"] or "failed" in result["message"]
    assert "space" in result["hint"]
    assert result["kept"]
    assert result["found"]
    assert result["kept_after_opening"]
    assert result["num_originals"] == result["num_added"]
    assert result["num_staged"] == 0
    assert result["problems"] == []
    assert result["num_after_making_room"] == result["num_added"] + 1


def test_sqlite_out_of_pages_is_a_full_disk(library: Library) -> None:
    library.add(b"Small.", "small.txt")
    with library._store.read() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StorageError, match="full"):
        library.add(" ".join(map(str, range(20_000))).encode(), "large.txt")
    assert [document.name for document in library.documents()] == ["small.txt"]
    assert len(list(library.document_path(library.documents()[0].id).parent.iterdir())) == 1
    assert library.verify() == []


@pytest.mark.parametrize("damage", ["not a database", "zeroed middle", "cut"])
def test_a_damaged_library_file_is_told_and_kept(open_library, tmp_path: Path, damage: str) -> None:
    with open_library() as library:
        for number in range(20):
            library.add(" ".join(map(str, range(number, number + 900))).encode(), f"{number}.txt")
    path = tmp_path / "library" / "library.sqlite3"
    data = path.read_bytes()
    damaged = {
        "not a database": b"This is no database. " * 1000,
        "zeroed middle": data[:4096] + b"\0" * (len(data) - 4096),
        "cut": data[: len(data) // 3],
    }[damage]
    path.write_bytes(damaged)
    with pytest.raises(StorageError) as raised:
        with open_library() as library:
            library.documents()
            library.search("17 18 19")
            problems = library.verify()
            raise (
                StorageError("; ".join(problems), hint="backup") if problems else AssertionError("unnoticed")
            )
    assert "backup" in raised.value.hint
    assert path.read_bytes() == damaged


def test_a_library_of_a_newer_version_is_not_touched(open_library, tmp_path: Path) -> None:
    open_library().close()
    db = sqlite3.connect(tmp_path / "library" / "library.sqlite3")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StorageError, match="newer"):
        open_library()


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "library").write_text("in the way")
    with pytest.raises(StorageError):
        Library(tmp_path / "library", HashingEmbedder(), RetrievalSettings())


def test_a_writer_that_never_ends_is_told_and_reading_goes_on(tmp_path: Path, parser) -> None:
    arguments = (tmp_path / "library", HashingEmbedder(), RetrievalSettings())
    with Library(*arguments, parser=parser, write_timeout_s=0.3) as library:
        library.add(b"A trace tree.", "a.txt")
        blocker = sqlite3.connect(tmp_path / "library" / "library.sqlite3", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(LibraryBusyError) as raised:
            library.add(b"A banana.", "b.txt")
        assert raised.value.retryable
        assert len(library.search("trace tree")) == 1
        with Library(*arguments, parser=parser, write_timeout_s=0.3) as other:
            assert len(other.documents()) == 1
        blocker.execute("ROLLBACK")
        blocker.close()
        library.add(b"A banana.", "b.txt")
        assert len(library.documents()) == 2


def test_a_closed_library_says_so(open_library) -> None:
    library = open_library()
    library.close()
    with pytest.raises(StorageError, match="closed"):
        library.documents()
