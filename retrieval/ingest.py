"""Files in, events out: the next file is parsed while the current one is embedded.

Place in the data's way: `Library.ingest` and `Library.reindex` hand jobs and the steps for one file to
`run_ingest`; a page shows its events as they come. Closing the generator cancels: what was added stays, the
file in work leaves no trace.

Example:
    >>> Overall(done=1, total=4, eta_s=12.5).total
    4
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ..core.contracts import Embedder
from ..core.errors import LocalsmithError, ModelError
from ..core.types import Document
from .document_rows import NewDocument
from .originals import StagedFile
from .sources import Job

EMBED_GROUP = 64
"""Chunks embedded between two looks at progress and cancellation."""
_LOOKAHEAD = 2  # one file being parsed, one parsed and waiting


@dataclass(frozen=True, slots=True)
class Overall:
    """How far the whole batch is.

    Attributes:
        done: Files finished, whatever came of them.
        total: Files in all.
        eta_s: Expected seconds left, by bytes done so far; None while it can't be told.
    """

    done: int
    total: int
    eta_s: float | None


@dataclass(frozen=True, slots=True)
class FileStarted:
    """A file is being read and parsed."""

    name: str
    overall: Overall


@dataclass(frozen=True, slots=True)
class FileParsed:
    """A file's text is there."""

    name: str
    num_chunks: int
    num_pages: int | None
    warnings: tuple[str, ...]
    overall: Overall


@dataclass(frozen=True, slots=True)
class FileEmbedding:
    """`done` of `total` chunks of a file are embedded."""

    name: str
    done: int
    total: int
    overall: Overall


@dataclass(frozen=True, slots=True)
class FileAdded:
    """A document is searchable and safe on disk; `is_restored` where it had been removed before."""

    name: str
    document: Document
    is_restored: bool
    overall: Overall


@dataclass(frozen=True, slots=True)
class FileDuplicate:
    """The collection already holds a document with this content."""

    name: str
    document: Document
    overall: Overall


@dataclass(frozen=True, slots=True)
class FileFailed:
    """A file was not added: a `LoadError` where it can't be read, a `StorageError` where the disk is full."""

    name: str
    error: LocalsmithError
    overall: Overall


@dataclass(frozen=True, slots=True)
class IngestDone:
    """The batch has ended; always the last event."""

    num_added: int
    num_duplicates: int
    num_failed: int
    duration_s: float
    overall: Overall


IngestEvent: TypeAlias = (
    FileStarted | FileParsed | FileEmbedding | FileAdded | FileDuplicate | FileFailed | IngestDone
)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A parsed file, ready to be embedded.

    Attributes:
        document: What will be written.
        texts: What will be embedded, one a chunk.
        staged: The copy of the file that will be kept; None where it is kept already.
    """

    document: NewDocument
    texts: tuple[str, ...]
    staged: StagedFile | None


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a file: a document added (anew or restored) or found present."""

    document: Document
    kind: Literal["added", "restored", "duplicate"]


class Steps(Protocol):
    """What is done to one file; `prepare` runs in a second thread."""

    def prepare(self, job: Job, should_stop: Callable[[], bool]) -> Prepared | Settled:
        """Read, parse and cut the file, or find that nothing needs to be done.

        Raises:
            LocalsmithError: The file can't be added.
        """
        ...

    def commit(self, job: Job, prepared: Prepared, vectors: npt.NDArray[np.float32]) -> Settled:
        """Write the document in one transaction."""
        ...

    def discard(self, prepared: Prepared) -> None:
        """Clean up after a prepared file that will not be committed."""
        ...


def run_ingest(jobs: Sequence[Job], steps: Steps, embedder: Embedder) -> Iterator[IngestEvent]:
    """Take every job through prepare, embed and commit; one bad file never stops the rest.

    Raises:
        ModelError: The embedding model failed; the files before it are added.
    """
    return _Run(jobs, steps, embedder).events()


