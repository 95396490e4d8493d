"""What happens to one file on its way into the library: adding a new one, reading a stored one again.

Place in the data's way: `ingest.py` calls `prepare` (copy, hash, parse, cut) in a second thread and `commit`
after the embedding. `commit` is one transaction; the original file is in its place before it ends.

Example:
    >>> title_of("annual_report-2024.pdf", "")
    'annual report-2024'
    >>> title_of("q3.pdf", "Third quarter")
    'Third quarter (q3)'
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..core.contracts import Embedder
from ..core.errors import IndexNotFoundError, LoadError, LocalsmithError
from ..core.settings import RetrievalSettings
from . import collection_rows, document_rows
from .chunk_rows import NewChunk, context
from .chunking import ChunkDraft, split
from .collection_rows import CollectionInfo
from .document_rows import NewDocument, StoredDocument
from .ingest import Prepared, Settled
from .loaded import LoadedDocument
from .originals import Originals, StagedFile, too_large
from .search import mismatch
from .sources import Job
from .store import Store

_LONGEST_ENDING_CHARS = 10
_SURROGATE = re.compile("[\ud800-\udfff]")


class Parser(Protocol):
    """Reads a file's text; the real one does so in a process of its own, with limits."""

    def parse(self, path: Path, name: str) -> LoadedDocument:
        """Return the file's text.

        Raises:
            LoadError: It can't be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What both kinds of steps work with."""

    store: Store
    originals: Originals
    embedder: Embedder
    parser: Parser
    settings: RetrievalSettings


class Adding:
    """Adds new files to a collection."""

    def __init__(self, parts: Parts, collection: str, is_replacing: bool) -> None:
        """Work on one batch.

        Args:
            parts: The library's parts.
            collection: Where the documents go.
            is_replacing: Whether a document of the same name makes way for the new one.
        """
        self._parts = parts
        self._collection = collection
        self._is_replacing = is_replacing

    def prepare(self, job: Job, should_stop: Callable[[], bool]) -> Prepared | Settled:
        """Copy, hash, look for a duplicate, parse and cut."""
        parts = self._parts
        limit = parts.settings.max_file_bytes
        if job.size_bytes is not None and job.size_bytes > limit:
            raise too_large(limit)
        with job.open() as source:
            staged = parts.originals.stage(source, limit, should_stop)
        try:
            settled = self._settle_present(job, staged)
            if settled is None:
                loaded = parts.parser.parse(staged.path, job.name)
                return _prepared(parts, job.name, loaded, staged.sha256, staged.size_bytes, staged)
        except BaseException:
            staged.path.unlink(missing_ok=True)
            raise
        staged.path.unlink(missing_ok=True)
        return settled

    def commit(self, job: Job, prepared: Prepared, vectors: npt.NDArray[np.float32]) -> Settled:
        """Write the document, unless another process has added the same content by now."""
        parts, staged, new = self._parts, prepared.staged, prepared.document
        assert staged is not None
        try:
            with parts.store.write() as db:
                info = collection_for(db, self._collection, parts.embedder.name)
                present = _with_content(db, info.id, new.content_sha256)
                if present is not None and present.removed_at is None:
                    return Settled(present.document, "duplicate")
                if present is not None:  # removed, and embedded with another model: start afresh
                    document_rows.purge_document(db, present)
                self._make_way(db, info.id, new.name)
                parts.originals.keep(staged)
                stored = document_rows.insert_document(db, info.id, new, vectors, parts.embedder.name)
                collection_rows.set_embedder(db, info.id, parts.embedder.name)
        except BaseException:
            _discard_unnamed(parts, new.content_sha256)
            raise
        finally:
            staged.path.unlink(missing_ok=True)
        return Settled(stored.document, "added")

    def discard(self, prepared: Prepared) -> None:
        """Remove the copy of a file that was cancelled."""
        if prepared.staged is not None:
            prepared.staged.path.unlink(missing_ok=True)

    def _settle_present(self, job: Job, staged: StagedFile) -> Settled | None:
        """Return the document that has this content already, made searchable again if it was removed."""
        parts = self._parts
        with parts.store.read() as db:
            info = collection_rows.named(db, self._collection)
            present = _with_content(db, info.id, staged.sha256)
        if present is None:
            return None
        if present.removed_at is None:
            return Settled(present.document, "duplicate")
        with parts.store.write() as db:
            present = _with_content(db, info.id, staged.sha256)
            if present is None or present.removed_at is None or present.embedder != parts.embedder.name:
                return None  # commit() sorts out what happened in between
            self._make_way(db, info.id, job.name)
            document_rows.restore_document(db, present, job.name)
            return Settled(document_rows.document(db, present.document.id).document, "restored")

    def _make_way(self, db: Connection, collection_id: int, name: str) -> None:
        if self._is_replacing:
            same_name = "d.collection_id = ? AND d.name = ? AND d.removed_at IS NULL"
            for old in document_rows.documents(db, same_name, (collection_id, name)):
                document_rows.remove_document(db, old)


