"""Checks a whole library against itself: what a person runs after a crash or a restored backup.

Place in the data's way: beside it; `Library.verify` and the crash tests call it, nothing depends on it.

Example:
    library.verify()  # [] where all is well
"""

from __future__ import annotations

import hashlib
from sqlite3 import Connection

from . import collection_rows, document_rows, lexical
from .originals import Originals


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
