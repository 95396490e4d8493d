"""Chunks in the store: their rows, full-text rows, embeddings and log of changes, always written together.

Place in the data's way: `document_rows.py` calls these inside a write transaction; `search.py` and
`vector_index.py` read. Full-text rows are there exactly while a document is searchable; `changes` tells every
process which vectors to bring up to date.

Example:
    >>> context("Annual report", ("Results", "Europe"))
    'Annual report > Results > Europe'
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.types import Box, Chunk
from . import lexical

VECTOR_DTYPE = np.dtype("<f4")


@dataclass(frozen=True, slots=True)
class NewChunk:
    """A chunk to be written, with its embedding.

    Attributes:
        text: The text.
        start_char: First character in the document's text.
        end_char: One past the last.
        page: Page from 1; None where there are none.
        headings: Section titles around it, outermost first.
        num_tokens: By the embedding model's tokenizer.
        boxes: Where its lines stand.
    """

    text: str
    start_char: int
    end_char: int
    page: int | None
    headings: tuple[str, ...]
    num_tokens: int
    boxes: tuple[Box, ...]


def context(title: str, headings: Sequence[str]) -> str:
    """Return what is searched and embedded together with a chunk: where it stands."""
    return " > ".join(part for part in (title, *headings) if part)


def fetch(db: sqlite3.Connection, chunk_ids: Sequence[int]) -> dict[int, tuple[Chunk, str]]:
    """Return chunks with their documents' names, by row id; ids that are not there are left out."""
    rows = db.execute(
        "SELECT k.id, d.id, k.position, k.text, k.start_char, k.end_char, k.page, k.headings, k.num_tokens, "
        "k.boxes, d.name FROM chunks k JOIN documents d ON d.seq = k.document_seq "
        f"WHERE k.id IN ({_marks(chunk_ids)})",
        tuple(chunk_ids),
    )
    return {row[0]: (_chunk(row[:-1]), row[-1]) for row in rows}


def ids_of(db: sqlite3.Connection, document_ids: Sequence[str]) -> list[int]:
    """Return the row ids of all chunks of those of these documents that are searchable."""
    rows = db.execute(
        "SELECT k.id FROM chunks k JOIN documents d ON d.seq = k.document_seq "
        f"WHERE d.id IN ({_marks(document_ids)}) AND d.removed_at IS NULL",
        tuple(document_ids),
    )
    return [row[0] for row in rows]


def text_of(db: sqlite3.Connection, document_id: str) -> str | None:
    """Return a searchable document's text, put together from its chunks; None where there is none.

    What stands between two chunks is white space; its characters are counted, so that offsets hold.
    """
    rows = db.execute(
        "SELECT k.start_char, k.text FROM documents d JOIN collections c ON c.id = d.collection_id "
        "LEFT JOIN chunks k ON k.document_seq = d.seq "
        "WHERE d.id = ? AND d.removed_at IS NULL AND c.removed_at IS NULL ORDER BY k.position",
        (document_id,),
    ).fetchall()
    if not rows:
        return None
    parts, length = [], 0
    for start, text in rows:
        if start is None or start + len(text) <= length:
            continue  # a document without chunks, or a chunk within the one before
        parts += ["\n" * (start - length), text[max(0, length - start) :]]
        length = start + len(text)
    return "".join(parts)


def vectors(
    db: sqlite3.Connection, chunk_ids: Sequence[int], embedder: str
) -> dict[int, npt.NDArray[np.float32]]:
    """Return the embeddings, (dimension,) float32, of those of these chunks that this model embedded."""
    rows = db.execute(
        "SELECT e.chunk_id, e.vector FROM embeddings e JOIN chunks k ON k.id = e.chunk_id "
        "JOIN documents d ON d.seq = k.document_seq "
        f"WHERE d.embedder = ? AND e.chunk_id IN ({_marks(chunk_ids)})",
        (embedder, *chunk_ids),
    )
    return {row[0]: np.frombuffer(row[1], dtype=VECTOR_DTYPE) for row in rows}


