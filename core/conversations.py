"""Conversations that survive a reload, a restart and a crash.

Place in the data's way: the chat stores a question before it is answered and the answer once it is whole, so
that after a crash the question is still there, unanswered. An answer that was asked for again is kept beside
the new one: two answers to one question are what preference training needs. Nothing here knows the browser.

Example:
    >>> import tempfile, pathlib
    >>> store = ConversationStore(pathlib.Path(tempfile.mkdtemp()) / "c.sqlite3")
    >>> talk = store.create("Trace trees", collection="papers")
    >>> turn = store.add_turn(talk.id, "What is a trace tree?")
    >>> _ = store.add_answer(turn.id, Answer("A tree of traces.", "answered"))
    >>> [(turn.question, str(turn.answer)) for turn in store.turns(talk.id)]
    [('What is a trace tree?', 'A tree of traces.')]
"""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from pathlib import Path

from .conversation_rows import (
    MIGRATIONS,
    Conversation,
    Turn,
    answer_adapter,
    messages_of,
    shortened,
    storable,
    to_answer,
    to_turn,
)
from .database import Database
from .errors import IndexNotFoundError
from .feedback import Feedback, FeedbackStore
from .types import DEFAULT_COLLECTION, Answer, Message

__all__ = ["Conversation", "ConversationStore", "Turn"]

SECONDS_PER_DAY = 86_400.0


