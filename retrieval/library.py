"""A person's documents on disk: named collections to add to, to list, to undo in and to search.

Place in the data's way: the front of `retrieval`. Files go in through `ingest`, passages come out of
`search`. Opening is instant: the embedding model, the parser process and FAISS start with the first use.
Several processes may read and write one folder at once.

Longer than 300 lines because it is the one page of all that a person can do with a library; how it is done
stands in the modules it calls.

Example:
    library = Library(settings.library_dir, embedder, settings.retrieval)
    library.add("handbook.pdf")
    library.search("How many days of leave?", "default")[0].chunk.page
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import structlog

from ..core.contracts import Embedder
from ..core.errors import IndexNotFoundError, StorageError
from ..core.settings import RetrievalSettings
from ..core.types import DEFAULT_COLLECTION, Document, Passage
from . import chunk_rows, collection_rows, document_rows, upkeep
from .collection_rows import CollectionInfo
from .document_rows import RemovedDocument
from .ingest import FileAdded, FileDuplicate, FileFailed, IngestEvent, run_ingest
from .originals import Originals, translated_os_errors
from .search import HybridSearch
from .sources import Job, Source, job_of, open_file, path_job
from .store import WRITE_TIMEOUT_S, Store
from .writing import Adding, Parser, Parts, Reindexing, collection_for

if TYPE_CHECKING:
    from .parser_process import ParserProcess

log = structlog.get_logger(__name__)


class Library:
    """Collections of documents in one folder. Safe for threads; a context manager."""

    def __init__(
        self,
        folder: Path,
        embedder: Embedder,
        settings: RetrievalSettings,
        *,
        parser: Parser | None = None,
        write_timeout_s: float = WRITE_TIMEOUT_S,
    ) -> None:
        """Open the library, and create it where it is missing.

        Args:
            folder: Its folder; only the library writes there.
            embedder: Embeds chunks and questions; not touched before the first of them.
            settings: How documents are read, cut and kept.
            parser: Reads files; None for the parser process with the settings' limits.
            write_timeout_s: Seconds to wait for another process that is writing.

        Raises:
            StorageError: The folder can't be written, or its file is damaged or newer than this version.
        """
        folder = Path(folder)
        with translated_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._settings = settings
        self._embedder = embedder
        self._store = Store(folder / "library.sqlite3", write_timeout_s)
        self._originals = Originals(folder)
        snapshots = folder / "index"
        self._search = HybridSearch(self._store, embedder, snapshots)
        self._parser = parser
        self._own_parser: ParserProcess | None = None
        upkeep.tidy(self._store, self._originals, snapshots, settings.undo_days)

    def close(self) -> None:
        """Write the index snapshot and close the files; what was added is safe without it."""
        try:
            self._search.save()
        except StorageError as exc:
            log.warning("library.snapshot_not_saved", error=str(exc))
        if self._own_parser is not None:
            self._own_parser.close()
        self._originals.close()
        self._store.close()

    def __enter__(self) -> Library:
        """Return the library."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    # --- collections

    def collections(self) -> list[CollectionInfo]:
        """Return the collections, the default one first."""
        with self._store.read() as db:
            return collection_rows.all_of(db)

    def create_collection(self, name: str) -> CollectionInfo:
        """Add an empty collection.

        Raises:
            ValueError: The name is empty, too long, taken or has unprintable characters.
        """
        with self._store.write() as db:
            return collection_rows.create(db, name)

    def rename_collection(self, name: str, new_name: str) -> CollectionInfo:
        """Rename a collection; its documents stay.

        Raises:
            IndexNotFoundError: There is no such collection.
            ValueError: The new name can't be used, or it is the default collection.
        """
        with self._store.write() as db:
            return collection_rows.rename(db, name, new_name)

    def delete_collection(self, name: str) -> CollectionInfo:
        """Delete a collection with its documents; `restore_collection` undoes it for `undo_days`.

        Raises:
            IndexNotFoundError: There is no such collection.
            ValueError: It is the default collection.
        """
        with self._store.write() as db:
            return collection_rows.remove(db, name)

    def removed_collections(self) -> list[CollectionInfo]:
        """Return the deleted collections that can still be restored."""
        with self._store.read() as db:
            return collection_rows.removed(db)

    def restore_collection(self, collection_id: int) -> CollectionInfo:
        """Bring a deleted collection back; where its name is taken by now, " 2" and so on is added.

        Raises:
            IndexNotFoundError: It was purged, or never deleted.
        """
        with self._store.write() as db:
            return collection_rows.restore(db, collection_id)

    # --- documents

    def documents(self, collection: str = DEFAULT_COLLECTION) -> list[Document]:
        """Return a collection's documents in order of adding.

        Raises:
            IndexNotFoundError: There is no such collection.
        """
        with self._store.read() as db:
            info = collection_rows.named(db, collection)
            found = document_rows.in_collection(db, info.id)
        return [stored.document for stored in found]

    def removed_documents(self, collection: str = DEFAULT_COLLECTION) -> list[RemovedDocument]:
        """Return the documents of a collection that can be restored."""
        with self._store.read() as db:
            info = collection_rows.named(db, collection)
            found = document_rows.in_collection(db, info.id, is_removed=True)
        undo_s = self._settings.undo_days * upkeep.DAY_S
        return [
            RemovedDocument(s.document, s.removed_at, s.removed_at + undo_s) for s in found if s.removed_at
        ]

    def document(self, document_id: str) -> Document:
        """Return a document, also a removed one: citations of old conversations still open.

        Raises:
            IndexNotFoundError: There is none with this id, or it was purged.
        """
        with self._store.read() as db:
            return document_rows.document(db, document_id).document

    def text(self, document_id: str) -> str:
        """Return a searchable document's text; passages and citations count its characters.

        Raises:
            IndexNotFoundError: There is none with this id, or it was removed.
        """
        with self._store.read() as db:
            text = chunk_rows.text_of(db, document_id)
        if text is None:
            raise IndexNotFoundError(f"There is no document {document_id!r}.", hint="List the documents.")
        return text

    def document_path(self, document_id: str) -> Path:
        """Return where the document's original file is kept; read it, never write it.

        Raises:
            IndexNotFoundError: There is none with this id, or it was purged.
        """
        return self._originals.path(self.document(document_id).content_sha256)

    def remove(self, document_id: str) -> Document:
        """Take a document out of search; `restore` undoes it for `undo_days`.

        Raises:
            IndexNotFoundError: There is none with this id.
        """
        with self._store.write() as db:
            stored = document_rows.document(db, document_id)
            if stored.removed_at is None:
                document_rows.remove_document(db, stored)
            return stored.document

    def restore(self, document_id: str) -> Document:
        """Make a removed document searchable again, at once and without embedding.

        Raises:
            IndexNotFoundError: There is none with this id, or it was purged.
        """
        with self._store.write() as db:
            stored = document_rows.document(db, document_id)
            if stored.removed_at is not None:
                document_rows.restore_document(db, stored)
            return stored.document

    # --- in

    def ingest(
        self, sources: Iterable[Source], collection: str = DEFAULT_COLLECTION, *, replace: bool = False
    ) -> Iterator[IngestEvent]:
        """Add files, one after the other; closing the iterator cancels and keeps what was added.

        Args:
            sources: Paths, or names with contents. A name is for people; directories in it are dropped.
            collection: Where they go.
            replace: Whether a document of the same name is removed, in the same transaction.

        Raises:
            IndexNotFoundError: There is no such collection.
            EmbedderMismatchError: The collection was embedded with another model.
        """
        with self._store.read() as db:
            collection_for(db, collection, self._embedder.name)
        jobs = [job_of(source) for source in sources]
        return run_ingest(jobs, Adding(self._parts(), collection, replace), self._embedder)

    def add(
        self,
        source: str | Path | bytes | BinaryIO,
        name: str | None = None,
        collection: str = DEFAULT_COLLECTION,
        *,
        replace: bool = False,
    ) -> Document:
        """Add one file and return its document; the one that is there where it is a duplicate.

        Args:
            source: A path, or the content.
            name: File name for people; None for the path's own. Needed with content.
            collection: Where it goes.
            replace: Whether a document of the same name is removed.

        Raises:
            LoadError: The file can't be read.
            StorageError: The disk is full.
            LibraryBusyError: Another process is writing and does not finish.
        """
        if isinstance(source, (str, Path)):
            jobs = [job_of(source) if name is None else path_job(Path(source), name)]
        elif name is None:
            raise ValueError("A name is needed with content, for example add(data, name='notes.txt').")
        else:
            jobs = [job_of((name, source))]
        for event in run_ingest(jobs, Adding(self._parts(), collection, replace), self._embedder):
            if isinstance(event, (FileAdded, FileDuplicate)):
                return event.document
            if isinstance(event, FileFailed):
                raise event.error
        raise AssertionError("an ingest of one file ended without its outcome")

    def reindex(
        self, collection: str = DEFAULT_COLLECTION, *, only_stale: bool = False
    ) -> Iterator[IngestEvent]:
        """Read and embed the stored originals again; searches go on meanwhile.

        Args:
            collection: Which collection.
            only_stale: Only documents embedded with another model than the one in use: what is left of a
                re-index that was cut short.

        Raises:
            IndexNotFoundError: There is no such collection.
        """
        with self._store.read() as db:
            info = collection_rows.named(db, collection)
            found = document_rows.in_collection(db, info.id)
        wanted = [s.document for s in found if not only_stale or s.embedder != self._embedder.name]
        jobs = [
            Job(d.name, partial(open_file, self._originals.path(d.content_sha256)), d.size_bytes, d.id)
            for d in wanted
        ]
        return run_ingest(jobs, Reindexing(self._parts()), self._embedder)

    # --- out

    def search(
        self, query: str, collection: str = DEFAULT_COLLECTION, k: int = 8, document_ids: Sequence[str] = ()
    ) -> list[Passage]:
        """Return up to `k` passages, best first: vectors and words, fused by rank.

        Raises:
            IndexNotFoundError: There is no such collection.
            EmbedderMismatchError: The collection was embedded with another model.
        """
        return self._search.search(query, collection, k, document_ids)

    # --- upkeep

    def purge(self, older_than_days: float | None = None) -> int:
        """Delete for good what was removed longer ago than this; None for the settings' `undo_days`.

        Returns:
            Documents deleted.
        """
        days = self._settings.undo_days if older_than_days is None else older_than_days
        return upkeep.purge(self._store, self._originals, days)

    def verify(self) -> list[str]:
        """Check the whole library against itself and return what is wrong, in words; empty if all is well."""
        with self._store.read() as db:
            return upkeep.find_problems(db, self._originals)

    def _parts(self) -> Parts:
        if self._parser is None:
            from .parser_process import ParserProcess

            limits = self._settings
            self._parser = self._own_parser = ParserProcess(
                limits.parse_timeout_s,
                limits.parse_memory_bytes,
                limits.max_file_bytes,
                limits.max_text_chars,
            )
        return Parts(self._store, self._originals, self._embedder, self._parser, self._settings)
