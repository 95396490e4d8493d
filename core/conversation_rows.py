r"""A conversation and its turns as the store keeps them: schema, types and what turns a row into them.

Place in the data's way: beside `conversations.py`, which is the only one to use the functions here.

Example:
    >>> shortened("  What is\n a trace tree?  ")
    'What is a trace tree?'
"""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from .types import Answer, Message

MAX_TITLE_CHARS = 80

MIGRATIONS = (
    """
    CREATE TABLE conversations (
        id TEXT PRIMARY KEY, title TEXT NOT NULL, collection TEXT NOT NULL,
        created_at REAL NOT NULL, updated_at REAL NOT NULL, deleted_at REAL);
    CREATE TABLE turns (
        id TEXT PRIMARY KEY,
        conversation_id TEXT NOT NULL REFERENCES conversations(id) ON DELETE CASCADE,
        position INTEGER NOT NULL, question TEXT NOT NULL, asked_at REAL NOT NULL,
        error TEXT NOT NULL DEFAULT '', hint TEXT NOT NULL DEFAULT '',
        UNIQUE (conversation_id, position));
    CREATE TABLE answers (
        id TEXT PRIMARY KEY,
        turn_id TEXT NOT NULL REFERENCES turns(id) ON DELETE CASCADE,
        attempt INTEGER NOT NULL, text TEXT NOT NULL, answer_json TEXT NOT NULL,
        trace_id TEXT NOT NULL, created_at REAL NOT NULL,
        UNIQUE (turn_id, attempt));
    CREATE TABLE feedback (
        answer_id TEXT PRIMARY KEY REFERENCES answers(id) ON DELETE CASCADE,
        rating INTEGER NOT NULL, correction TEXT NOT NULL, updated_at REAL NOT NULL);
    CREATE INDEX answers_by_trace ON answers(trace_id)
    """,
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as it stands in the list.

    Attributes:
        id: Stable identifier, safe in a URL.
        title: Its name, the first question's words until someone renames it.
        collection: The collection its questions are asked over.
        created_at: Seconds since the epoch, UTC.
        updated_at: When it was last written to.
    """

    id: str
    title: str
    collection: str
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and the latest answer to it.

    Attributes:
        id: Stable identifier.
        conversation_id: The conversation it belongs to.
        position: Order within it, from 0.
        question: The question as typed.
        asked_at: Seconds since the epoch, UTC.
        answer_id: Identifier of the answer, for feedback; "" where there is none.
        answer: The latest answer; None while it is being made, after a failure and after a crash.
        num_answers: How often it was answered.
        error: Why the last try failed, in words for people, or "".
        hint: What to do about it, or "".
    """

    id: str
    conversation_id: str
    position: int
    question: str
    asked_at: float
    answer_id: str = ""
    answer: Answer | None = None
    num_answers: int = 0
    error: str = ""
    hint: str = ""


@functools.cache
def answer_adapter() -> TypeAdapter[Answer]:
    """Return what turns an answer into plain values and back."""
    return TypeAdapter(Answer)


def to_answer(body: str, text: str) -> Answer:
    """Return the answer stored as `body`; only its `text` where a version with other fields wrote it."""
    try:
        return answer_adapter().validate_python(json.loads(body))
    except (ValidationError, ValueError):
        # Written by a version with other fields: the words are worth more than an error page.
        return Answer(text, "answered")


def to_turn(row: sqlite3.Row) -> Turn:
    """Return a row of `ConversationStore.turns` as a turn."""
    values: dict[str, Any] = {
        name: row[name] for name in ("id", "conversation_id", "position", "question", "asked_at")
    }
    if row["answer_id"] is not None:
        values |= {"answer_id": row["answer_id"], "answer": to_answer(row["answer_json"], row["text"])}
    return Turn(**values, num_answers=row["num_answers"], error=row["error"], hint=row["hint"])


def messages_of(turns: Sequence[Turn]) -> tuple[Message, ...]:
    """Return the answered turns as messages."""
    messages: list[Message] = []
    for turn in turns:
        if turn.answer is not None and turn.answer.text:
            messages += [Message("user", turn.question), Message("assistant", turn.answer.text)]
    return tuple(messages)


def shortened(title: str) -> str:
    """Return a title that fits a list: one line of at most `MAX_TITLE_CHARS`."""
    words = " ".join(storable(title).split()) or "New conversation"
    return words if len(words) <= MAX_TITLE_CHARS else words[: MAX_TITLE_CHARS - 1].rstrip() + "…"


def storable(text: str) -> str:
    """Return the text with what UTF-8 can't hold replaced."""
    # SQLite holds UTF-8: a lone surrogate would fail the whole write.
    return text.encode("utf-8", "replace").decode("utf-8")
