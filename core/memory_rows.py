"""A remembered fact and a running summary as the store keeps them: schema, types, and texts made comparable.

Place in the data's way: beside `memory_store.py`, which is the only one to use the schema.

Example:
    >>> normalised("  I live in LEEDS! ") == normalised("i live in Leeds")
    True
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .conversation_rows import storable

Origin: TypeAlias = Literal["noticed", "asked", "written"]

MAX_FACT_CHARS = 300
_WORD = re.compile(r"\w+")

MIGRATIONS = (
    """
    CREATE TABLE facts (
        id TEXT PRIMARY KEY, user TEXT NOT NULL, text TEXT NOT NULL, normalised TEXT NOT NULL,
        origin TEXT NOT NULL, conversation_id TEXT NOT NULL, turn_id TEXT NOT NULL,
        created_at REAL NOT NULL, updated_at REAL NOT NULL, forgotten_at REAL,
        embedder TEXT NOT NULL DEFAULT '', vector BLOB);
    CREATE INDEX facts_by_user ON facts(user, forgotten_at);
    CREATE TABLE summaries (
        conversation_id TEXT PRIMARY KEY, user TEXT NOT NULL, text TEXT NOT NULL,
        num_messages INTEGER NOT NULL, digest TEXT NOT NULL, updated_at REAL NOT NULL);
    CREATE TABLE people (user TEXT PRIMARY KEY, is_on INTEGER NOT NULL)
    """,
)
FACT_COLUMNS = "id, user, text, origin, conversation_id, turn_id, created_at, updated_at"


@dataclass(frozen=True, slots=True)
class Fact:
    """Something a person said of themselves.

    Attributes:
        id: Stable identifier.
        user: Whose fact it is; "" where there is but one person.
        text: In the person's own words.
        origin: "noticed" in a message, "asked" by "remember that …", "written" on the page or command line.
        conversation_id: Where it was said; "" where it was written.
        turn_id: In which turn; "" where that is not known.
        created_at: When it was first remembered, in seconds since the epoch, UTC.
        updated_at: When its words were last changed.
    """

    id: str
    user: str
    text: str
    origin: Origin
    conversation_id: str
    turn_id: str
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The running summary of the older turns of a conversation.

    Attributes:
        conversation_id: The conversation.
        user: Whose conversation it is; "" where there is but one person.
        text: The summary, in the model's words.
        num_messages: The leading messages of the history that it covers.
        digest: Of those messages; a history that begins otherwise has no use for this summary.
        updated_at: Seconds since the epoch, UTC.
    """

    conversation_id: str
    user: str
    text: str
    num_messages: int
    digest: str
    updated_at: float


def normalised(text: str) -> str:
    """Return the words of a text, letter case and marks aside: equal for facts that say the same."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold().replace("’", "'")))


def storable_fact(text: str) -> str:
    """Return a fact's text on one line, of at most `MAX_FACT_CHARS`.

    Raises:
        ValueError: It holds no word.
    """
    words = " ".join(storable(text).split())
    if not normalised(words):
        raise ValueError(f"a fact needs words, not {text!r}")
    return words if len(words) <= MAX_FACT_CHARS else words[: MAX_FACT_CHARS - 1].rstrip() + "…"
