"""The vectors of one collection in FAISS: exact cosine search, derived from the store.

Place in the data's way: `search.py` brings it up to date with the store's `changes` before every search, so a
document added by any process is found at once. A snapshot on disk saves reading all vectors after a start; it
is checked, and rebuilt from the store where it is missing, damaged or from another history.

Example:
    >>> VectorIndex(collection_id=1, embedder="m", dimension=2).size
    0
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import uuid
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog

from .chunk_rows import VECTOR_DTYPE
from .originals import translated_os_errors

log = structlog.get_logger(__name__)

_SNAPSHOT_FORMAT = 1
# Below this many vectors reading them from the store is as fast as a snapshot.
SNAPSHOT_MIN_VECTORS = 2000
_VECTORS = (
    "SELECT e.chunk_id, e.vector FROM embeddings e JOIN chunks k ON k.id = e.chunk_id "
    "JOIN documents d ON d.seq = k.document_seq "
    "WHERE d.collection_id = ? AND d.embedder = ? AND d.removed_at IS NULL"
)


class VectorIndex:
    """An exact inner-product index over the searchable chunks that one embedding model has embedded.

    Not safe for threads: its owner holds a lock around every call.
    """

    def __init__(self, collection_id: int, embedder: str, dimension: int) -> None:
        """Start empty, at the beginning of the store's history."""
        self._collection_id = collection_id
        self._embedder = embedder
        self._dimension = dimension
        self._index: Any = None
        self._seq = 0
        self._snapshot_seq = 0

    @property
    def size(self) -> int:
        """Vectors held."""
        return 0 if self._index is None else int(self._index.ntotal)

    def update(self, db: sqlite3.Connection, snapshot: Path) -> None:
        """Bring the index to the state that `db`'s transaction sees.

        Args:
            db: A connection inside a read transaction.
            snapshot: Where a snapshot may lie; read at the first call only.
        """
        (latest,) = db.execute(
            "SELECT COALESCE(MAX(seq), 0) FROM changes WHERE collection_id = ?", (self._collection_id,)
        ).fetchone()
        if self._index is None:
            self._load(db, snapshot)
        if latest > self._seq:
            self._apply_changes(db)
        elif latest < self._seq:  # the store was put back to an earlier state under our feet
            self._rebuild(db)
        self._seq = latest

    def search(
        self, vector: npt.NDArray[np.float32], depth: int, chunk_ids: Sequence[int] | None = None
    ) -> list[tuple[int, float]]:
        """Return up to `depth` (chunk id, cosine similarity), most similar first.

        Args:
            vector: (dimension,) float32, L2-normalised.
            depth: Chunks wanted.
            chunk_ids: Only these chunks; None for all.
        """
        if not self.size or (chunk_ids is not None and not len(chunk_ids)):
            return []
        parameters: Any = None
        if chunk_ids is not None:
            parameters = _only(chunk_ids)
        similarities, ids = self._index.search(
            np.ascontiguousarray(vector[None, :], dtype=np.float32), min(depth, self.size), params=parameters
        )
        # FAISS fills up with -1 where fewer were found.
        return [(int(i), float(s)) for i, s in zip(ids[0], similarities[0], strict=True) if i >= 0]

    def save(self, db: sqlite3.Connection, snapshot: Path, min_vectors: int = SNAPSHOT_MIN_VECTORS) -> bool:
        """Write a snapshot, atomically, where the one on disk is behind and it is worth it.

        Returns:
            Whether one was written.

        Raises:
            StorageError: The disk is full; the old snapshot is still there.
        """
        if self.size < min_vectors or self._seq == self._snapshot_seq:
            return False
        import faiss

        payload = faiss.serialize_index(self._index)
        header = {
            "format": _SNAPSHOT_FORMAT,
            "embedder": self._embedder,
            "seq": self._seq,
            "token": _token(db, self._seq),
            "crc32": zlib.crc32(payload.data),
        }
        partial = snapshot.with_name(f"{snapshot.name}.{uuid.uuid4().hex}.part")
        with translated_os_errors(snapshot.parent):
            snapshot.parent.mkdir(parents=True, exist_ok=True)
            try:
                with partial.open("wb") as file:
                    file.write(json.dumps(header).encode() + b"\n")
                    file.write(payload.data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(partial, snapshot)
            finally:
                partial.unlink(missing_ok=True)
        self._snapshot_seq = self._seq
        return True

    def _load(self, db: sqlite3.Connection, snapshot: Path) -> None:
        import faiss

        with contextlib.suppress(FileNotFoundError):
            loaded = _read_snapshot(snapshot, self._embedder, db)
            if loaded is not None and loaded[0].d == self._dimension:
                self._index, self._seq = loaded
                self._snapshot_seq = self._seq
                return
            log.warning("vector_index.snapshot_rejected", path=str(snapshot))
        self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(self._dimension))
        self._rebuild(db)
        row = db.execute(
            "SELECT COALESCE(MAX(seq), 0) FROM changes WHERE collection_id = ?", (self._collection_id,)
        )
        self._seq = row.fetchone()[0]

    def _rebuild(self, db: sqlite3.Connection) -> None:
        self._index.reset()
        self._add(db.execute(_VECTORS, (self._collection_id, self._embedder)).fetchall())

    def _apply_changes(self, db: sqlite3.Connection) -> None:
        """Drop every chunk that a change touched, then add those of them that are searchable now."""
        import faiss

        spans = db.execute(
            "SELECT DISTINCT first_chunk, last_chunk FROM changes WHERE collection_id = ? AND seq > ? "
            "AND last_chunk >= first_chunk ORDER BY first_chunk",
            (self._collection_id, self._seq),
        ).fetchall()
        if not spans:
            return
        held = faiss.vector_to_array(self._index.id_map)
        firsts, lasts = np.array(spans, dtype=np.int64).T
        # Spans of different documents never overlap: the span that may hold an id is the last to start before
        # it.
        place = np.searchsorted(firsts, held, side="right") - 1
        touched = held[(place >= 0) & (held <= lasts[place])]
        if len(touched):
            self._index.remove_ids(faiss.IDSelectorBatch(touched))
        for first, last in spans:
            arguments = (self._collection_id, self._embedder, first, last)
            self._add(db.execute(f"{_VECTORS} AND e.chunk_id BETWEEN ? AND ?", arguments).fetchall())

    def _add(self, rows: Sequence[tuple[int, bytes]]) -> None:
        if not rows:
            return
        ids = np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows))
        vectors = np.frombuffer(b"".join(row[1] for row in rows), dtype=VECTOR_DTYPE)
        self._index.add_with_ids(np.ascontiguousarray(vectors.reshape(len(rows), self._dimension)), ids)


def _only(chunk_ids: Sequence[int]) -> Any:
    import faiss

    parameters: Any = faiss.SearchParameters  # its stub knows no arguments
    return parameters(sel=faiss.IDSelectorBatch(np.asarray(chunk_ids, dtype=np.int64)))


def _token(db: sqlite3.Connection, seq: int) -> str:
    row = db.execute("SELECT token FROM changes WHERE seq = ?", (seq,)).fetchone()
    return "" if row is None else row[0].hex()


def _read_snapshot(path: Path, embedder: str, db: sqlite3.Connection) -> tuple[Any, int] | None:
    """Return the index and the change it reflects; None where it is damaged or of another history."""
    import faiss

    data = path.read_bytes()
    head, _, payload = data.partition(b"\n")
    try:
        header = json.loads(head)
        fits = (
            header["format"] == _SNAPSHOT_FORMAT
            and header["embedder"] == embedder
            and header["crc32"] == zlib.crc32(payload)
            and header["token"] == _token(db, header["seq"])
            and header["token"] != ""
        )
    except (ValueError, KeyError, TypeError):
        return None
    if not fits:
        return None
    return faiss.deserialize_index(np.frombuffer(payload, dtype=np.uint8)), int(header["seq"])
