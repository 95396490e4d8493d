"""Keeps a library in order: undo time, leftovers of a crash, and a check of everything against itself.

Place in the data's way: beside it. `Library` tidies when it is opened; `Library.verify` is what a person runs
after a crash or a restored backup, and what the crash tests run.

Example:
    library.verify()  # [] where all is well
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from sqlite3 import Connection

import structlog

from ..core.errors import LibraryBusyError, StorageError
from ..core.types import DEFAULT_COLLECTION
from . import collection_rows, document_rows, lexical
from .originals import Originals
from .store import Store

log = structlog.get_logger(__name__)

DAY_S = 86_400.0
_PART_AGE_S = 3600.0


def tidy(store: Store, originals: Originals, snapshots: Path, undo_days: float) -> None:
    """Make the default collection, drop what is past its undo time, and clean up after a crash.

    Args:
        store: The library's store.
        originals: Its originals.
        snapshots: Folder of its index snapshots.
        undo_days: Days that removed documents are kept.

    Raises:
        StorageError: The library is new and can't be written.
    """
    with store.read() as db:
        has_default = any(info.name == DEFAULT_COLLECTION for info in collection_rows.all_of(db))
        is_due = collection_rows.has_removed_before(db, time.time() - undo_days * DAY_S)
    if not has_default:
        with store.write() as db:
            if not any(info.name == DEFAULT_COLLECTION for info in collection_rows.all_of(db)):
                collection_rows.create(db, DEFAULT_COLLECTION)
    try:
        if is_due:
            purge(store, originals, undo_days)
        else:
            remove_orphans(store, originals, timeout_s=0.0)
    except (LibraryBusyError, StorageError) as exc:
        # Reading must go on beside a busy writer and on a full disk; the next opening tidies.
        log.info("library.tidy_postponed", error=str(exc))
    originals.remove_dead_staging()
    _remove_stale_snapshots(store, snapshots)


def purge(store: Store, originals: Originals, older_than_days: float) -> int:
    """Delete for good what was removed longer ago than this; return how many documents."""
    with store.write() as db:
        num_purged = collection_rows.purge_removed(db, time.time() - older_than_days * DAY_S)
    remove_orphans(store, originals)
    return num_purged


def remove_orphans(store: Store, originals: Originals, timeout_s: float | None = None) -> None:
    """Remove originals that no document names.

    As the only writer: an original gets its place and its document within one write transaction, so none that
    another process is just adding can be taken for an orphan.

    Args:
        store: The library's store.
        originals: Its originals.
        timeout_s: Seconds to wait for another writer; None for the store's own.
    """
    with store.write(timeout_s) as db:
        named = {row[0] for row in db.execute("SELECT DISTINCT content_sha256 FROM documents")}
        num_removed = originals.remove_all_but(named)
    if num_removed:
        log.info("library.orphans_removed", num_files=num_removed)


def _remove_stale_snapshots(store: Store, snapshots: Path) -> None:
    """Remove index snapshots of purged collections and those that a crash left unfinished."""
    if not snapshots.is_dir():
        return
    with store.read() as db:
        known = {info.id for info in collection_rows.all_of(db) + collection_rows.removed(db)}
    for path in snapshots.iterdir():
        is_left = path.suffix == ".part" and time.time() - path.stat().st_mtime > _PART_AGE_S
        if is_left or (path.suffix == ".faiss" and path.stem not in map(str, known)):
            path.unlink(missing_ok=True)


def find_problems(db: Connection, originals: Originals) -> list[str]:
    """Return what is wrong, one sentence a problem.

    Checked are SQLite's own integrity, that every searchable document has all its chunks, full-text rows,
    embeddings and its unchanged original, that no removed one has full-text rows, and that no row is left
    over.
    """
    problems = [f"SQLite: {row[0]}." for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
    for info in collection_rows.all_of(db) + collection_rows.removed(db):
        problems += _of_collection(db, info.id, originals)
    loose = {
        "chunks without a document": "chunks WHERE document_seq NOT IN (SELECT seq FROM documents)",
        "embeddings without a chunk": "embeddings WHERE chunk_id NOT IN (SELECT id FROM chunks)",
        "chunks without an embedding": "chunks WHERE id NOT IN (SELECT chunk_id FROM embeddings)",
    }
    for what, rows in loose.items():
        (count,) = db.execute(f"SELECT COUNT(*) FROM {rows}").fetchone()
        problems += [f"{count} {what}."] if count else []
    return problems


def _of_collection(db: Connection, collection_id: int, originals: Originals) -> list[str]:
    problems = []
    table = lexical.table_name(collection_id)
    fulltext = {row[0] for row in db.execute(f"SELECT rowid FROM {table}")}
    for stored in document_rows.documents(db, "d.collection_id = ?", (collection_id,)):
        name = f"{stored.document.name} ({stored.document.id})"
        rows = db.execute("SELECT id, position FROM chunks WHERE document_seq = ? ORDER BY id", (stored.seq,))
        chunks = dict(rows.fetchall())
        if list(chunks.values()) != list(range(stored.document.num_chunks)):
            problems.append(f"{name} has {len(chunks)} chunks, not {stored.document.num_chunks}.")
        wanted = set(chunks) if stored.removed_at is None else set()
        if fulltext & set(chunks) != wanted:
            problems.append(f"{name} has {len(fulltext & set(chunks))} full-text rows, not {len(wanted)}.")
        fulltext -= set(chunks)
        if _sha256(originals, stored.document.content_sha256) != stored.document.content_sha256:
            problems.append(f"The original of {name} is missing or changed.")
    return problems + ([f"{len(fulltext)} full-text rows without a chunk."] if fulltext else [])


def _sha256(originals: Originals, name: str) -> str:
    try:
        with originals.path(name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
