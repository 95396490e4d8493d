"""A strategy whose every run is kept as a trace, whatever becomes of it.

Place in the data's way: between the front door and a strategy. The events pass through, the answer with the
time of its first text; each step is stored as it ends, and the run when it ends: with its answer, with an
error, or because whoever listened went away. A store that fails costs the trace, never the run.

Example:
    strategy = recorded(RagStrategy(engine, library), TraceStore(settings.traces_path), "rag")
    answer = strategy.invoke(Question("What is a trace tree?"))
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Protocol

import structlog

from ..core.errors import StorageError
from ..core.trace_rows import partial_answer
from ..core.traces import Trace, TraceStore
from ..core.types import Answer, ApprovalNeeded, Delta, Event, Final, Question, Step, StepEnded
from .strategy import Strategy

_log = structlog.get_logger(__name__)

OnKept = Callable[[Trace], None]
"""Called with every run once it is kept; for example `TraceExporter.send`."""


class Answering(Protocol):
    """What can be recorded."""

    def events(self, question: Question, *, cancel: threading.Event | None = None) -> Iterator[Event]:
        """Answer a question step by step."""
        ...


class Recorded(Strategy):
    """A strategy beside a store; invoke, stream and their asynchronous forms are recorded, too."""

    def __init__(
        self,
        strategy: Answering,
        store: TraceStore,
        name: str,
        model: str = "",
        on_kept: OnKept | None = None,
    ) -> None:
        """Keep the parts; see `recorded`."""
        self.strategy = strategy
        self._store = store
        self.name = name
        self._model = model
        self._on_kept = on_kept

    def events(
        self, question: Question, *, cancel: threading.Event | None = None
    ) -> Generator[Event, None, None]:
        """Run the strategy and keep the run; see `Strategy.events`.

        Args:
            question: The question with its history and collection.
            cancel: Setting it ends the run with what is there.

        Returns:
            The strategy's own events; see `record`.
        """
        events = self.strategy.events(question, cancel=cancel)
        name = self.name or ""
        return record(events, question, self._store, name, model=self._model, on_kept=self._on_kept)


def recorded(
    strategy: Answering, store: TraceStore, name: str, *, model: str = "", on_kept: OnKept | None = None
) -> Recorded:
    """Return the strategy with every run kept.

    Args:
        strategy: The strategy.
        store: Where its runs are kept.
        name: Name of the strategy, as it is listed.
        model: Name of the model, for runs that end without an answer to say it.
        on_kept: Called with every run once it is kept; must neither block nor raise.
    """
    return Recorded(strategy, store, name, model, on_kept)


def record(
    events: Iterator[Event],
    question: Question,
    store: TraceStore,
    name: str,
    *,
    model: str = "",
    on_kept: OnKept | None = None,
) -> Generator[Event, None, None]:
    """Pass the events of one run through and keep it; for runs that begin otherwise than by `events`.

    Args:
        events: The run's events.
        question: What was asked.
        store: Where the run is kept.
        name: Name of the strategy.
        model: Name of the model, for a run that ends without an answer.
        on_kept: Called with the run once it is kept.

    Yields:
        The events in order and unchanged, but for the answer: when its first text came is known only here.
    """
    notes = _Notes(store, question, name, model, on_kept)
    try:
        for event in events:
            yield notes.add(event)
    except Exception as exc:
        notes.end_early(exc)
        raise
    finally:
        close = getattr(events, "close", None)
        if close is not None:
            close()  # the model stops before the run is written down
        notes.end_early(None)


class _Notes:
    """What is known of one run so far."""

    def __init__(
        self, store: TraceStore, question: Question, name: str, model: str, on_kept: OnKept | None
    ) -> None:
        self._store = store
        self._model = model
        self._on_kept = on_kept
        self._begun = time.monotonic()
        self._texts: list[str] = []
        self._first_text_s = 0.0
        self._steps: list[Step] = []
        self._run_id = ""
        self._is_ended = False
        self._trace_id = ""
        with _never_in_the_way():
            self._trace_id = store.begin(question, name)

    def add(self, event: Event) -> Event:
        if isinstance(event, Delta):
            if not self._texts:
                self._first_text_s = time.monotonic() - self._begun
            self._texts.append(event.text)
        elif isinstance(event, StepEnded):
            self._steps.append(event.step)
            if self._trace_id:
                with _never_in_the_way():
                    self._store.add_step(self._trace_id, event.step)
        elif isinstance(event, ApprovalNeeded):
            self._run_id = event.run_id
        elif isinstance(event, Final):
            # Before whoever listens has the answer: the trace it names can be looked at from then on.
            answer = replace(event.answer, time_to_first_text_s=self._first_text_s)
            self._end(answer, None)
            return Final(answer)
        return event

    def end_early(self, error: Exception | None) -> None:
        """End a run that has not come to its answer; nothing where it has ended."""
        if self._is_ended:
            return
        elapsed_s = time.monotonic() - self._begun
        answer = partial_answer(tuple(self._steps), "".join(self._texts), self._model, elapsed_s)
        answer = replace(answer, trace_id=self._run_id, time_to_first_text_s=self._first_text_s)
        self._end(answer, error)

    def _end(self, answer: Answer, error: Exception | None) -> None:
        self._is_ended = True
        if not self._trace_id:
            return
        with _never_in_the_way():
            trace_id = self._store.finish(self._trace_id, answer, error=error)
            if error is not None:
                _log.warning("run_failed", trace_id=trace_id, error=type(error).__name__)
            if self._on_kept is not None and (trace := self._store.get(trace_id)) is not None:
                self._on_kept(trace)


@contextlib.contextmanager
def _never_in_the_way() -> Iterator[None]:
    """Log what keeps a trace from being kept: a full disk, or a step that holds what it may not."""
    try:
        yield
    except (StorageError, TypeError, ValueError) as exc:
        _log.warning("trace_not_kept", error=str(exc))