class _Run:
    """One batch on its way."""

    def __init__(self, jobs: Sequence[Job], steps: Steps, embedder: Embedder) -> None:
        self._jobs = jobs
        self._steps = steps
        self._embedder = embedder
        self._futures: list[Future[Prepared | Settled]] = [Future() for _ in jobs]
        self._room = threading.Semaphore(_LOOKAHEAD)
        self._stop = threading.Event()
        self._news: SimpleQueue[Callable[[], IngestEvent] | None] = SimpleQueue()
        self._started_at = time.monotonic()
        self._counts = {"added": 0, "restored": 0, "duplicate": 0, "failed": 0}
        known = [job.size_bytes for job in jobs if job.size_bytes is not None]
        typical = sum(known) / len(known) if known else 1.0
        # One extra byte each, so that a batch of empty files has a length too.
        self._weights = [1.0 + (typical if job.size_bytes is None else job.size_bytes) for job in jobs]
        self._done = 0
        self._part = 0.0  # of the current file, 0 to 1

    def events(self) -> Iterator[IngestEvent]:
        # A daemon thread: a parser that hangs must not keep the program from ending.
        threading.Thread(target=self._work, name="localsmith-prepare", daemon=True).start()
        try:
            for job, future in zip(self._jobs, self._futures, strict=True):
                yield from self._one(job, future)
                self._room.release()
            yield IngestDone(
                self._counts["added"] + self._counts["restored"],
                self._counts["duplicate"],
                self._counts["failed"],
                time.monotonic() - self._started_at,
                self._overall(),
            )
        finally:
            self._stop.set()
            self._room.release()
            for future in self._futures[self._done :]:
                future.add_done_callback(self._discard)

    def _work(self) -> None:
        """Prepare the files one after the other, never more than `_LOOKAHEAD` of them ahead."""
        for job, future in zip(self._jobs, self._futures, strict=True):
            self._room.acquire()
            if self._stop.is_set():
                return
            try:
                outcome = self._prepare(job)
            except BaseException as exc:  # noqa: BLE001 - it is raised where the future is awaited
                future.set_exception(exc)
            else:
                future.set_result(outcome)
            self._news.put(None)

    def _one(self, job: Job, future: Future[Prepared | Settled]) -> Iterator[IngestEvent]:
        while not future.done():
            if (news := self._news.get()) is not None:
                yield news()
        yield from self._drain()
        try:
            outcome = future.result()
            if isinstance(outcome, Prepared):
                vectors = yield from self._embed(job, outcome)
                outcome = self._steps.commit(job, outcome, vectors)
        except ModelError:
            raise  # the embedding model is broken: no other file would fare better
        except LocalsmithError as exc:
            self._finish("failed")
            yield FileFailed(job.name, exc, self._overall())
            return
        self._finish(outcome.kind)
        if outcome.kind == "duplicate":
            yield FileDuplicate(job.name, outcome.document, self._overall())
        else:
            yield FileAdded(job.name, outcome.document, outcome.kind == "restored", self._overall())

    def _embed(self, job: Job, prepared: Prepared) -> Generator[IngestEvent, None, npt.NDArray[np.float32]]:
        total = len(prepared.texts)
        groups = []
        for start in range(0, total, EMBED_GROUP):
            self._part = start / total
            yield from self._drain()
            yield FileEmbedding(job.name, start, total, self._overall())
            groups.append(self._embedder.encode(prepared.texts[start : start + EMBED_GROUP]))
        yield FileEmbedding(job.name, total, total, self._overall())
        return np.concatenate(groups)

    def _prepare(self, job: Job) -> Prepared | Settled:
        self._news.put(lambda: FileStarted(job.name, self._overall()))
        outcome = self._steps.prepare(job, self._stop.is_set)
        if isinstance(outcome, Prepared):
            new = outcome.document
            self._news.put(
                lambda: FileParsed(job.name, len(new.chunks), new.num_pages, new.warnings, self._overall())
            )
        return outcome

    def _discard(self, future: Future[Prepared | Settled]) -> None:
        if future.exception() is None:
            outcome = future.result()
            if isinstance(outcome, Prepared):
                self._steps.discard(outcome)

    def _drain(self) -> Iterator[IngestEvent]:
        while not self._news.empty():
            if (news := self._news.get()) is not None:
                yield news()

    def _finish(self, kind: str) -> None:
        self._counts[kind] += 1
        self._done += 1
        self._part = 0.0

    def _overall(self) -> Overall:
        weight = sum(self._weights[: self._done])
        if self._done < len(self._weights):
            weight += self._part * self._weights[self._done]
        share = weight / sum(self._weights) if self._weights else 1.0
        elapsed_s = time.monotonic() - self._started_at
        eta_s = elapsed_s * (1 - share) / share if share > 0 else None
        return Overall(self._done, len(self._jobs), eta_s)
