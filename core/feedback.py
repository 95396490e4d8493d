"""What people say about answers, kept so that training can use it later.

Place in the data's way: a thumb or a correction in the chat -> `FeedbackStore` -> `training` reads it back
with the question, the turns before it and the whole answer. It lies in the same file as the conversations:
deleting a conversation for good deletes what was said about it.

Example:
    >>> import tempfile, pathlib
    >>> from localsmith.core.conversations import ConversationStore
    >>> store = ConversationStore(pathlib.Path(tempfile.mkdtemp()) / "c.sqlite3")
    >>> store.feedback.all()
    []
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .database import Database
from .types import Answer, Message

Rating: TypeAlias = Literal[-1, 0, 1]


@dataclass(frozen=True, slots=True)
class Feedback:
    """One person's word on one answer.

    Attributes:
        answer_id: The answer in the conversation store.
        trace_id: The run that made it, as in `Answer.trace_id` and the logs.
        question: The question as typed.
        history: The turns before it, oldest first.
        answer: The answer as it was shown.
        rating: 1 for thumbs up, -1 for thumbs down, 0 where only a correction was given.
        correction: What would have been right, or "".
        updated_at: Seconds since the epoch, UTC.
    """

    answer_id: str
    trace_id: str
    question: str
    history: tuple[Message, ...]
    answer: Answer
    rating: Rating
    correction: str
    updated_at: float


class FeedbackStore:
    """Reads and writes feedback; made by `ConversationStore`, which owns the file."""

    def __init__(self, database: Database, to_feedback: Callable[[sqlite3.Row], Feedback]) -> None:
        """Keep the shared database and the way to complete a row with its conversation."""
        self._database = database
        self._to_feedback = to_feedback

    def save(self, answer_id: str, rating: Rating, correction: str = "") -> None:
        """Store or replace the feedback on an answer; rating 0 without a correction removes it.

        Raises:
            ValueError: `rating` is not -1, 0 or 1, or there is no such answer.
            StorageError: The disk failed.
        """
        if rating not in (-1, 0, 1):
            raise ValueError(f"rating must be -1, 0 or 1, not {rating!r}")
        correction = correction.strip()
        with self._database.transaction() as connection:
            if connection.execute("SELECT 1 FROM answers WHERE id = ?", (answer_id,)).fetchone() is None:
                raise ValueError(f"no answer has the id {answer_id!r}")
            connection.execute("DELETE FROM feedback WHERE answer_id = ?", (answer_id,))
            if rating or correction:
                connection.execute(
                    "INSERT INTO feedback (answer_id, rating, correction, updated_at) VALUES (?, ?, ?, ?)",
                    (answer_id, rating, correction, time.time()),
                )

    def of(self, answer_id: str) -> Feedback | None:
        """Return the feedback on an answer, or None."""
        rows = self._database.rows(_SELECT + " WHERE f.answer_id = ?", (answer_id,))
        return self._to_feedback(rows[0]) if rows else None

    def ratings(self, conversation_id: str) -> dict[str, tuple[Rating, str]]:
        """Return rating and correction by answer id for one conversation: what a page needs to draw it."""
        rows = self._database.rows(
            "SELECT f.answer_id, f.rating, f.correction FROM feedback f JOIN answers a ON a.id = f.answer_id"
            " JOIN turns t ON t.id = a.turn_id WHERE t.conversation_id = ?",
            (conversation_id,),
        )
        return {row["answer_id"]: (row["rating"], row["correction"]) for row in rows}

    def all(self, since: float = 0.0) -> list[Feedback]:
        """Return all feedback given after `since`, oldest first, without that of deleted conversations.

        Args:
            since: Seconds since the epoch, UTC; 0 for all.
        """
        rows = self._database.rows(
            _SELECT + " WHERE f.updated_at > ? AND c.deleted_at IS NULL ORDER BY f.updated_at, f.answer_id",
            (since,),
        )
        return [self._to_feedback(row) for row in rows]


_SELECT = (
    "SELECT f.*, a.answer_json, a.text, a.turn_id, t.conversation_id, t.position, t.question"
    " FROM feedback f JOIN answers a ON a.id = f.answer_id JOIN turns t ON t.id = a.turn_id"
    " JOIN conversations c ON c.id = t.conversation_id"
)
