"""The completions of one request while they run.

Place in the data's way: a route submits to the model and hands a `Job` to `respond`; the job's `Form` knows
how the pieces look in JSON; `Feed` merges the runs; a client that leaves cancels them.

Example:
    async with cancelled_when_left(job, request.receive):
        feed = Feed(job.runs)
        items = await feed.next()
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..core.types import Delta, FinishReason, Prefill, Progress, StepEnded, TokenLogprob, Usage
from .guard import Receive

EventOfRun = Prefill | Progress | Delta | StepEnded
# The engine ends a request at its deadline; this much later a client that doesn't read is let go.
UNREAD_GRACE_S = 30.0


class Run(Protocol):
    """A generation, or a strategy's run in the shape of one."""

    @property
    def usage(self) -> Usage:
        """Counts so far."""
        ...

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended; None while it runs."""
        ...

    def __aiter__(self) -> AsyncIterator[EventOfRun]:
        """Yield events as they come."""
        ...

    def cancel(self) -> None:
        """Stop within one step."""
        ...


@dataclass(slots=True)
class Completion:
    """One choice, whole.

    Attributes:
        run: Where it came from.
        text: Its text.
        logprobs: Its tokens, where they were asked for.
    """

    run: Run
    text: str
    logprobs: tuple[TokenLogprob, ...]


class Form(Protocol):
    """How an endpoint writes completions as JSON; the stream's pieces are whole server-sent events."""

    def first(self, index: int) -> bytes:
        """Open choice `index`; b"" where nothing is to be said."""
        ...

    def piece(self, index: int, deltas: Sequence[Delta]) -> bytes:
        """Continue it."""
        ...

    def progress(self, index: int, event: Prefill | Progress | StepEnded) -> bytes:
        """Say how far it is, or which step has ended; b"" where the client didn't ask."""
        ...

    def last(self, index: int, run: Run) -> bytes:
        """Close it."""
        ...

    def end(self, runs: Sequence[Run]) -> bytes:
        """Close the stream."""
        ...

    def whole(self, completions: Sequence[Completion]) -> bytes:
        """Return the whole response's JSON."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """What a request set going.

    Attributes:
        runs: One a choice.
        form: How the endpoint writes them.
        route: For the figures.
        begun: When the request came, by `time.perf_counter`.
    """

    runs: Sequence[Run]
    form: Form
    route: str
    begun: float = field(default_factory=time.perf_counter)

    def cancel(self) -> None:
        """Stop all of it; what has ended stays as it is."""
        for run in self.runs:
            run.cancel()


class Feed:
    """What several runs yield, merged; whatever has come since the last look comes at once."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._items: list[tuple[int, EventOfRun | Exception | None]] = []
        self._news = asyncio.Event()
        self._tasks = [asyncio.create_task(self._pump(i, run)) for i, run in enumerate(runs)]

    async def next(self) -> list[tuple[int, EventOfRun | Exception | None]]:
        """Wait for news and return all: (choice, event), with None at a run's end and its error instead."""
        await self._news.wait()
        self._news.clear()
        items, self._items = self._items, []
        return items

    async def close(self) -> None:
        """End the tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pump(self, index: int, run: Run) -> None:
        end: Exception | None = None
        try:
            async for event in run:
                self._items.append((index, event))
                self._news.set()
        except Exception as exc:  # noqa: BLE001 - raised again or told to the client by the reader
            end = exc
        self._items.append((index, end))
        self._news.set()


@contextlib.asynccontextmanager
async def cancelled_when_left(job: Job, receive: Receive) -> AsyncIterator[Callable[[], bool]]:
    """Cancel the job when its client leaves, or when the block is left for whatever reason.

    Yields:
        A function that tells whether the client has gone.
    """
    has_left = False

    async def watch() -> None:
        nonlocal has_left
        while (await receive())["type"] != "http.disconnect":
            pass
        has_left = True
        job.cancel()

    async with background(watch()):
        try:
            yield lambda: has_left
        finally:
            job.cancel()


@contextlib.asynccontextmanager
async def background(coroutine: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a coroutine beside the block, no longer than it."""
    task = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
