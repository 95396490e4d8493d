"""Documents being added, owned by the server process and not by a browser tab.

Place in the data's way: uploaded files -> `Ingests.start` -> `Library.ingest` in a thread -> rows that any
page can look at. Leaving the page stops nothing; cancelling keeps what was added.

Example:
    run = Ingests(front_door).start([("plan.pdf", content)], "default")
    [(row.name, row.state) for row in run.view().rows]
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import structlog

from ..core.errors import ModelNotReadyError
from ..retrieval.ingest import (
    FileAdded,
    FileDuplicate,
    FileEmbedding,
    FileFailed,
    FileParsed,
    FileStarted,
    IngestDone,
    IngestEvent,
)
from ..retrieval.sources import display_name
from . import words
from .frontdoor import FrontDoor

log = structlog.get_logger(__name__)

RowState: TypeAlias = Literal["waiting", "reading", "indexing", "added", "duplicate", "failed", "cancelled"]
FINISHED: frozenset[RowState] = frozenset({"added", "duplicate", "failed", "cancelled"})
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Row:
    """One file of a batch.

    Attributes:
        name: Its name, harmless to show.
        state: Where it stands.
        share: How much of it is indexed, 0 to 1.
        note: Warnings, or why it failed and what to do.
    """

    name: str
    state: RowState = "waiting"
    share: float = 0.0
    note: str = ""


@dataclass(frozen=True, slots=True)
class IngestView:
    """A batch as it stands at one moment.

    Attributes:
        rows: The files, in the order given.
        eta_s: Expected seconds left; None where unknown.
        elapsed_s: Seconds since it began.
        is_cancelling: Whether it was told to stop.
        has_ended: Whether it has stopped.
        error: What ended the whole batch early, or "".
    """

    rows: tuple[Row, ...]
    eta_s: float | None
    elapsed_s: float
    is_cancelling: bool
    has_ended: bool
    error: str

    @property
    def share(self) -> float:
        """How much of the batch is done, 0 to 1, every file counting the same."""
        if not self.rows:
            return 1.0 if self.has_ended else 0.0
        return sum(1.0 if row.state in FINISHED else row.share for row in self.rows) / len(self.rows)


@dataclass
class IngestRun:
    """One batch; written by its thread, read by any page."""

    title: str
    collection: str
    done_word: str = "added"
    rows: list[Row] = field(default_factory=list)
    cancel: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    eta_s: float | None = None
    error: str = ""
    started: float = field(default_factory=time.monotonic)
    stopped: float | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def view(self) -> IngestView:
        """Return everything as it is at this moment."""
        with self.lock:
            elapsed_s = (self.stopped or time.monotonic()) - self.started
            return IngestView(
                tuple(self.rows), self.eta_s, elapsed_s, self.cancel.is_set(), self.ended.is_set(), self.error
            )

    def take(self, event: IngestEvent) -> None:
        """Note one event of the library."""
        with self.lock:
            self.eta_s = event.overall.eta_s
            if isinstance(event, IngestDone):
                return
            index = self._row(event.name, is_new=isinstance(event, FileStarted))
            self.rows[index] = _changed(self.rows[index], event)

    def end(self, error: str = "") -> None:
        """Close the batch: what has not been finished is cancelled."""
        with self.lock:
            self.rows = [
                row if row.state in FINISHED else replace(row, state="cancelled") for row in self.rows
            ]
            self.error, self.eta_s, self.stopped = error, None, time.monotonic()
            self.ended.set()

    def _row(self, name: str, is_new: bool) -> int:
        # Two files of a batch may have one name: the events of the first come first.
        for index, row in enumerate(self.rows):
            if row.name == name and (row.state == "waiting" if is_new else row.state not in FINISHED):
                return index
        self.rows.append(Row(name))
        return len(self.rows) - 1


class Ingests:
    """All batches of the process that are running or whose result has not been dismissed."""

    def __init__(self, front_door: FrontDoor) -> None:
        """Start with none."""
        self._front = front_door
        self._lock = threading.Lock()
        self._runs: list[IngestRun] = []

    def start(self, files: Sequence[tuple[str, bytes]], collection: str) -> IngestRun:
        """Add files to a collection in the background."""
        run = IngestRun("Adding documents", collection, rows=[Row(display_name(name)) for name, _ in files])
        return self._begin(run, lambda: self._front.library.ingest(files, collection))

    def start_reindex(self, collection: str) -> IngestRun:
        """Read all documents of a collection again in the background."""
        run = IngestRun("Reading all documents again", collection, "indexed again")
        return self._begin(run, lambda: self._front.library.reindex(collection))

    def runs(self, collection: str) -> list[IngestRun]:
        """Return the batches of a collection, the oldest first."""
        with self._lock:
            return [run for run in self._runs if run.collection == collection]

    def active(self, collection: str) -> list[IngestRun]:
        """Return those that are still running."""
        return [run for run in self.runs(collection) if not run.ended.is_set()]

    def dismiss(self, run: IngestRun) -> None:
        """Forget a batch that has ended."""
        with self._lock:
            self._runs = [kept for kept in self._runs if kept is not run]

    def _begin(self, run: IngestRun, events: Callable[[], Iterator[IngestEvent]]) -> IngestRun:
        with self._lock:
            # One result at a time is worth showing: an older one gives way.
            self._runs = [
                kept for kept in self._runs if kept.collection != run.collection or not kept.ended.is_set()
            ]
            self._runs.append(run)
        threading.Thread(target=self._work, args=(run, events), name="ingest", daemon=True).start()
        return run

    def _work(self, run: IngestRun, events: Callable[[], Iterator[IngestEvent]]) -> None:
        error = ""
        try:
            self._wait_for_embedder(run)
            if not run.cancel.is_set():
                stream = events()
                for event in stream:
                    run.take(event)
                    if run.cancel.is_set():
                        close = getattr(stream, "close", None)
                        if close is not None:
                            close()
                        break
        except Exception as exc:  # noqa: BLE001 - the last frame of a thread: told to the person, logged in full
            error = " ".join(words.of_error(exc)).strip()
        finally:
            run.end(error)
        log.info("ingest_ended", collection=run.collection, files=len(run.rows), error=error)

    def _wait_for_embedder(self, run: IngestRun) -> None:
        while not run.cancel.is_set():
            states = [state for state in self._front.loading if state.name == "embedder"]
            for failed in (state for state in states if state.state == "failed"):
                raise failed.error or ModelNotReadyError("The search model could not be loaded.")
            if all(state.state == "ready" for state in states):
                return
            time.sleep(POLL_S)


def _changed(row: Row, event: IngestEvent) -> Row:
    if isinstance(event, FileStarted):
        return replace(row, state="reading")
    if isinstance(event, FileParsed):
        return replace(row, state="indexing", note=" ".join(event.warnings))
    if isinstance(event, FileEmbedding):
        return replace(row, state="indexing", share=event.done / event.total if event.total else 0.0)
    if isinstance(event, FileAdded):
        note = " ".join(event.document.warnings)
        return replace(row, state="added", share=1.0, note=note)
    if isinstance(event, FileDuplicate):
        return replace(row, state="duplicate", share=1.0, note=f"Already here as {event.document.name}.")
    if isinstance(event, FileFailed):
        return replace(row, state="failed", note=" ".join(words.of_error(event.error)).strip())
    return row
