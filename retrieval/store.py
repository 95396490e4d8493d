"""The library's SQLite file: connections, schema, transactions and the translation of SQLite's errors.

Place in the data's way: the only truth about a library. A document, its chunks, their full-text rows and
their embeddings are written in one transaction, so a document is wholly searchable or absent, whenever the
process dies. Everything else (the FAISS index) is derived from here.

Example:
    >>> import tempfile
    >>> store = Store(Path(tempfile.mkdtemp()) / "library.sqlite3")
    >>> with store.write() as db:
    ...     _ = db.execute("INSERT INTO collections (name, created_at) VALUES ('papers', 0)")
    >>> with store.read() as db:
    ...     db.execute("SELECT name FROM collections").fetchone()[0]
    'papers'
    >>> store.close()
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ..core.errors import LibraryBusyError, LocalsmithError, StorageError

SCHEMA_VERSION = 1
WRITE_TIMEOUT_S = 20.0

# `documents.seq` and `chunks.id` are AUTOINCREMENT: an id is never used twice, so the FAISS index and a
# citation kept in a conversation can never point at another text. The full-text tables, one a collection, are
# made with the collection (see lexical.py), so that BM25 counts words within the collection alone.
_SCHEMA = """
CREATE TABLE collections (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT NOT NULL,
    created_at  REAL NOT NULL,
    embedder    TEXT,
    removed_at  REAL
);
CREATE UNIQUE INDEX collections_by_name ON collections (name) WHERE removed_at IS NULL;

CREATE TABLE documents (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT,
    id              TEXT NOT NULL UNIQUE,
    collection_id   INTEGER NOT NULL REFERENCES collections (id),
    name            TEXT NOT NULL,
    title           TEXT NOT NULL,
    media_type      TEXT NOT NULL,
    content_sha256  TEXT NOT NULL,
    size_bytes      INTEGER NOT NULL,
    num_pages       INTEGER,
    num_chunks      INTEGER NOT NULL,
    added_at        REAL NOT NULL,
    warnings        TEXT NOT NULL,
    embedder        TEXT NOT NULL,
    removed_at      REAL,
    UNIQUE (collection_id, content_sha256)
);
CREATE INDEX documents_by_collection ON documents (collection_id, removed_at, embedder, num_chunks);
CREATE INDEX documents_by_content ON documents (content_sha256);

CREATE TABLE chunks (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    document_seq  INTEGER NOT NULL REFERENCES documents (seq),
    position      INTEGER NOT NULL,
    text          TEXT NOT NULL,
    start_char    INTEGER NOT NULL,
    end_char      INTEGER NOT NULL,
    page          INTEGER,
    headings      TEXT NOT NULL,
    num_tokens    INTEGER NOT NULL,
    boxes         TEXT NOT NULL,
    UNIQUE (document_seq, position)
);

CREATE TABLE embeddings (
    chunk_id  INTEGER PRIMARY KEY REFERENCES chunks (id),
    vector    BLOB NOT NULL
);

