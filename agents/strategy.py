"""What every strategy is: events for the person who waits, and a LangChain `Runnable[Question, Answer]`.

Place in the data's way: `rag.py`, `cot.py`, `pal.py`, … write `events` and nothing else; invoke, stream and
their asynchronous forms come from here. `Run` is the notebook of one run: steps, clock, last word.

Example:
    for event in strategy.events(Question("How many apples are left?")):
        if isinstance(event, Delta):
            print(event.text, end="")
"""

from __future__ import annotations

import threading
import time
import uuid
from abc import abstractmethod
from collections.abc import AsyncIterator, Generator, Iterator
from dataclasses import replace
from typing import Any

import structlog
from langchain_core.runnables import Runnable, RunnableConfig

from ..core.trace_rows import total_usage
from ..core.types import (
    Answer,
    BudgetReport,
    Citation,
    Delta,
    Event,
    Final,
    Passage,
    Question,
    Step,
    StepEnded,
    StepKind,
    StopReason,
    Usage,
)
from .streaming import iterate_in_thread

_log = structlog.get_logger(__name__)


class Strategy(Runnable[Question, Answer]):
    """A way to answer a question; whoever derives from it writes `events`."""

    @abstractmethod
    def events(
        self, question: Question, *, cancel: threading.Event | None = None
    ) -> Generator[Event, None, None]:
        """Run, telling where it stands.

        Args:
            question: The question with its history and collection.
            cancel: Setting it ends the run with what is there; closing the generator stops the model, too.

        Yields:
            `Progress` from the start, a `StepEnded` a step, `Delta`s whose texts joined are the answer's
            text, and one `Final`.
        """

    def aevents(self, question: Question, *, cancel: threading.Event | None = None) -> AsyncIterator[Event]:
        """Do the same without blocking the event loop."""
        return iterate_in_thread(lambda: self.events(question, cancel=cancel))

    def invoke(self, input: Question, config: RunnableConfig | None = None, **kwargs: Any) -> Answer:
        """Answer a question; see `events` for what it raises."""
        return self._call_with_config(self._last, input, config, **kwargs)

    async def ainvoke(self, input: Question, config: RunnableConfig | None = None, **kwargs: Any) -> Answer:
        """Answer a question; cancelling the task stops the model."""
        return await self._acall_with_config(self._alast, input, config, **kwargs)

    def stream(
        self, input: Question, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[Answer]:
        """Yield pieces of the answer that add up (`+`) to it; the last one has no text and all the rest."""
        return self._transform_stream_with_config(iter([input]), self._pieces, config, **kwargs)

    def astream(
        self, input: Question, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Answer]:
        """Yield the same without blocking the event loop."""
        return self._atransform_stream_with_config(_only(input), self._apieces, config, **kwargs)

    def _last(self, question: Question) -> Answer:
        return [event.answer for event in self.events(question) if isinstance(event, Final)][-1]

    async def _alast(self, question: Question) -> Answer:
        return [event.answer async for event in self.aevents(question) if isinstance(event, Final)][-1]

    def _pieces(self, questions: Iterator[Question]) -> Iterator[Answer]:
        for event in self.events(next(questions)):
            yield from _piece(event)

    async def _apieces(self, questions: AsyncIterator[Question]) -> AsyncIterator[Answer]:
        async for event in self.aevents(await anext(questions)):
            for piece in _piece(event):
                yield piece


class Run:
    """The notebook of one run.

    Args:
        model: Name of the model, for the answer.
        cancel: Set when the run is to end; None for an event of its own.
    """

    def __init__(self, model: str, cancel: threading.Event | None = None) -> None:
        self.cancel = cancel or threading.Event()
        self.trace_id = uuid.uuid4().hex
        self.steps: list[Step] = []
        self._model = model
        self._begun = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._begun

    @property
    def usage(self) -> Usage:
        """What the model has done so far."""
        return total_usage(self.steps)

    def step(
        self,
        kind: StepKind,
        summary: str,
        begun: float,
        usage: Usage | None = None,
        *,
        prompt: str = "",
        output: str = "",
        is_error: bool = False,
        steps: tuple[Step, ...] = (),
    ) -> StepEnded:
        """Note a step and return the event that tells of it.

        Args:
            kind: What was done.
            summary: What happened, in one line for people.
            begun: `time.monotonic()` at its beginning.
            usage: What the model did in it, its inner steps not counted.
            prompt: What was given.
            output: What came back.
            is_error: Whether it failed.
            steps: Its inner steps.
        """
        duration_s, begun_s = time.monotonic() - begun, begun - self._begun
        step = Step(kind, summary, duration_s, usage, begun_s, prompt, output, is_error, steps)
        self.steps.append(step)
        return StepEnded(step)

    def final(
        self,
        text: str,
        reason: StopReason,
        citations: tuple[Citation, ...] = (),
        passages: tuple[Passage, ...] = (),
        budget: BudgetReport | None = None,
    ) -> Final:
        """Return the last event: the answer with everything that was noted."""
        answer = Answer(
            text=text,
            stop_reason=reason,
            citations=citations,
            passages=passages,
            steps=tuple(self.steps),
            usage=self.usage,
            budget=budget,
            model=self._model,
            trace_id=self.trace_id,
            duration_s=self.elapsed_s,
        )
        _log.info(
            "answered",
            trace_id=answer.trace_id,
            stop_reason=reason,
            duration_s=round(answer.duration_s, 3),
            prompt_tokens=answer.usage.prompt_tokens,
            completion_tokens=answer.usage.completion_tokens,
            num_citations=len(citations),
        )
        return Final(answer)


async def _only(question: Question) -> AsyncIterator[Question]:
    yield question


def _piece(event: Event) -> Iterator[Answer]:
    if isinstance(event, Delta):
        yield Answer(event.text, "answered")
    elif isinstance(event, Final):
        yield replace(event.answer, text="")
