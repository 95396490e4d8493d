"""One SQLite file behind a lock, with its errors in our words.

Place in the data's way: the conversation store and the feedback store write through one `Database`; every
write is one transaction, so that a process killed at any moment leaves whole rows only.

Example:
    >>> import tempfile, pathlib
    >>> database = Database(pathlib.Path(tempfile.mkdtemp()) / "x.sqlite3", ["CREATE TABLE t (n INTEGER)"])
    >>> with database.transaction() as connection:
    ...     _ = connection.execute("INSERT INTO t VALUES (1)")
    >>> [row["n"] for row in database.rows("SELECT n FROM t")]
    [1]
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import StorageError

BUSY_TIMEOUT_S = 10.0


class Database:
    """A connection that any thread may use, one at a time."""

    def __init__(self, path: Path, migrations: Sequence[str]) -> None:
        """Open or create the file and bring its schema up to date.

        Args:
            path: The file; its folder is created where it is missing.
            migrations: SQL scripts in order; those beyond the file's `user_version` are run.

        Raises:
            StorageError: The file can't be opened, isn't a database, or was written by a newer version.
        """
        self._path = path
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # isolation_level=None: transactions begin and end where `transaction` says, nowhere else.
            self._connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, check_same_thread=False, isolation_level=None
            )
        except (OSError, sqlite3.Error) as exc:
            raise self._translated(exc) from exc
        self._connection.row_factory = sqlite3.Row
        try:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA foreign_keys=ON")
            self._migrate(migrations)
        except sqlite3.Error as exc:
            self._connection.close()
            raise self._translated(exc) from exc
        except StorageError:
            self._connection.close()
            raise

    def _migrate(self, migrations: Sequence[str]) -> None:
        # Read and raised inside one write transaction: two processes that start together migrate once.
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
            if version > len(migrations):
                raise StorageError(
                    f"{self._path} was written by a newer version of Localsmith.",
                    hint="Upgrade Localsmith, or move the file away to start afresh.",
                )
            for script in migrations[version:]:
                for statement in script.split(";"):
                    self._connection.execute(statement)
            self._connection.execute(f"PRAGMA user_version={len(migrations)}")
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the lock and one write transaction; commit at the end, roll back on any exception.

        Raises:
            StorageError: The disk is full, read-only or broken, or another process holds the file too long.
        """
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
            except sqlite3.Error as exc:
                with suppress(sqlite3.Error):  # a closed file can't be asked
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                raise self._translated(exc) from exc

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Run a query and return all rows.

        Raises:
            StorageError: The file can't be read.
        """
        with self._lock:
            try:
                return self._connection.execute(sql, parameters).fetchall()
            except sqlite3.Error as exc:
                raise self._translated(exc) from exc

    def close(self) -> None:
        """Close the file; further calls raise StorageError."""
        with self._lock:
            self._connection.close()

    def _translated(self, exc: Exception) -> StorageError:
        return StorageError(
            f"{self._path} can't be used: {exc}.",
            hint="Check that the disk has space and that the file is writable, then try again.",
        )
