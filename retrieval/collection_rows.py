"""The collections of a library as rows: listing, naming, deleting with undo, purging.

Place in the data's way: `Library` calls these inside a transaction of `Store`; documents live in
`document_rows.py`.

Example:
    >>> normal_name("  Papers ")
    'Papers'
"""

from __future__ import annotations

import time
import unicodedata
from dataclasses import dataclass
from sqlite3 import Connection

from ..core.errors import IndexNotFoundError
from ..core.types import DEFAULT_COLLECTION
from . import document_rows, lexical

MAX_NAME_CHARS = 80


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """A named set of documents.

    Attributes:
        id: Identifier, unique even among removed collections.
        name: Its name, unique among those not removed.
        num_documents: Documents that can be searched.
        num_chunks: Their chunks.
        num_stale: Documents embedded with another model than `embedder`; found by words only until
            re-indexed.
        embedder: Identity of the embedding model; None before the first document.
        created_at: Seconds since the epoch, UTC.
        removed_at: When it was deleted; None where it was not.
    """

    id: int
    name: str
    num_documents: int
    num_chunks: int
    num_stale: int
    embedder: str | None
    created_at: float
    removed_at: float | None = None


def all_of(db: Connection) -> list[CollectionInfo]:
    """Return the collections in use, in order of creation."""
    return _select(db, "c.removed_at IS NULL", ())


def removed(db: Connection) -> list[CollectionInfo]:
    """Return the collections that were deleted and not yet purged."""
    return _select(db, "c.removed_at IS NOT NULL", ())


def named(db: Connection, name: str) -> CollectionInfo:
    """Return the collection of this name.

    Raises:
        IndexNotFoundError: There is none.
    """
    found = _select(db, "c.removed_at IS NULL AND c.name = ?", (_storable(name),))
    if not found:
        raise IndexNotFoundError(
            f"There is no collection named {name!r}.", hint="List the collections, or create it first."
        )
    return found[0]


def create(db: Connection, name: str) -> CollectionInfo:
    """Add an empty collection.

    Raises:
        ValueError: The name is empty, too long, taken or has unprintable characters.
    """
    fitting = _new_name(db, name)
    query = "INSERT INTO collections (name, created_at) VALUES (?, ?)"
    collection_id = db.execute(query, (fitting, time.time())).lastrowid
    assert collection_id is not None
    lexical.create_table(db, collection_id)
    return named(db, fitting)


def rename(db: Connection, name: str, new_name: str) -> CollectionInfo:
    """Rename a collection.

    Raises:
        IndexNotFoundError: There is no such collection.
        ValueError: The new name can't be used, or it is the default collection.
    """
    info = named(db, _not_default(name))
    fitting = _new_name(db, new_name, besides=info.id)
    db.execute("UPDATE collections SET name = ? WHERE id = ?", (fitting, info.id))
    return named(db, fitting)


def remove(db: Connection, name: str) -> CollectionInfo:
    """Delete a collection so that it can be restored.

    Raises:
        IndexNotFoundError: There is no such collection.
        ValueError: It is the default collection.
    """
    info = named(db, _not_default(name))
    db.execute("UPDATE collections SET removed_at = ? WHERE id = ?", (time.time(), info.id))
    return info


def restore(db: Connection, collection_id: int) -> CollectionInfo:
    """Bring a deleted collection back; where its name is taken by now, " 2" and so on is added.

    Raises:
        IndexNotFoundError: It was purged, or never deleted.
    """
    gone = [info for info in removed(db) if info.id == collection_id]
    if not gone:
        raise IndexNotFoundError(f"There is no deleted collection {collection_id}.")
    taken = {info.name.casefold() for info in all_of(db)}
    name, number = gone[0].name, 2
    while name.casefold() in taken:
        name, number = f"{gone[0].name} {number}", number + 1
    db.execute("UPDATE collections SET removed_at = NULL, name = ? WHERE id = ?", (name, collection_id))
    return named(db, name)


def set_embedder(db: Connection, collection_id: int, embedder: str) -> None:
    """Note which model's questions the collection answers."""
    db.execute("UPDATE collections SET embedder = ? WHERE id = ?", (embedder, collection_id))


_DUE = "d.removed_at < :cutoff OR d.collection_id IN (SELECT id FROM collections WHERE removed_at < :cutoff)"


def has_removed_before(db: Connection, cutoff: float) -> bool:
    """Return whether anything was removed before this time (seconds since the epoch)."""
    query = f"SELECT EXISTS (SELECT 1 FROM documents d WHERE {_DUE}) OR EXISTS "
    query += "(SELECT 1 FROM collections WHERE removed_at < :cutoff)"
    return bool(db.execute(query, {"cutoff": cutoff}).fetchone()[0])


def purge_removed(db: Connection, cutoff: float) -> int:
    """Delete the documents and collections removed before this time for good; return how many documents."""
    due = document_rows.documents(db, _DUE, {"cutoff": cutoff})
    for stored in due:
        document_rows.purge_document(db, stored)
    gone = db.execute("SELECT id FROM collections WHERE removed_at < ?", (cutoff,)).fetchall()
    for (collection_id,) in gone:
        lexical.drop_table(db, collection_id)
        db.execute("DELETE FROM collections WHERE id = ?", (collection_id,))
    return len(due)


def normal_name(name: str) -> str:
    """Return the form of a name that is stored."""
    return unicodedata.normalize("NFC", name).strip()


def _new_name(db: Connection, name: str, besides: int | None = None) -> str:
    normal = normal_name(name)
    if not 1 <= len(normal) <= MAX_NAME_CHARS or not normal.isprintable():
        raise ValueError(f"A collection's name has 1 to {MAX_NAME_CHARS} printable characters, not {name!r}.")
    for info in all_of(db):
        if info.name.casefold() == normal.casefold() and info.id != besides:
            raise ValueError(f"There is a collection named {info.name!r} already.")
    return normal


def _not_default(name: str) -> str:
    if name == DEFAULT_COLLECTION:
        raise ValueError(f"The collection {name!r} is always there; remove its documents instead.")
    return name


def _storable(name: str) -> str:
    return name.encode("utf-8", "replace").decode("utf-8")


def _select(db: Connection, condition: str, arguments: tuple[str, ...]) -> list[CollectionInfo]:
    rows = db.execute(
        "SELECT c.id, c.name, COUNT(d.seq), COALESCE(SUM(d.num_chunks), 0), "
        "COALESCE(SUM(d.embedder <> c.embedder), 0), c.embedder, c.created_at, c.removed_at "
        "FROM collections c LEFT JOIN documents d ON d.collection_id = c.id AND d.removed_at IS NULL "
        f"WHERE {condition} GROUP BY c.id ORDER BY c.id",
        arguments,
    )
    return [CollectionInfo(*row) for row in rows]