CREATE TABLE changes (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    collection_id  INTEGER NOT NULL,
    first_chunk    INTEGER NOT NULL,
    last_chunk     INTEGER NOT NULL,
    token          BLOB NOT NULL
);
CREATE INDEX changes_by_collection ON changes (collection_id, seq);
"""


class Store:
    """Connections to one SQLite file, shared by all threads of a process and by several processes.

    Readers never wait (write-ahead log); writers wait for each other. Connections are pooled, not bound to
    threads, because a chat page runs in a new thread each time.
    """

    def __init__(self, path: Path, write_timeout_s: float = WRITE_TIMEOUT_S) -> None:
        """Open the file, and create it where it is missing.

        Args:
            path: The SQLite file; its folder exists.
            write_timeout_s: Seconds that a writer waits for another one.

        Raises:
            StorageError: The file is damaged, newer than this version, or can't be written.
            LibraryBusyError: Another process is creating the library and does not finish.
        """
        self.path = path
        self._timeout_s = write_timeout_s
        self._idle: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._writer = threading.Lock()
        self._closed = False
        with self._translated():
            db = self._connect()
            self._prepare(db)
        self._idle.append(db)

    def close(self) -> None:
        """Close the connections that are not in use; those in use close when they are handed back."""
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
        for db in idle:
            db.close()

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Give a connection inside a read transaction: all its queries see one state of the library.

        Raises:
            StorageError: The file is damaged or can't be read.
        """
        with self._translated(), self._connection() as db:
            db.execute("BEGIN")
            try:
                yield db
            finally:
                _roll_back(db)

    @contextlib.contextmanager
    def write(self, timeout_s: float | None = None) -> Iterator[sqlite3.Connection]:
        """Give the one connection that may write; commit at the end, roll back on any error.

        Args:
            timeout_s: Seconds to wait for other writers; None for the store's own.

        Raises:
            LibraryBusyError: Another writer holds the lock for longer.
            StorageError: The disk is full, read-only or the file is damaged; nothing was changed.
        """
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        if not self._writer.acquire(timeout=timeout_s):
            raise _busy()
        try:
            with self._translated(), self._connection() as db:
                db.execute(f"PRAGMA busy_timeout = {int(timeout_s * 1000)}")
                db.execute("BEGIN IMMEDIATE")
                try:
                    yield db
                    db.execute("COMMIT")
                finally:
                    _roll_back(db)
        finally:
            self._writer.release()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with self._guard:
            if self._closed:
                raise StorageError("The library has been closed.", hint="Open it again.")
            db = self._idle.pop() if self._idle else None
        if db is None:
            db = self._connect()
        try:
            yield db
        finally:
            with self._guard:
                is_kept = not self._closed
                if is_kept:
                    self._idle.append(db)
            if not is_kept:
                db.close()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            self.path, timeout=self._timeout_s, isolation_level=None, check_same_thread=False
        )
        # FULL, not NORMAL: in the write-ahead log NORMAL may lose the last commits at a power cut, and a
        # document that was acknowledged must stay. It costs one fsync a document.
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        version = self._version(db)
        if version > SCHEMA_VERSION:
            raise StorageError(
                f"{self.path} is from a newer Localsmith (format {version}, this is {SCHEMA_VERSION}).",
                hint="Update Localsmith.",
            )
        if version == SCHEMA_VERSION:
            return
        self._enter_wal(db)
        db.execute("BEGIN IMMEDIATE")
        try:
            if self._version(db) == 0:  # another process may have made it since
                for statement in _SCHEMA.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            db.execute("COMMIT")
        finally:
            _roll_back(db)

    def _version(self, db: sqlite3.Connection) -> int:
        return int(db.execute("PRAGMA user_version").fetchone()[0])

    def _enter_wal(self, db: sqlite3.Connection) -> None:
        """Switch to the write-ahead log; SQLite does not wait for others here, so this does."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as exc:
                if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except LocalsmithError:
            raise
        except sqlite3.Error as exc:
            raise _translate(exc, self.path) from exc


def _roll_back(db: sqlite3.Connection) -> None:
    if db.in_transaction:
        db.execute("ROLLBACK")


def _busy() -> LibraryBusyError:
    return LibraryBusyError(
        "Another process or thread is writing to the library.",
        hint="Try again in a moment, or close the other Localsmith.",
    )


def _translate(exc: sqlite3.Error, path: Path) -> LocalsmithError:
    """Turn an error of SQLite into ours. Source: primary result codes, https://sqlite.org/rescode.html."""
    code = getattr(exc, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return _busy()
    if code == sqlite3.SQLITE_FULL:
        return StorageError(
            f"The disk of {path.parent} is full; the last change was not made.",
            hint="Free some space and try again; nothing stored before is lost.",
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StorageError(
            f"The library file {path} is damaged ({exc}). It was left as it is.",
            hint=f"Put back a backup of {path.name}, or move it away and add the documents again: "
            f"their originals are in {path.parent / 'files'}.",
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return StorageError(f"Can't write to {path} ({exc}).", hint="Check the folder's permissions.")
    if code == sqlite3.SQLITE_IOERR:
        return StorageError(
            f"Reading or writing {path} failed ({exc}); the last change was not made.",
            hint="Check the disk's free space and health, then try again.",
        )
    return StorageError(f"The library file {path} could not be used: {exc}.")
