"""Unfinished ReAct runs on disk: LangGraph's checkpoints, a list for people, and a ledger of approved calls.

Place in the data's way: `graph.py` writes a checkpoint after every node through `saver`; `ReactStrategy`
lists, locks and forgets runs here. One SQLite file holds all of it. The ledger notes an approved call before
it is made and after, so that after a crash in between nobody makes it a second time unasked.

Example:
    checkpoints = Checkpoints(Path("react.sqlite3"))
    with checkpoints.locked(run_id), checkpoints.saver() as saver:
        ...
"""

from __future__ import annotations

import contextlib
import functools
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from pydantic import TypeAdapter

from ...core.database import BUSY_TIMEOUT_S, Database
from ...core.errors import AgentError, StorageError
from ...core.types import ApprovalNeeded, Question
from .approval import Approval

if TYPE_CHECKING:
    from langgraph.checkpoint.sqlite import SqliteSaver

RunState: TypeAlias = Literal["running", "needs_approval", "stopped"]

KEPT_DAYS = 30
"""Unfinished runs nobody has touched for so long are deleted."""
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_MIGRATIONS = (
    """
    CREATE TABLE runs (
        run_id TEXT PRIMARY KEY, user TEXT NOT NULL, question TEXT NOT NULL, num_steps INTEGER NOT NULL,
        approval TEXT NOT NULL, begun_at REAL NOT NULL, updated_at REAL NOT NULL);
    CREATE TABLE calls (
        run_id TEXT NOT NULL REFERENCES runs(run_id) ON DELETE CASCADE,
        call INTEGER NOT NULL, attempt INTEGER NOT NULL, decision TEXT NOT NULL,
        begun_at REAL, ended_at REAL, result TEXT,
        PRIMARY KEY (run_id, call, attempt))
    """,
)


@dataclass(frozen=True, slots=True)
class UnfinishedRun:
    """A run that can be resumed or forgotten.

    Attributes:
        run_id: Its identifier.
        question: The question as typed.
        user: Who asked.
        state: "running" in some process now, "needs_approval" where a call waits for a person, "stopped"
            where it was cancelled, failed or killed.
        num_steps: Calls made so far.
        updated_at: Seconds since the epoch, UTC.
        approval: The call that waits, or None.
    """

    run_id: str
    question: str
    user: str
    state: RunState
    num_steps: int
    updated_at: float
    approval: ApprovalNeeded | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """Where a call stands that a person decides on.

    Attributes:
        number: The attempt that is next, or that ended, from 1.
        decision: The person's word on it; None where it waits for one.
        is_doubtful: Whether an earlier attempt was begun and its end is not known.
        result: What it brought; None where it has not been made.
    """

    number: int
    decision: Approval | None = None
    is_doubtful: bool = False
    result: str | None = None


