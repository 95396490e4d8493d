"""API keys: made once, shown once, kept as hashes, revocable at any moment.

Place in the data's way: `localsmith keys` writes here and the server's guard reads, from two processes and
the same SQLite file, so that a revoked key is refused from the next request on.

A key is `ls-<id>-<secret>`; the secret has 256 random bits, so one SHA-256 suffices: no dictionary holds it.

Example:
    >>> import tempfile, pathlib
    >>> store = KeyStore(pathlib.Path(tempfile.mkdtemp()) / "keys.sqlite3")
    >>> key, token = store.create("laptop")
    >>> store.find(token).name
    'laptop'
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..core.database import Database
from ..core.errors import ConfigError

SCOPES = {
    "chat": "chat and completions",
    "documents": "strategies that read the document library, such as localsmith/rag",
    "embeddings": "embeddings",
    "python": "programs in the sandbox, over MCP",
    "metrics": "the Prometheus figures",
}
DEFAULT_SCOPES = ("chat", "documents", "embeddings")
# `last_used_at` is for people; written this seldom it costs no request anything.
LAST_USED_STEP_S = 60.0

_MIGRATIONS = (
    "CREATE TABLE keys (id TEXT PRIMARY KEY, name TEXT NOT NULL, scopes TEXT NOT NULL, digest TEXT NOT NULL,"
    " created_at REAL NOT NULL, last_used_at REAL, revoked_at REAL)",
)
_NOBODY = hashlib.sha256(b"nobody").hexdigest()


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key; the key itself is not.

    Attributes:
        id: Public part of the key, 8 hex digits.
        name: Whose or what for, for people.
        scopes: What it may be used for, names of `SCOPES`.
        created_at: Seconds since the epoch, UTC.
        last_used_at: The same, to the minute; None where it was never used.
        revoked_at: The same; None where it is valid.
    """

    id: str
    name: str
    scopes: frozenset[str]
    created_at: float
    last_used_at: float | None
    revoked_at: float | None


class KeyStore:
    """The keys of one data folder.

    Args:
        path: SQLite file, made where it is missing, readable by its owner only.

    Raises:
        StorageError: The file can't be used.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, _MIGRATIONS)
        path.chmod(0o600)

    def create(self, name: str, scopes: Iterable[str] = DEFAULT_SCOPES) -> tuple[ApiKey, str]:
        """Make a key.

        Args:
            name: For people; no two valid keys have the same.
            scopes: Names of `SCOPES`.

        Returns:
            The key's record and the key itself, which is kept nowhere.

        Raises:
            ConfigError: The name is empty or taken, or a scope is unknown.
            StorageError: The disk failed.
        """
        chosen = sorted(set(scopes))
        if unknown := [scope for scope in chosen if scope not in SCOPES]:
            raise ConfigError(f"Unknown scope {unknown[0]!r}.", hint=f"The scopes are {', '.join(SCOPES)}.")
        if not name.strip() or not chosen:
            raise ConfigError("A key needs a name and at least one scope.")
        key_id, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
        token = f"ls-{key_id}-{secret}"
        with self._database.transaction() as connection:
            taken = "SELECT 1 FROM keys WHERE name = ? AND revoked_at IS NULL"
            if connection.execute(taken, (name,)).fetchone():
                raise ConfigError(
                    f"A valid key is named {name!r} already.", hint=f"localsmith keys revoke {name}"
                )
            connection.execute(
                "INSERT INTO keys (id, name, scopes, digest, created_at) VALUES (?, ?, ?, ?, ?)",
                (key_id, name, " ".join(chosen), _digest(token), time.time()),
            )
        return self._by_id(key_id), token

    def all(self) -> list[ApiKey]:
        """Return every key there ever was, oldest first."""
        return [_key(row) for row in self._database.rows("SELECT * FROM keys ORDER BY created_at")]

    def revoke(self, name: str) -> ApiKey:
        """Make a key invalid, by its name or id; for good.

        Raises:
            ConfigError: No valid key has this name or id.
        """
        with self._database.transaction() as connection:
            sql = "SELECT id FROM keys WHERE (name = ? OR id = ?) AND revoked_at IS NULL"
            row = connection.execute(sql, (name, name)).fetchone()
            if row is None:
                raise ConfigError(f"No valid key is named {name!r}.", hint="localsmith keys list")
            connection.execute("UPDATE keys SET revoked_at = ? WHERE id = ?", (time.time(), row["id"]))
        return self._by_id(row["id"])

    def exist(self) -> bool:
        """Return whether there ever was a key, revoked ones included: then the server asks for one."""
        return bool(self._database.rows("SELECT 1 FROM keys LIMIT 1"))

    def has_valid(self) -> bool:
        """Return whether any key is valid."""
        return bool(self._database.rows("SELECT 1 FROM keys WHERE revoked_at IS NULL LIMIT 1"))

    def find(self, token: str) -> ApiKey | None:
        """Return the valid key that a client presents, or None; compares in constant time."""
        key_id = token[3:11] if token.startswith("ls-") else ""
        rows = self._database.rows("SELECT * FROM keys WHERE id = ?", (key_id,))
        digest = rows[0]["digest"] if rows else _NOBODY
        is_right = hmac.compare_digest(digest, _digest(token))
        if not is_right or not rows or rows[0]["revoked_at"] is not None:
            return None
        return _key(rows[0])

    def is_use_new(self, key: ApiKey) -> bool:
        """Return whether the last use noted is a minute old, so that this one is to be noted."""
        return time.time() - (key.last_used_at or 0) >= LAST_USED_STEP_S

    def note_use(self, key: ApiKey) -> None:
        """Remember that the key is used now.

        Raises:
            StorageError: The disk failed.
        """
        with self._database.transaction() as connection:
            connection.execute("UPDATE keys SET last_used_at = ? WHERE id = ?", (time.time(), key.id))

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _by_id(self, key_id: str) -> ApiKey:
        return _key(self._database.rows("SELECT * FROM keys WHERE id = ?", (key_id,))[0])


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _key(row: sqlite3.Row) -> ApiKey:
    return ApiKey(
        id=row["id"],
        name=row["name"],
        scopes=frozenset(row["scopes"].split()),
        created_at=row["created_at"],
        last_used_at=row["last_used_at"],
        revoked_at=row["revoked_at"],
    )
