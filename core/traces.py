"""Every run, kept: what was asked, the tree of steps, what each of them cost.

Place in the data's way: `agents/recorded.py` opens a trace when a run begins, adds each step as it ends, and
closes it with the answer; the Traces page, `localsmith traces` and the export read it. Each of these is one
transaction: a process killed at any moment leaves the steps that had ended, and the next one to look calls
the run interrupted. Several processes may write at once.

Example:
    >>> import tempfile, pathlib
    >>> store = TraceStore(pathlib.Path(tempfile.mkdtemp()) / "t.sqlite3")
    >>> trace_id = store.add(Question("What is a trace tree?"), Answer("A tree.", "answered"), "rag")
    >>> [(info.question, info.strategy) for info in store.list(text="TREE").traces]
    [('What is a trace tree?', 'rag')]
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import uuid
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from .conversation_rows import answer_adapter, storable
from .database import Database
from .errors import StorageError
from .settings import TraceSettings
from .trace_rows import (
    LISTED,
    MIGRATIONS,
    Trace,
    TraceInfo,
    TracePage,
    TraceStatus,
    flat,
    folded,
    is_alive,
    owner_mark,
    pack,
    partial_answer,
    question_adapter,
    silent,
    step_adapter,
    to_info,
    unpack_answer,
    unpack_question,
    unpack_steps,
    without_texts,
)
from .types import Answer, Question, Step

__all__ = ["Trace", "TraceInfo", "TracePage", "TraceStatus", "TraceStore"]

SECONDS_PER_DAY = 86_400.0
BYTES_PER_MB = 1_000_000
# When the store is full, this share of it stays: room for the next runs, so that not each has to make some.
KEPT_SHARE = 0.95


class TraceStore:
    """All traces of one data folder, in one SQLite file."""

    def __init__(self, path: Path, settings: TraceSettings | None = None) -> None:
        """Open or create the file and forget what is older than the settings keep.

        Args:
            path: The SQLite file.
            settings: How long and how much is kept; None for the defaults.

        Raises:
            StorageError: The file can't be used.
        """
        self.settings = settings or TraceSettings()
        self._database = Database(path, MIGRATIONS)
        # What was forgotten is overwritten, not only marked as free.
        self._database.rows("PRAGMA secure_delete=ON")
        self._close_interrupted()
        with self._database.transaction() as connection:
            self._prune(connection)

    # -- writing

    def add(
        self,
        question: Question,
        answer: Answer,
        strategy: str,
        *,
        error: BaseException | None = None,
        begun_at: float | None = None,
    ) -> str:
        """Keep a run that has ended.

        Args:
            question: What was asked.
            answer: What came of it; after an error, the steps there are.
            strategy: Name of the strategy.
            error: Why it failed; None where it did not.
            begun_at: When it began, in seconds since the epoch; None for `answer.duration_s` ago.

        Returns:
            The trace's identifier: the answer's `trace_id` where it has one.

        Raises:
            StorageError: The disk failed.
        """
        begun_at = time.time() - answer.duration_s if begun_at is None else begun_at
        trace_id = self.begin(question, strategy, begun_at=begun_at)
        return self.finish(trace_id, answer, error=error)

    def begin(self, question: Question, strategy: str, *, begun_at: float | None = None) -> str:
        """Note that a run has begun.

        Args:
            question: What was asked.
            strategy: Name of the strategy.
            begun_at: Seconds since the epoch; None for now.

        Returns:
            The identifier for `add_step` and `finish`.

        Raises:
            StorageError: The disk failed.
        """
        trace_id, begun_at = uuid.uuid4().hex, time.time() if begun_at is None else begun_at
        if not self.settings.keep_texts:
            question, _ = without_texts(question, Answer("", "cancelled"))
        body = pack(question_adapter(), question)
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO runs (id, strategy, status, begun_at, owner, question, folded, size_bytes)"
                " VALUES (?, ?, 'running', ?, ?, ?, ?, ?)",
                (
                    trace_id,
                    storable(strategy),
                    begun_at,
                    owner_mark(os.getpid()),
                    storable(question.text),
                    folded(trace_id, question.text),
                    len(body),
                ),
            )
            connection.execute(
                "INSERT INTO bodies (number, question_json) VALUES (?, ?)", (cursor.lastrowid, body)
            )
        return trace_id

    def add_step(self, trace_id: str, step: Step) -> None:
        """Keep a step of a run under way, so that it outlives the process; nothing where it was forgotten.

        Raises:
            StorageError: The disk failed.
        """
        body = pack(step_adapter(), step if self.settings.keep_texts else silent(step))
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO steps SELECT number,"
                " (SELECT count(*) FROM steps WHERE steps.number = runs.number), ? FROM runs WHERE id = ?",
                (body, trace_id),
            )

    def finish(self, trace_id: str, answer: Answer, *, error: BaseException | None = None) -> str:
        """Keep how a run ended; a run that was forgotten meanwhile stays forgotten.

        Args:
            trace_id: What `begin` returned.
            answer: What came of it. Where another run has its `trace_id` it is that run resumed, and takes
                its place.
            error: Why it failed; None where it did not.

        Returns:
            The trace's identifier from now on: the answer's where it has one.

        Raises:
            StorageError: The disk failed.
        """
        final_id = storable(answer.trace_id) or trace_id
        with self._database.transaction() as connection:
            row = connection.execute("SELECT number, question FROM runs WHERE id = ?", (trace_id,)).fetchone()
            if row is None:
                return final_id
            if final_id != trace_id:
                connection.execute("DELETE FROM runs WHERE id = ?", (final_id,))
            status: TraceStatus = "failed" if error is not None else answer.stop_reason
            self._close(connection, row, replace(answer, trace_id=final_id), status, error)
            self._prune(connection)
        return final_id

    def _close(
        self,
        connection: sqlite3.Connection,
        row: sqlite3.Row,
        answer: Answer,
        status: TraceStatus,
        error: BaseException | None = None,
    ) -> None:
        said = "" if error is None else str(error)
        if not self.settings.keep_texts:
            _, answer = without_texts(Question(""), answer)
            said = ""  # messages quote what they are about
        number, body, usage = row["number"], pack(answer_adapter(), answer), answer.usage
        words = folded(answer.trace_id, row["question"], answer.text, said)
        connection.execute(
            "UPDATE runs SET id = ?, status = ?, model = ?, duration_s = ?, prompt_tokens = ?,"
            " cached_tokens = ?, completion_tokens = ?, num_steps = ?, error_type = ?, error = ?, owner = '',"
            " folded = ?, size_bytes = size_bytes + ? WHERE number = ?",
            (
                answer.trace_id,
                status,
                storable(answer.model),
                answer.duration_s,
                usage.prompt_tokens,
                usage.cached_tokens,
                usage.completion_tokens,
                sum(1 for _ in flat(answer.steps)),
                "" if error is None else type(error).__name__,
                storable(said),
                words,
                len(body) + len(words) + len(answer.text),
                number,
            ),
        )
        connection.execute(
            "UPDATE bodies SET answer_json = ?, answer_text = ? WHERE number = ?",
            (body, storable(answer.text), number),
        )
        connection.execute("DELETE FROM steps WHERE number = ?", (number,))

    def _close_interrupted(self) -> None:
        """Close the runs whose process has ended before them."""
        owners = self._database.rows("SELECT DISTINCT owner FROM runs WHERE status = 'running'")
        for owner in (row["owner"] for row in owners if not is_alive(row["owner"])):
            with self._database.transaction() as connection:
                rows = connection.execute(
                    "SELECT number, id, question FROM runs WHERE status = 'running' AND owner = ?", (owner,)
                ).fetchall()
                for row in rows:
                    answer = replace(partial_answer(self._steps(row["number"])), trace_id=row["id"])
                    self._close(connection, row, answer, "interrupted")

    # -- reading

    def list(
        self,
        *,
        text: str = "",
        strategy: str = "",
        since: float | None = None,
        until: float | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> TracePage:
        """Return a page of the runs, newest first.

        Args:
            text: Words that question, answer, error or identifier contain, all of them; "" for any.
            strategy: Only runs of this strategy; "" for all.
            since: Only runs begun at or after this time, seconds since the epoch; None for no bound.
            until: Only runs begun before it.
            limit: Runs on the page.
            offset: Runs to skip.

        Raises:
            StorageError: The file can't be read.
        """
        self._close_interrupted()
        conditions: list[tuple[str, str | float]] = [
            ("instr(folded, ?) > 0", folded(word)) for word in text.split()
        ]
        conditions += [("strategy = ?", strategy)] if strategy else []
        conditions += [("begun_at >= ?", since)] if since is not None else []
        conditions += [("begun_at < ?", until)] if until is not None else []
        where = " AND ".join(condition for condition, _ in conditions) or "1"
        values = [value for _, value in conditions]
        total = self._database.rows(f"SELECT count(*) FROM runs WHERE {where}", values)[0][0]
        rows = self._database.rows(
            f"SELECT {LISTED} FROM runs WHERE {where} ORDER BY begun_at DESC, number DESC LIMIT ? OFFSET ?",
            [*values, limit, offset],
        )
        return TracePage(tuple(to_info(row) for row in rows), int(total))

    def get(self, trace_id: str) -> Trace | None:
        """Return a run, or None where it is not kept.

        Raises:
            StorageError: The file can't be read.
        """
        self._close_interrupted()
        rows = self._database.rows(
            f"SELECT number, {LISTED}, question_json, answer_json, answer_text"
            " FROM runs JOIN bodies USING (number) WHERE id = ?",
            (trace_id,),
        )
        if not rows:
            return None
        row, info = rows[0], to_info(rows[0])
        question = unpack_question(row["question_json"], row["question"])
        if info.status == "running":
            answer = partial_answer(self._steps(row["number"]))
            elapsed_s = max(time.time() - info.begun_at, answer.duration_s)
            return Trace(replace(info, duration_s=elapsed_s), question, answer)
        return Trace(info, question, unpack_answer(row["answer_json"], row["answer_text"]))

    def ids(self, start: str) -> tuple[str, ...]:
        """Return the identifiers that begin with `start`, at most ten, newest first."""
        rows = self._database.rows(
            "SELECT id FROM runs WHERE substr(id, 1, ?) = ? ORDER BY begun_at DESC LIMIT 10",
            (len(start), start),
        )
        return tuple(row["id"] for row in rows)

    def strategies(self) -> dict[str, int]:
        """Return how many runs are kept of each strategy, by name."""
        rows = self._database.rows("SELECT strategy, count(*) FROM runs GROUP BY strategy ORDER BY strategy")
        return {row[0]: row[1] for row in rows}

    def same_question(self, trace: Trace, limit: int = 20) -> tuple[TraceInfo, ...]:
        """Return the other runs that were asked the same, newest first; of an empty question none."""
        if not trace.info.question:
            return ()
        rows = self._database.rows(
            f"SELECT {LISTED} FROM runs WHERE question = ? AND id != ? ORDER BY begun_at DESC LIMIT ?",
            (trace.info.question, trace.info.id, limit),
        )
        return tuple(to_info(row) for row in rows)

    # -- forgetting

    def forget(self, trace_ids: Iterable[str]) -> int:
        """Remove runs for good and return how many there were.

        Raises:
            StorageError: The disk failed.
        """
        with self._database.transaction() as connection:
            ids = [(trace_id,) for trace_id in trace_ids]
            num = connection.executemany("DELETE FROM runs WHERE id = ?", ids).rowcount
        self._empty_log()
        return max(num, 0)

    def forget_before(self, begun_at: float | None = None) -> int:
        """Remove all runs begun before a time (None: all of them), give the disk back, return how many.

        Raises:
            StorageError: The disk failed.
        """
        with self._database.transaction() as connection:
            num = connection.execute(
                "DELETE FROM runs WHERE ? IS NULL OR begun_at < ?", (begun_at, begun_at)
            ).rowcount
        with contextlib.suppress(StorageError):  # another process reads: the space is used again all the same
            self._database.rows("VACUUM")
        self._empty_log()
        return num

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _prune(self, connection: sqlite3.Connection) -> None:
        """Forget what is too old, then the oldest of what is too much."""
        connection.execute(
            "DELETE FROM runs WHERE begun_at < ? AND status != 'running'",
            (time.time() - self.settings.keep_days * SECONDS_PER_DAY,),
        )
        limit = self.settings.max_mb * BYTES_PER_MB
        total = connection.execute("SELECT sum(size_bytes) FROM runs").fetchone()[0]
        if (total or 0) > limit:
            # The newest always stays: a run larger than the limit is better than none.
            connection.execute(
                "DELETE FROM runs WHERE status != 'running' AND number IN (SELECT number FROM (SELECT number,"
                " sum(size_bytes) OVER newest AS total, row_number() OVER newest AS place FROM runs"
                " WINDOW newest AS (ORDER BY begun_at DESC, number DESC)) WHERE total > ? AND place > 1)",
                (limit * KEPT_SHARE,),
            )

    def _empty_log(self) -> None:
        # What was removed still stands in the write-ahead log until it is copied and cut.
        self._database.rows("PRAGMA wal_checkpoint(TRUNCATE)")

    def _steps(self, number: int) -> tuple[Step, ...]:
        return unpack_steps(
            self._database.rows("SELECT step_json FROM steps WHERE number = ? ORDER BY position", (number,))
        )