def write(
    db: sqlite3.Connection,
    collection_id: int,
    document_seq: int,
    title: str,
    chunks: Sequence[NewChunk],
    vectors: npt.NDArray[np.float32],
) -> None:
    """Write a document's chunks and make them searchable.

    Args:
        db: A connection inside a write transaction.
        collection_id: The document's collection.
        document_seq: The document's row.
        title: Searched together with every chunk.
        chunks: The chunks in order.
        vectors: (len(chunks), dimension) float32, L2-normalised.
    """
    if len(vectors) != len(chunks):
        raise ValueError(f"{len(chunks)} chunks but {len(vectors)} vectors.")
    for position, (chunk, vector) in enumerate(zip(chunks, vectors, strict=True)):
        cursor = db.execute(
            "INSERT INTO chunks (document_seq, position, text, start_char, end_char, page, headings,"
            " num_tokens, boxes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(document_seq, position, chunk.text, chunk.start_char, chunk.end_char, chunk.page),
                *(json.dumps(chunk.headings), chunk.num_tokens, _boxes_to_json(chunk.boxes)),
            ),
        )
        blob = np.ascontiguousarray(vector, dtype=VECTOR_DTYPE).tobytes()
        db.execute("INSERT INTO embeddings (chunk_id, vector) VALUES (?, ?)", (cursor.lastrowid, blob))
    show(db, collection_id, document_seq, title)


def show(db: sqlite3.Connection, collection_id: int, document_seq: int, title: str) -> None:
    """Make a document's chunks searchable."""
    rows = db.execute(
        "SELECT id, text, headings FROM chunks WHERE document_seq = ?", (document_seq,)
    ).fetchall()
    db.executemany(
        f"INSERT INTO {lexical.table_name(collection_id)} (rowid, context, text) VALUES (?, ?, ?)",
        (
            (chunk_id, lexical.searchable(context(title, json.loads(headings))), lexical.searchable(text))
            for chunk_id, text, headings in rows
        ),
    )
    _record_change(db, collection_id, _span(db, document_seq))


def hide(db: sqlite3.Connection, collection_id: int, document_seq: int) -> None:
    """Make a document's chunks unsearchable but keep them."""
    span = _span(db, document_seq)
    db.execute(f"DELETE FROM {lexical.table_name(collection_id)} WHERE rowid BETWEEN ? AND ?", span)
    _record_change(db, collection_id, span)


def delete(db: sqlite3.Connection, collection_id: int, document_seq: int) -> None:
    """Delete a document's chunks."""
    hide(db, collection_id, document_seq)
    db.execute("DELETE FROM embeddings WHERE chunk_id BETWEEN ? AND ?", _span(db, document_seq))
    db.execute("DELETE FROM chunks WHERE document_seq = ?", (document_seq,))


def _span(db: sqlite3.Connection, document_seq: int) -> tuple[int, int]:
    """Return the first and last chunk of a document; written in one transaction, they are consecutive."""
    query = "SELECT MIN(id), MAX(id) FROM chunks WHERE document_seq = ?"
    first, last = db.execute(query, (document_seq,)).fetchone()
    return (0, -1) if first is None else (first, last)


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _record_change(db: sqlite3.Connection, collection_id: int, span: tuple[int, int]) -> None:
    """Note that the searchable state of these chunks changed.

    The random token tells a snapshot of the FAISS index whether it was taken from this history or from one
    that a restored backup has forgotten.
    """
    db.execute(
        "INSERT INTO changes (collection_id, first_chunk, last_chunk, token) VALUES (?, ?, ?, ?)",
        (collection_id, *span, secrets.token_bytes(8)),
    )


def _chunk(row: tuple[Any, ...]) -> Chunk:
    row_id, document_id, position, text, start_char, end_char, page, headings, num_tokens, boxes = row
    return Chunk(
        f"{document_id}.{row_id}",
        *(document_id, position, text, start_char, end_char, page),
        headings=tuple(json.loads(headings)),
        num_tokens=num_tokens,
        boxes=tuple(Box(*box) for box in json.loads(boxes)),
    )


def _boxes_to_json(boxes: Sequence[Box]) -> str:
    # Five digits of a page's width are finer than any screen.
    rounded = [[b.page, *(round(edge, 5) for edge in (b.left, b.top, b.right, b.bottom))] for b in boxes]
    return json.dumps(rounded, separators=(",", ":"))