class Checkpoints:
    """The file with all unfinished runs; several processes may use it."""

    def __init__(self, path: Path) -> None:
        """Keep the path; the file is made with the first run.

        Args:
            path: SQLite file; a lock file stands beside it for each run that is at work.
        """
        self._path = path
        self._opening = threading.Lock()

    @functools.cached_property
    def _opened(self) -> Database:
        return Database(self._path, _MIGRATIONS)

    @property
    def _database(self) -> Database:
        with self._opening:
            return self._opened

    @contextmanager
    def saver(self) -> Iterator[SqliteSaver]:
        """Open LangGraph's saver, on a connection of its own.

        Raises:
            StorageError: The file can't be opened.
        """
        from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
        from langgraph.checkpoint.sqlite import SqliteSaver

        self._database  # noqa: B018 - makes the folder
        try:
            connection = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
        except sqlite3.Error as exc:
            raise StorageError(f"{self._path} can't be opened: {exc}.") from exc
        with closing(connection):
            # Nothing but plain values is read back: see `trajectory.py`.
            yield SqliteSaver(connection, serde=JsonPlusSerializer(allowed_msgpack_modules=None))

    @contextmanager
    def locked(self, run_id: str) -> Iterator[None]:
        """Hold a run, so that no other thread or process executes it; a process that dies lets go.

        Raises:
            AgentError: Another holds it, or it is no run's identifier.
        """
        from filelock import Timeout

        lock = self._lock(run_id)
        try:
            lock.acquire(timeout=0)
        except Timeout as exc:
            raise AgentError(
                f"The run {run_id} is at work already.",
                hint="Wait until it ends, or stop it where it was asked.",
            ) from exc
        try:
            yield
        finally:
            if not self.has(run_id):
                Path(lock.lock_file).unlink(missing_ok=True)  # the run is over: nobody locks it again
            lock.release()

    def _lock(self, run_id: str):  # type: ignore[no-untyped-def]  # FileLock is imported late
        from filelock import FileLock

        if not _RUN_ID.fullmatch(run_id):
            raise AgentError(f"{run_id[:64]!r} is not the identifier of a run.")
        self._database  # noqa: B018 - makes the folder
        return FileLock(f"{self._path}.{run_id}.lock", thread_local=False)

    def begin(self, run_id: str, question: Question) -> None:
        """Note a new run, and delete what nobody has touched for long."""
        now = time.time()
        for run in self.unfinished(updated_before=now - KEPT_DAYS * 86_400):
            with contextlib.suppress(AgentError):  # it is at work after all
                self.forget(run.run_id)
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO runs VALUES (?, ?, ?, 0, '', ?, ?)",
                (run_id, question.user, question.text.encode("utf-8", "replace").decode(), now, now),
            )

    def note(self, run_id: str, num_steps: int, approval: ApprovalNeeded | None = None) -> None:
        """Note how far a run is and what it waits for."""
        text = _approval_adapter().dump_json(approval).decode() if approval else ""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE runs SET num_steps = ?, approval = ?, updated_at = ? WHERE run_id = ?",
                (num_steps, text, time.time(), run_id),
            )

    def has(self, run_id: str) -> bool:
        """Tell whether there is such an unfinished run."""
        return bool(self._database.rows("SELECT 1 FROM runs WHERE run_id = ?", (run_id,)))

    def unfinished(
        self, user: str | None = None, *, updated_before: float | None = None
    ) -> list[UnfinishedRun]:
        """Return the unfinished runs, the latest first.

        Args:
            user: Only this user's; None for everybody's.
            updated_before: Only those not touched since, in seconds since the epoch; None for all.
        """
        rows = self._database.rows("SELECT * FROM runs ORDER BY updated_at DESC")
        return [
            self._unfinished(row)
            for row in rows
            if user in (None, row["user"]) and (updated_before is None or row["updated_at"] < updated_before)
        ]

    def _unfinished(self, row: sqlite3.Row) -> UnfinishedRun:
        approval = _approval_adapter().validate_json(row["approval"]) if row["approval"] else None
        state: RunState = "needs_approval" if approval else "stopped"
        return UnfinishedRun(
            run_id=row["run_id"],
            question=row["question"],
            user=row["user"],
            state="running" if self._is_locked(row["run_id"]) else state,
            num_steps=row["num_steps"],
            updated_at=row["updated_at"],
            approval=approval,
        )

    def _is_locked(self, run_id: str) -> bool:
        try:
            with self.locked(run_id):
                return False
        except AgentError:
            return True

    def forget(self, run_id: str) -> None:
        """Delete a run that is not at work; one that is not there is no error.

        Raises:
            AgentError: It is at work, or it is no run's identifier.
        """
        with self.locked(run_id):
            self.delete(run_id)

    def delete(self, run_id: str) -> None:
        """Delete a run and its checkpoints; the caller holds its lock."""
        with self.saver() as saver:
            saver.delete_thread(run_id)
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        with self._opening:
            if (database := self.__dict__.pop("_opened", None)) is not None:
                database.close()

    # -- the ledger of calls that a person decides on

    def attempt(self, run_id: str, call: int) -> Attempt:
        """Return where a call stands: its last attempt that was begun, or the one that waits.

        Args:
            run_id: The run.
            call: The call's number, from 1.
        """
        rows = self._database.rows(
            "SELECT * FROM calls WHERE run_id = ? AND call = ? ORDER BY attempt DESC LIMIT 1", (run_id, call)
        )
        if not rows:
            return Attempt(1)
        row = rows[0]
        decision = _decisions().validate_json(row["decision"])
        if row["begun_at"] is None:
            return Attempt(row["attempt"], decision)
        if row["ended_at"] is None:
            return Attempt(row["attempt"] + 1, is_doubtful=True)
        return Attempt(row["attempt"], decision, result=row["result"])

    def decide(self, run_id: str, call: int, attempt: int, decision: Approval) -> None:
        """Note a person's word; a later word counts as long as the call has not been begun."""
        text = _decisions().dump_json(decision).decode()
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO calls (run_id, call, attempt, decision) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET decision = excluded.decision WHERE begun_at IS NULL",
                (run_id, call, attempt, text),
            )

    def begin_call(self, run_id: str, call: int, attempt: int) -> bool:
        """Note that a decided call is about to be made; False where this attempt was begun before."""
        with self._database.transaction() as connection:
            changed = connection.execute(
                "UPDATE calls SET begun_at = ? "
                "WHERE run_id = ? AND call = ? AND attempt = ? AND begun_at IS NULL",
                (time.time(), run_id, call, attempt),
            )
            return changed.rowcount == 1

    def end_call(self, run_id: str, call: int, attempt: int, result: str) -> None:
        """Note what a call brought."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE calls SET ended_at = ?, result = ? WHERE run_id = ? AND call = ? AND attempt = ?",
                (time.time(), result, run_id, call, attempt),
            )


@functools.cache
def _approval_adapter() -> TypeAdapter[ApprovalNeeded]:
    return TypeAdapter(ApprovalNeeded)


@functools.cache
def _decisions() -> TypeAdapter[Approval]:
    return TypeAdapter(Approval)
