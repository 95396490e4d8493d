r"""A trace as the store keeps it: schema, types and what turns a run into a row and back.

Place in the data's way: beside `traces.py`, which is the only one to use the functions here. An answer is
kept as JSON, as `conversation_rows.py` keeps it, and compressed: the passages and prompts of a run repeat
themselves.

Example:
    >>> packed = pack(answer_adapter(), Answer("A tree of traces.", "answered"))
    >>> str(unpack_answer(packed, ""))
    'A tree of traces.'
"""

from __future__ import annotations

import functools
import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, TypeVar

import psutil
from pydantic import TypeAdapter, ValidationError

from .conversation_rows import answer_adapter, storable
from .types import Answer, Question, Step, StopReason, Usage

T = TypeVar("T")

TraceStatus: TypeAlias = StopReason | Literal["running", "failed", "interrupted"]

MIGRATIONS = (
    """
    CREATE TABLE runs (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
        strategy TEXT NOT NULL, status TEXT NOT NULL, model TEXT NOT NULL DEFAULT '',
        begun_at REAL NOT NULL, duration_s REAL NOT NULL DEFAULT 0,
        prompt_tokens INTEGER NOT NULL DEFAULT 0, cached_tokens INTEGER NOT NULL DEFAULT 0,
        completion_tokens INTEGER NOT NULL DEFAULT 0, num_steps INTEGER NOT NULL DEFAULT 0,
        error_type TEXT NOT NULL DEFAULT '', error TEXT NOT NULL DEFAULT '',
        owner TEXT NOT NULL DEFAULT '', size_bytes INTEGER NOT NULL DEFAULT 0,
        question TEXT NOT NULL DEFAULT '', folded TEXT NOT NULL DEFAULT '');
    CREATE TABLE bodies (
        number INTEGER PRIMARY KEY REFERENCES runs(number) ON DELETE CASCADE,
        question_json BLOB NOT NULL, answer_json BLOB, answer_text TEXT NOT NULL DEFAULT '');
    CREATE TABLE steps (
        number INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE,
        position INTEGER NOT NULL, step_json BLOB NOT NULL,
        PRIMARY KEY (number, position)) WITHOUT ROWID;
    CREATE INDEX runs_by_time ON runs(begun_at, number, size_bytes);
    CREATE INDEX runs_by_strategy ON runs(strategy, begun_at);
    CREATE INDEX runs_under_way ON runs(owner) WHERE status = 'running'
    """,
)

LISTED = (
    "id, strategy, status, question, model, begun_at, duration_s, prompt_tokens, cached_tokens,"
    " completion_tokens, num_steps, error_type, error, size_bytes"
)


@dataclass(frozen=True, slots=True)
class TraceInfo:
    """A run as it stands in the list.

    Attributes:
        id: The answer's `trace_id`; one of the store's own where the run ended without an answer.
        strategy: Name of the strategy that ran, for example "rag".
        status: Why it ended, as `Answer.stop_reason` has it; "failed" after an error, "running" while it
            runs, "interrupted" where its process ended before it.
        question: The question as typed; "" where texts are not kept.
        model: Name of the model.
        begun_at: Seconds since the epoch, UTC.
        duration_s: Wall time of the whole run.
        prompt_tokens: Prompt tokens of all its generations.
        cached_tokens: Those of them found in the KV cache.
        completion_tokens: Tokens generated.
        num_steps: Steps of the tree, inner ones counted.
        error_type: Name of the error's class, or "".
        error: What the error said, or "".
        size_bytes: What it takes in the store.
    """

    id: str
    strategy: str
    status: TraceStatus
    question: str
    model: str
    begun_at: float
    duration_s: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    num_steps: int
    error_type: str = ""
    error: str = ""
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Trace:
    """A run with all that was kept of it.

    Attributes:
        info: The run as listed.
        question: What was asked, with its history.
        answer: What came of it, with the tree of steps; of a run that has not ended well, the steps so far.
    """

    info: TraceInfo
    question: Question
    answer: Answer


@dataclass(frozen=True, slots=True)
class TracePage:
    """One page of the list.

    Attributes:
        traces: The runs of the page, newest first.
        total: Runs on all pages.
    """

    traces: tuple[TraceInfo, ...]
    total: int


