"""Hybrid search: what the vectors find and what BM25 finds, fused by rank.

Place in the data's way: question -> embedding -> FAISS ranking, question -> words -> BM25 ranking, both
inside one read transaction -> reciprocal rank fusion -> `Passage`s.

Example:
    >>> [item for item, _ in fuse([[1, 2, 3], [3, 1]], weights=[1.0, 1.0])]
    [1, 3, 2]
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..core.contracts import Embedder
from ..core.errors import EmbedderMismatchError
from ..core.types import Passage
from . import chunk_rows, collection_rows, lexical
from .collection_rows import CollectionInfo
from .store import Store
from .vector_index import VectorIndex

# Cormack, Clarke, Buettcher: Reciprocal Rank Fusion outperforms Condorcet and individual rank learning
# methods, SIGIR 2009, use k = 60 for rankings a thousand deep. On so flat a curve any weight over 1.07 puts
# the best passage by meaning behind five that merely share words; with k = 10 and 1.2 it stands fourth at
# worst. Measured on questions 201-400 of the SQuAD slice; see docs/decisions/0004-library.md.
RRF_K = 10
DENSE_WEIGHT = 1.0
LEXICAL_WEIGHT = 1.2
MIN_DEPTH = 50


def fuse(rankings: Sequence[Sequence[int]], weights: Sequence[float]) -> list[tuple[int, float]]:
    """Return (item, score) by reciprocal rank fusion, best first; ties go to the earlier ranking.

    Args:
        rankings: Items of each ranking, best first, no item twice in one.
        weights: How much each ranking counts.

    Source: Cormack et al. 2009, equation 1, with a weight for each ranking.
    """
    scores: dict[int, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for place, item in enumerate(ranking, start=1):
            scores[item] = scores.get(item, 0.0) + weight / (RRF_K + place)
    return sorted(scores.items(), key=lambda pair: -pair[1])


class HybridSearch:
    """Searches the collections of one store; keeps their FAISS indexes in memory."""

    def __init__(self, store: Store, embedder: Embedder, snapshots: Path) -> None:
        """Remember the parts; nothing is loaded before the first search.

        Args:
            store: The library's store.
            embedder: Embeds the questions.
            snapshots: Folder of the FAISS snapshots.
        """
        self._store = store
        self._embedder = embedder
        self._snapshots = snapshots
        self._indexes: dict[int, VectorIndex] = {}
        self._lock = threading.Lock()

    def search(
        self, query: str, collection: str, k: int = 8, document_ids: Sequence[str] = ()
    ) -> list[Passage]:
        """Return up to `k` passages, best first.

        Args:
            query: Any text.
            collection: Name of the collection.
            k: Passages wanted.
            document_ids: Only these documents; empty for all.

        Raises:
            IndexNotFoundError: `collection` does not exist.
            EmbedderMismatchError: The collection was embedded with another model.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}.")
        with self._store.read() as db:
            info = collection_rows.named(db, collection)
        if not info.num_chunks:
            return []
        _check_embedder(info, self._embedder.name)
        vector = self._embedder.encode([query])[0]
        depth = max(MIN_DEPTH, 5 * k)
        with self._store.read() as db:
            info = collection_rows.named(db, collection)  # it may have gone while the question was embedded
            chunk_ids = chunk_rows.ids_of(db, document_ids) if document_ids else None
            with self._lock:
                index = self._index(info)
                index.update(db, self._snapshot(info.id))
                dense = index.search(vector, depth, chunk_ids)
            worded = lexical.rank(db, info.id, query, depth, document_ids)
            best = fuse([[i for i, _ in dense], worded], [DENSE_WEIGHT, LEXICAL_WEIGHT])[:k]
            found = chunk_rows.fetch(db, [i for i, _ in best])
            similarity = dict(dense) | self._missing_similarities(db, vector, best, dict(dense))
        dense_rank = {i: place for place, (i, _) in enumerate(dense, start=1)}
        lexical_rank = {i: place for place, i in enumerate(worded, start=1)}
        return [
            Passage(*found[i], rank, score, dense_rank.get(i), lexical_rank.get(i), similarity.get(i))
            for rank, (i, score) in enumerate(best, start=1)
        ]

    def save(self) -> None:
        """Write the snapshots that are behind.

        Raises:
            StorageError: The disk is full; search works without a snapshot.
        """
        with self._lock, self._store.read() as db:
            for collection_id, index in self._indexes.items():
                index.save(db, self._snapshot(collection_id))

    def _index(self, info: CollectionInfo) -> VectorIndex:
        if info.id not in self._indexes:
            self._indexes[info.id] = VectorIndex(info.id, self._embedder.name, self._embedder.dimension)
        return self._indexes[info.id]

    def _snapshot(self, collection_id: int) -> Path:
        return self._snapshots / f"{collection_id}.faiss"

    def _missing_similarities(
        self,
        db: sqlite3.Connection,
        vector: npt.NDArray[np.float32],
        best: Sequence[tuple[int, float]],
        known: dict[int, float],
    ) -> dict[int, float]:
        """Return the cosine of question and chunk for those found by their words alone."""
        unknown = [i for i, _ in best if i not in known]
        vectors = chunk_rows.vectors(db, unknown, self._embedder.name)
        return {i: float(vectors[i] @ vector) for i in vectors}


def _check_embedder(info: CollectionInfo, embedder: str) -> None:
    if info.embedder is not None and info.embedder != embedder:
        raise mismatch(info, embedder)


def mismatch(info: CollectionInfo, embedder: str) -> EmbedderMismatchError:
    """Return the error for a collection of another embedding model."""
    return EmbedderMismatchError(
        f"The collection {info.name!r} was embedded with {info.embedder}, but {embedder} is in use.",
        hint="Re-index the collection, or go back to its embedding model in the settings.",
    )
