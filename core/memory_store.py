"""What is remembered of people and of long conversations, in one SQLite file of their own.

Place in the data's way: `agents/memory.py` writes what a person said of themselves and the running summary of
a conversation, and reads both for the next question; the Memory page and `localsmith memory` show, edit and
delete the same rows.

Example:
    >>> import tempfile, pathlib
    >>> store = MemoryStore(pathlib.Path(tempfile.mkdtemp()) / "memory.sqlite3")
    >>> fact = store.add_fact("I live in Leeds.")
    >>> store.forget_fact(fact.id)
    >>> store.facts()
    []
    >>> store.restore_fact(fact.id).text
    'I live in Leeds.'
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

from .database import Database
from .errors import IndexNotFoundError
from .memory_rows import (
    FACT_COLUMNS,
    MIGRATIONS,
    Fact,
    Origin,
    Summary,
    normalised,
    storable_fact,
)

__all__ = ["Fact", "MemoryStore", "Origin", "Summary"]

SECONDS_PER_DAY = 86_400.0


class MemoryStore:
    """Facts of people and summaries of conversations."""

    def __init__(self, path: Path, undo_days: float = 7.0) -> None:
        """Open or create the file and drop what was forgotten longer than `undo_days` ago.

        Args:
            path: The SQLite file.
            undo_days: Days that a forgotten fact can be restored.

        Raises:
            StorageError: The file can't be used.
        """
        self._database = Database(path, MIGRATIONS)
        self.undo_days = undo_days
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM facts WHERE forgotten_at < ?", (time.time() - undo_days * SECONDS_PER_DAY,)
            )

    # -- facts

    def add_fact(
        self,
        text: str,
        user: str = "",
        origin: Origin = "written",
        conversation_id: str = "",
        turn_id: str = "",
    ) -> Fact:
        """Remember a fact; one that says the same, letter case and marks aside, is returned instead.

        Args:
            text: What the person said, in their words; cut after `memory_rows.MAX_FACT_CHARS`.
            user: Whose fact it is; "" where there is but one person.
            origin: How it got here.
            conversation_id: Where it was said, or "".
            turn_id: In which turn, or "".

        Raises:
            ValueError: The text holds no word.
            StorageError: The disk failed.
        """
        text = storable_fact(text)
        now = time.time()
        fact = Fact(uuid.uuid4().hex, user, text, origin, conversation_id, turn_id, now, now)
        with self._database.transaction() as connection:
            known = connection.execute(
                f"SELECT {FACT_COLUMNS} FROM facts"
                " WHERE user = ? AND normalised = ? AND forgotten_at IS NULL",
                (user, normalised(text)),
            ).fetchone()
            if known is not None:
                return Fact(*known)
            connection.execute(
                f"INSERT INTO facts ({FACT_COLUMNS}, normalised) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (fact.id, user, text, origin, conversation_id, turn_id, now, now, normalised(text)),
            )
        return fact

    def edit_fact(self, fact_id: str, text: str) -> Fact:
        """Give a fact other words.

        Raises:
            ValueError: The text holds no word.
            IndexNotFoundError: There is no such fact.
            StorageError: The disk failed.
        """
        text = storable_fact(text)
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE facts SET text = ?, normalised = ?, updated_at = ?, vector = NULL, embedder = ''"
                " WHERE id = ? AND text <> ?",
                (text, normalised(text), time.time(), fact_id, text),
            )
        return self.fact(fact_id)

    def forget_fact(self, fact_id: str) -> None:
        """Forget a fact; `restore_fact` brings it back within `undo_days`.

        Raises:
            IndexNotFoundError: There is no such fact.
            StorageError: The disk failed.
        """
        self.fact(fact_id)
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE facts SET forgotten_at = ? WHERE id = ? AND forgotten_at IS NULL",
                (time.time(), fact_id),
            )

    def restore_fact(self, fact_id: str) -> Fact:
        """Undo `forget_fact`.

        Raises:
            IndexNotFoundError: There is no such fact, or it was forgotten for good.
            StorageError: The disk failed.
        """
        fact = self.fact(fact_id)
        with self._database.transaction() as connection:
            connection.execute("UPDATE facts SET forgotten_at = NULL WHERE id = ?", (fact_id,))
        return fact

    def fact(self, fact_id: str) -> Fact:
        """Return a fact, forgotten or not.

        Raises:
            IndexNotFoundError: There is no such fact.
        """
        rows = self._database.rows(f"SELECT {FACT_COLUMNS} FROM facts WHERE id = ?", (fact_id,))
        if not rows:
            raise IndexNotFoundError(
                f"There is no fact {fact_id!r}.", hint="`localsmith memory list` shows what is remembered."
            )
        return Fact(*rows[0])

    def facts(self, user: str = "") -> list[Fact]:
        """Return what is remembered of a person, the newest first."""
        return self._facts("user = ? AND forgotten_at IS NULL ORDER BY created_at DESC, rowid DESC", user)

    def forgotten_facts(self, user: str = "") -> list[Fact]:
        """Return what can be restored, the last forgotten first."""
        return self._facts("user = ? AND forgotten_at IS NOT NULL ORDER BY forgotten_at DESC", user)

    def _facts(self, where: str, user: str) -> list[Fact]:
        rows = self._database.rows(f"SELECT {FACT_COLUMNS} FROM facts WHERE {where}", (user,))
        return [Fact(*row) for row in rows]

    # -- their vectors

    def vectors(self, user: str, embedder: str) -> dict[str, bytes]:
        """Return the stored vectors of a person's facts by fact id.

        Args:
            user: Whose facts.
            embedder: Identity of the embedding model; vectors of another one are left out.

        Returns:
            The bytes of float32 values.
        """
        rows = self._database.rows(
            "SELECT id, vector FROM facts WHERE user = ? AND embedder = ? AND vector IS NOT NULL",
            (user, embedder),
        )
        return {row["id"]: row["vector"] for row in rows}

    def save_vectors(self, vectors: Mapping[str, tuple[str, bytes]], embedder: str) -> None:
        """Keep vectors beside their facts.

        Args:
            vectors: By fact id, the text that was embedded and the vector's bytes; a fact whose words have
                changed meanwhile keeps none.
            embedder: Identity of the embedding model.

        Raises:
            StorageError: The disk failed.
        """
        with self._database.transaction() as connection:
            connection.executemany(
                "UPDATE facts SET vector = ?, embedder = ? WHERE id = ? AND text = ?",
                [(vector, embedder, fact_id, text) for fact_id, (text, vector) in vectors.items()],
            )

    # -- the switch

    def is_on(self, user: str = "") -> bool:
        """Tell whether the person lets things be remembered; they do until they switch it off."""
        rows = self._database.rows("SELECT is_on FROM people WHERE user = ?", (user,))
        return bool(rows[0]["is_on"]) if rows else True

    def set_on(self, is_on: bool, user: str = "") -> None:
        """Switch a person's memory on or off; what is remembered stays until it is forgotten.

        Raises:
            StorageError: The disk failed.
        """
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO people VALUES (?, ?) ON CONFLICT (user) DO UPDATE SET is_on = excluded.is_on",
                (user, int(is_on)),
            )

    # -- summaries

    def summary(self, conversation_id: str) -> Summary | None:
        """Return the running summary of a conversation, or None."""
        rows = self._database.rows("SELECT * FROM summaries WHERE conversation_id = ?", (conversation_id,))
        return Summary(*rows[0]) if rows else None

    def summaries(self, user: str = "") -> list[Summary]:
        """Return all running summaries of a person's conversations, the last written first."""
        rows = self._database.rows("SELECT * FROM summaries WHERE user = ? ORDER BY updated_at DESC", (user,))
        return [Summary(*row) for row in rows]

    def save_summary(self, summary: Summary) -> None:
        """Keep the running summary of a conversation in the place of the one before.

        Raises:
            StorageError: The disk failed.
        """
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO summaries VALUES (?, ?, ?, ?, ?, ?)",
                (
                    summary.conversation_id,
                    summary.user,
                    summary.text,
                    summary.num_messages,
                    summary.digest,
                    summary.updated_at,
                ),
            )

    def drop_summary(self, conversation_id: str) -> None:
        """Delete a conversation's running summary; it is written afresh when it is needed.

        Raises:
            StorageError: The disk failed.
        """
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM summaries WHERE conversation_id = ?", (conversation_id,))

    def keep_summaries_of(self, conversation_ids: Iterable[str]) -> None:
        """Delete the summaries of all other conversations, for those are gone.

        Raises:
            StorageError: The disk failed.
        """
        kept = set(conversation_ids)
        rows = self._database.rows("SELECT conversation_id FROM summaries")
        gone = [row["conversation_id"] for row in rows if row["conversation_id"] not in kept]
        for conversation_id in gone:
            self.drop_summary(conversation_id)

    def close(self) -> None:
        """Close the file."""
        self._database.close()