@functools.cache
def question_adapter() -> TypeAdapter[Question]:
    """Return what turns a question into plain values and back."""
    return TypeAdapter(Question)


@functools.cache
def step_adapter() -> TypeAdapter[Step]:
    """Return what turns a step into plain values and back."""
    return TypeAdapter(Step)


def pack(adapter: TypeAdapter[T], value: T) -> bytes:
    """Return a value as compressed JSON."""
    # Lone surrogates are replaced: UTF-8 can't hold them and pydantic would refuse to read them.
    text = json.dumps(adapter.dump_python(value), ensure_ascii=False, separators=(",", ":"))
    return zlib.compress(storable(text).encode("utf-8"))


def unpack_answer(body: bytes | None, text: str) -> Answer:
    """Return the answer stored as `body`; only its `text` where a version with other fields wrote it."""
    return _unpacked(answer_adapter(), body) or Answer(text, "answered")


def unpack_question(body: bytes, text: str) -> Question:
    """Return the question stored as `body`; only its `text` where a version with other fields wrote it."""
    return _unpacked(question_adapter(), body) or Question(text)


def unpack_steps(rows: Iterable[sqlite3.Row]) -> tuple[Step, ...]:
    """Return the steps of a run that has not ended, without those that a version with other fields wrote."""
    steps = (_unpacked(step_adapter(), row["step_json"]) for row in rows)
    return tuple(step for step in steps if step is not None)


def _unpacked(adapter: TypeAdapter[T], body: bytes | None) -> T | None:
    try:
        return None if body is None else adapter.validate_python(json.loads(zlib.decompress(body)))
    except (ValidationError, ValueError, zlib.error):
        return None


def to_info(row: sqlite3.Row) -> TraceInfo:
    """Return a row of the columns `LISTED`."""
    return TraceInfo(*(row[name.strip()] for name in LISTED.split(",")))


def flat(steps: Iterable[Step], depth: int = 0) -> Iterator[tuple[int, Step]]:
    """Yield (depth from 0, step) of the whole tree, a step before its inner steps."""
    for step in steps:
        yield depth, step
        yield from flat(step.steps, depth + 1)


def total_usage(steps: Iterable[Step]) -> Usage:
    """Return the usage of all steps and of those within them."""
    return sum((step.usage for _, step in flat(steps) if step.usage is not None), Usage())


def partial_answer(
    steps: tuple[Step, ...], text: str = "", model: str = "", duration_s: float = 0.0
) -> Answer:
    """Return what there is of a run that did not come to its answer.

    Args:
        steps: The steps that ended.
        text: The words that were written.
        model: Name of the model, where it is known.
        duration_s: Wall time until it ended; at least until the end of the last step.
    """
    ended_s = max((step.begun_s + step.duration_s for step in steps), default=0.0)
    return Answer(
        text,
        "cancelled",
        steps=steps,
        usage=total_usage(steps),
        model=model,
        duration_s=max(duration_s, ended_s),
    )


def without_texts(question: Question, answer: Answer) -> tuple[Question, Answer]:
    """Return both without anybody's words: what is left are kinds, counts and times."""
    return (
        Question("", collection=None, priority=question.priority),
        replace(answer, text="", citations=(), passages=(), steps=_silent(answer.steps)),
    )


def silent(step: Step) -> Step:
    """Return a step without anybody's words."""
    return replace(step, summary="", prompt="", output="", steps=_silent(step.steps))


def _silent(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    return tuple(silent(step) for step in steps)


def folded(*texts: str) -> str:
    """Return texts as the search compares them: one text, upper and lower case alike."""
    return storable("\n".join(texts).casefold())


@functools.cache
def owner_mark(pid: int) -> str:
    """Return what tells the process apart from every other, those that get its number later included."""
    return f"{pid}:{psutil.Process(pid).create_time():.2f}"


def is_alive(owner: str) -> bool:
    """Return whether the process that `owner_mark` described still runs."""
    pid = int(owner.partition(":")[0] or 0)
    try:
        return pid > 0 and f"{pid}:{psutil.Process(pid).create_time():.2f}" == owner
    except psutil.Error:
        return False