class ConversationStore:
    """All conversations of one data folder, in one SQLite file."""

    def __init__(self, path: Path, undo_days: float = 7.0) -> None:
        """Open or create the file and forget what was deleted longer than `undo_days` ago.

        Args:
            path: The SQLite file.
            undo_days: Days that a deleted conversation can be restored.

        Raises:
            StorageError: The file can't be used.
        """
        self._database = Database(path, MIGRATIONS)
        self.feedback = FeedbackStore(self._database, self._to_feedback)
        with self._database.transaction() as connection:
            connection.execute(
                "DELETE FROM conversations WHERE deleted_at < ?", (time.time() - undo_days * SECONDS_PER_DAY,)
            )

    def create(self, title: str = "", collection: str = DEFAULT_COLLECTION) -> Conversation:
        """Start a conversation.

        Raises:
            StorageError: The disk failed.
        """
        now = time.time()
        conversation = Conversation(uuid.uuid4().hex, shortened(title), collection, now, now)
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO conversations VALUES (?, ?, ?, ?, ?, NULL)",
                (conversation.id, conversation.title, collection, now, now),
            )
        return conversation

    def all(self) -> list[Conversation]:
        """Return every conversation that isn't deleted, the last used first."""
        rows = self._database.rows(
            "SELECT id, title, collection, created_at, updated_at FROM conversations"
            " WHERE deleted_at IS NULL ORDER BY updated_at DESC, id"
        )
        return [Conversation(*row) for row in rows]

    def get(self, conversation_id: str) -> Conversation | None:
        """Return a conversation, or None where it doesn't exist or is deleted."""
        rows = self._database.rows(
            "SELECT id, title, collection, created_at, updated_at FROM conversations"
            " WHERE id = ? AND deleted_at IS NULL",
            (conversation_id,),
        )
        return Conversation(*rows[0]) if rows else None

    def rename(self, conversation_id: str, title: str) -> None:
        """Give a conversation another title; an empty one changes nothing.

        Raises:
            StorageError: The disk failed.
        """
        if title.strip():
            self._update(conversation_id, "title", shortened(title))

    def set_collection(self, conversation_id: str, collection: str) -> None:
        """Ask the conversation's next questions over another collection.

        Raises:
            StorageError: The disk failed.
        """
        self._update(conversation_id, "collection", collection)

    def delete(self, conversation_id: str) -> None:
        """Take a conversation out of the list; `restore` brings it back until it is forgotten.

        Raises:
            StorageError: The disk failed.
        """
        self._update(conversation_id, "deleted_at", time.time())

    def restore(self, conversation_id: str) -> None:
        """Undo `delete`.

        Raises:
            StorageError: The disk failed.
        """
        self._update(conversation_id, "deleted_at", None)

    def add_turn(self, conversation_id: str, question: str) -> Turn:
        """Store a question, before it is answered.

        Raises:
            IndexNotFoundError: There is no such conversation.
            StorageError: The disk failed.
        """
        question = storable(question)
        now = time.time()
        with self._database.transaction() as connection:
            known = connection.execute("SELECT 1 FROM conversations WHERE id = ?", (conversation_id,))
            if known.fetchone() is None:
                raise IndexNotFoundError(
                    "This conversation no longer exists.", hint="Start a new conversation."
                )
            position = connection.execute(
                "SELECT coalesce(max(position), -1) + 1 FROM turns WHERE conversation_id = ?",
                (conversation_id,),
            ).fetchone()[0]
            turn = Turn(uuid.uuid4().hex, conversation_id, position, question, now)
            connection.execute(
                "INSERT INTO turns (id, conversation_id, position, question, asked_at)"
                " VALUES (?, ?, ?, ?, ?)",
                (turn.id, conversation_id, position, question, now),
            )
            connection.execute("UPDATE conversations SET updated_at = ? WHERE id = ?", (now, conversation_id))
        return turn

    def add_answer(self, turn_id: str, answer: Answer) -> str:
        """Store an answer to a turn, beside those it already has.

        Returns:
            The answer's identifier; "" where the turn was deleted for good in the meantime.

        Raises:
            StorageError: The disk failed.
        """
        answer_id = uuid.uuid4().hex
        body = json.dumps(answer_adapter().dump_python(answer))
        with self._database.transaction() as connection:
            stored = connection.execute(
                "INSERT INTO answers SELECT ?, id, (SELECT count(*) FROM answers WHERE turn_id = turns.id),"
                " ?, ?, ?, ? FROM turns WHERE id = ?",
                (answer_id, storable(answer.text), body, answer.trace_id, time.time(), turn_id),
            )
            connection.execute("UPDATE turns SET error = '', hint = '' WHERE id = ?", (turn_id,))
        return answer_id if stored.rowcount else ""

    def set_error(self, turn_id: str, message: str, hint: str = "") -> None:
        """Store why a turn could not be answered; earlier answers to it stay.

        Raises:
            StorageError: The disk failed.
        """
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE turns SET error = ?, hint = ? WHERE id = ?",
                (storable(message), storable(hint), turn_id),
            )

    def turns(self, conversation_id: str) -> list[Turn]:
        """Return a conversation's turns, oldest first, each with its latest answer."""
        rows = self._database.rows(
            "SELECT t.*, a.id AS answer_id, a.text, a.answer_json,"
            " (SELECT count(*) FROM answers n WHERE n.turn_id = t.id) AS num_answers"
            " FROM turns t LEFT JOIN answers a ON a.turn_id = t.id"
            " AND a.attempt = (SELECT max(attempt) FROM answers l WHERE l.turn_id = t.id)"
            " WHERE t.conversation_id = ? ORDER BY t.position",
            (conversation_id,),
        )
        return [to_turn(row) for row in rows]

    def history(self, conversation_id: str, before: int | None = None) -> tuple[Message, ...]:
        """Return the answered turns as messages, oldest first.

        Args:
            conversation_id: The conversation.
            before: Only turns with a smaller position; None for all.
        """
        turns = [t for t in self.turns(conversation_id) if before is None or t.position < before]
        return messages_of(turns)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _update(self, conversation_id: str, column: str, value: str | float | None) -> None:
        # `column` is one of this module's own names, never input.
        with self._database.transaction() as connection:
            connection.execute(
                f"UPDATE conversations SET {column} = ? WHERE id = ?",
                (value, conversation_id),
            )

    def _to_feedback(self, row: sqlite3.Row) -> Feedback:
        answer = to_answer(row["answer_json"], row["text"])
        return Feedback(
            answer_id=row["answer_id"],
            trace_id=answer.trace_id,
            question=row["question"],
            history=self.history(row["conversation_id"], before=row["position"]),
            answer=answer,
            rating=row["rating"],
            correction=row["correction"],
            updated_at=row["updated_at"],
        )