class Reindexing:
    """Reads stored originals again and swaps the new chunks in, document by document."""

    def __init__(self, parts: Parts) -> None:
        """Work on one batch."""
        self._parts = parts

    def prepare(self, job: Job, should_stop: Callable[[], bool]) -> Prepared | Settled:
        """Parse and cut the stored original."""
        with self._parts.store.read() as db:
            old = document_rows.document(db, job.document_id).document
        path = self._parts.originals.path(old.content_sha256)
        if not path.is_file():
            raise LoadError(
                f"The stored copy of {old.name} is missing.", "unreadable", hint="Add the file again."
            )
        loaded = self._parts.parser.parse(path, old.name)
        return _prepared(self._parts, old.name, loaded, old.content_sha256, old.size_bytes, None)

    def commit(self, job: Job, prepared: Prepared, vectors: npt.NDArray[np.float32]) -> Settled:
        """Swap the chunks; until this ends, searches see the old ones."""
        embedder = self._parts.embedder.name
        with self._parts.store.write() as db:
            stored = document_rows.document(db, job.document_id)
            if stored.removed_at is not None:
                raise IndexNotFoundError(f"{job.name} was removed in the meantime.")
            document_rows.replace_chunks(db, stored, prepared.document, vectors, embedder)
            # From the first document on, the collection answers with the new model; documents that still wait
            # are found by their words until their turn comes.
            collection_rows.set_embedder(db, stored.collection_id, embedder)
            return Settled(document_rows.document(db, job.document_id).document, "added")

    def discard(self, prepared: Prepared) -> None:
        """Do nothing: no copy was made."""


def collection_for(db: Connection, name: str, embedder: str) -> CollectionInfo:
    """Return the collection, checked to take documents of this embedding model.

    Raises:
        IndexNotFoundError: There is no such collection.
        EmbedderMismatchError: It holds documents of another model.
    """
    info = collection_rows.named(db, name)
    if info.num_documents and info.embedder != embedder:
        raise mismatch(info, embedder)
    return info


def title_of(name: str, title: str) -> str:
    """Return what a document is found by besides its text: its own title and its file name."""
    stem, _, ending = name.rpartition(".")
    shown = (stem if stem and len(ending) <= _LONGEST_ENDING_CHARS else name).replace("_", " ")
    own = " ".join(_storable(title).split())
    return f"{own} ({shown})" if own and own != shown else shown


def embedding_texts(embedder: Embedder, chunks: tuple[NewChunk, ...]) -> tuple[str, ...]:
    """Return what is embedded for each chunk: the headings it stands under, then its text.

    The headings are cut at a token so that the model reads the chunk to its end. The title stays out: it is
    often a file name that says nothing, and it did not help where it says something (decision 0004).
    """
    spans: dict[str, list[tuple[int, int]]] = {}
    texts = []
    for chunk in chunks:
        head = context("", chunk.headings)
        if head not in spans:
            spans[head] = embedder.token_spans(head)
        room_tokens = max(0, embedder.max_tokens - chunk.num_tokens)
        if len(spans[head]) > room_tokens:
            head = head[: spans[head][room_tokens - 1][1]] if room_tokens else ""
        texts.append(f"{head}\n{chunk.text}" if head else chunk.text)
    return tuple(texts)


def _prepared(
    parts: Parts, name: str, loaded: LoadedDocument, sha256: str, size_bytes: int, staged: StagedFile | None
) -> Prepared:
    chunk_tokens = min(parts.settings.chunk_tokens, parts.embedder.max_tokens)
    overlap_tokens = min(parts.settings.chunk_overlap_tokens, chunk_tokens // 2)
    drafts = split(loaded, parts.embedder.token_spans, chunk_tokens, overlap_tokens)
    if not drafts:
        raise LoadError(f"{name} has no text.", "no_text", hint="If it is a scan, run it through OCR first.")
    chunks = tuple(_new_chunk(draft) for draft in drafts)
    title = title_of(name, loaded.title)
    new = NewDocument(
        name, title, loaded.media_type, sha256, size_bytes, loaded.num_pages, loaded.warnings, chunks
    )
    return Prepared(new, embedding_texts(parts.embedder, chunks), staged)


def _new_chunk(draft: ChunkDraft) -> NewChunk:
    headings = tuple(_storable(heading) for heading in draft.headings)
    return NewChunk(
        *(_storable(draft.text), draft.start_char, draft.end_char, draft.page, headings),
        *(draft.num_tokens, draft.boxes),
    )


def _storable(text: str) -> str:
    """Replace lone surrogates, which no file of text can hold, one for one: offsets stay."""
    return _SURROGATE.sub("\ufffd", text)


def _with_content(db: Connection, collection_id: int, sha256: str) -> StoredDocument | None:
    found = document_rows.documents(
        db, "d.collection_id = ? AND d.content_sha256 = ?", (collection_id, sha256)
    )
    return found[0] if found else None


def _discard_unnamed(parts: Parts, sha256: str) -> None:
    """Remove an original whose transaction failed, unless another process has named it by now."""
    with contextlib.suppress(LocalsmithError), parts.store.write() as db:
        if not document_rows.documents(db, "d.content_sha256 = ?", (sha256,)):
            parts.originals.discard(sha256)
