"""The documents of a library as rows, and the few changes that can be made to them.

Place in the data's way: every function takes a connection inside a transaction of `Store`; those that change
anything keep four things in step: the chunk rows, their full-text rows (present exactly while the document is
searchable), their embeddings, and a line in `changes` from which every process brings its FAISS index up to
date.

Example:
    >>> import tempfile
    >>> from pathlib import Path
    >>> from localsmith.retrieval.store import Store
    >>> store = Store(Path(tempfile.mkdtemp()) / "library.sqlite3")
    >>> with store.read() as db:
    ...     documents(db, "d.name = ?", ["plan.pdf"])
    []
    >>> store.close()
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from sqlite3 import Connection
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.errors import IndexNotFoundError
from ..core.types import Document
from . import chunk_rows
from .chunk_rows import NewChunk


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A parsed document to be written.

    Attributes:
        name: File name for people.
        title: Title from its metadata, or its name without the ending.
        media_type: IANA media type.
        content_sha256: Of the original file.
        size_bytes: Of the original file.
        num_pages: Pages; None where there are none.
        warnings: What could not be read.
        chunks: Its text.
    """

    name: str
    title: str
    media_type: str
    content_sha256: str
    size_bytes: int
    num_pages: int | None
    warnings: tuple[str, ...]
    chunks: tuple[NewChunk, ...]


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document's row: what people see of it and what the library needs besides.

    Attributes:
        seq: Row number.
        collection_id: Its collection.
        document: What people see.
        title: Searched together with every chunk.
        embedder: Identity of the model of its embeddings.
        removed_at: When it was removed; None while it is searchable.
    """

    seq: int
    collection_id: int
    document: Document
    title: str
    embedder: str
    removed_at: float | None


@dataclass(frozen=True, slots=True)
class RemovedDocument:
    """A document that can still be restored.

    Attributes:
        document: The document.
        removed_at: Seconds since the epoch, UTC.
        restorable_until: After this it may be purged.
    """

    document: Document
    removed_at: float
    restorable_until: float


_DOCUMENT = (
    "SELECT d.seq, d.collection_id, d.title, d.embedder, d.removed_at, d.id, c.name, d.name, d.media_type, "
    "d.content_sha256, d.size_bytes, d.num_pages, d.num_chunks, d.added_at, d.warnings "
    "FROM documents d JOIN collections c ON c.id = d.collection_id "
)


def documents(
    db: Connection, where: str, arguments: Sequence[object] | Mapping[str, object] = ()
) -> list[StoredDocument]:
    """Return the documents that fulfil an SQL condition on `d`, in order of adding."""
    return [_stored(row) for row in db.execute(f"{_DOCUMENT} WHERE {where} ORDER BY d.seq", arguments)]


def in_collection(db: Connection, collection_id: int, is_removed: bool = False) -> list[StoredDocument]:
    """Return a collection's searchable documents, or its removed ones."""
    condition = f"d.collection_id = ? AND d.removed_at IS {'NOT ' if is_removed else ''}NULL"
    return documents(db, condition, (collection_id,))


def document(db: Connection, document_id: str) -> StoredDocument:
    """Return a document, searchable or removed.

    Raises:
        IndexNotFoundError: There is none with this id.
    """
    found = documents(db, "d.id = ?", (document_id,))
    if not found:
        raise IndexNotFoundError(f"There is no document {document_id!r}.", hint="List the documents.")
    return found[0]


def insert_document(
    db: Connection,
    collection_id: int,
    new: NewDocument,
    vectors: npt.NDArray[np.float32],
    embedder: str,
) -> StoredDocument:
    """Write a document with all that makes it searchable.

    Args:
        db: A connection inside a write transaction.
        collection_id: Where it goes.
        new: The document.
        vectors: (num_chunks, dimension) float32, L2-normalised.
        embedder: Identity of the model that made them.
    """
    document_id = uuid.uuid4().hex
    cursor = db.execute(
        "INSERT INTO documents (id, collection_id, name, title, media_type, content_sha256, size_bytes,"
        " num_pages, num_chunks, added_at, warnings, embedder) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(document_id, collection_id, new.name, new.title, new.media_type, new.content_sha256),
            *(new.size_bytes, new.num_pages, len(new.chunks), time.time()),
            *(json.dumps(new.warnings), embedder),
        ),
    )
    assert cursor.lastrowid is not None
    chunk_rows.write(db, collection_id, cursor.lastrowid, new.title, new.chunks, vectors)
    return document(db, document_id)


def replace_chunks(
    db: Connection,
    stored: StoredDocument,
    new: NewDocument,
    vectors: npt.NDArray[np.float32],
    embedder: str,
) -> None:
    """Put a new reading of the same file in the place of the old one; the document keeps its id and name."""
    chunk_rows.delete(db, stored.collection_id, stored.seq)
    db.execute(
        "UPDATE documents SET title = ?, media_type = ?, num_pages = ?, num_chunks = ?, warnings = ?,"
        " embedder = ? WHERE seq = ?",
        (
            new.title,
            new.media_type,
            new.num_pages,
            len(new.chunks),
            json.dumps(new.warnings),
            embedder,
            stored.seq,
        ),
    )
    chunk_rows.write(db, stored.collection_id, stored.seq, new.title, new.chunks, vectors)


def remove_document(db: Connection, stored: StoredDocument) -> None:
    """Make a document unsearchable; its chunks stay for `restore_document`."""
    db.execute("UPDATE documents SET removed_at = ? WHERE seq = ?", (time.time(), stored.seq))
    chunk_rows.hide(db, stored.collection_id, stored.seq)


def restore_document(db: Connection, stored: StoredDocument, name: str | None = None) -> None:
    """Make a removed document searchable again, under another name where one is given."""
    name = name or stored.document.name
    db.execute("UPDATE documents SET removed_at = NULL, name = ? WHERE seq = ?", (name, stored.seq))
    chunk_rows.show(db, stored.collection_id, stored.seq, stored.title)


def purge_document(db: Connection, stored: StoredDocument) -> None:
    """Delete a document for good."""
    chunk_rows.delete(db, stored.collection_id, stored.seq)
    db.execute("DELETE FROM documents WHERE seq = ?", (stored.seq,))


def _stored(row: tuple[Any, ...]) -> StoredDocument:
    document = Document(
        *(row[5], row[6], row[7], row[8], row[9], row[10], row[11], row[12], row[13]),
        warnings=tuple(json.loads(row[14])),
    )
    return StoredDocument(row[0], row[1], document, row[2], row[3], row[4])
