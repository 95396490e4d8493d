"""One completion in the making: filled by the engine's thread, read by the caller's.

Place in the data's way: `Engine.submit` returns an `EngineGeneration`; iterating it, plainly or with
`async for`, yields `Prefill` and `Delta` as they happen.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from ..core.errors import LocalsmithError
from ..core.types import Delta, FinishReason, Prefill, Priority, SamplingParams, Usage

CANCEL_POLL_S = 0.05


class EngineGeneration:
    """A request and the stream of what the model makes of it.

    Args:
        prompt: Tokens of the rendered prompt.
        sampling: How to choose tokens.
        deadline_s: Seconds from now after which the completion ends with what it has; None for none.
        cancel: An event of the caller's that cancels when set.
        priority: "interactive" goes before "batch".
        user: Whose request it is.
        on_cancel: Called once when this generation is cancelled, from any thread.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        sampling: SamplingParams,
        *,
        deadline_s: float | None,
        cancel: threading.Event | None,
        priority: Priority,
        user: str,
        on_cancel: Callable[[EngineGeneration], None],
    ) -> None:
        self.prompt = tuple(prompt)
        self.sampling = sampling
        self.priority = priority
        self.user = user
        self.submitted_at = time.perf_counter()
        self.deadline_at = None if deadline_s is None else self.submitted_at + deadline_s
        self._cancel_event = cancel
        self._on_cancel = on_cancel
        self._cancelled = threading.Event()
        self._events: queue.SimpleQueue[Prefill | Delta | LocalsmithError | None] = queue.SimpleQueue()
        self._wake: Callable[[], object] | None = None  # tells an event loop that there is something to read
        self._usage = Usage(prompt_tokens=len(prompt))
        self._finish_reason: FinishReason | None = None

    # -- the caller's side

    @property
    def usage(self) -> Usage:
        """Counts and times so far; final once the iteration has ended."""
        return self._usage

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended; None while it runs."""
        return self._finish_reason

    def cancel(self) -> None:
        """Stop within one step; the iteration then ends with `finish_reason` "cancelled"."""
        if not self._cancelled.is_set():
            self._cancelled.set()
            self._on_cancel(self)

    def __iter__(self) -> Iterator[Prefill | Delta]:
        """Yield `Prefill` while the prompt is read, then `Delta`s; leaving the loop early cancels.

        Raises:
            GenerationError: The model failed.
        """
        try:
            while (event := self._next_event()) is not None:
                yield event
        finally:
            self._abandon()

    async def __aiter__(self) -> AsyncIterator[Prefill | Delta]:
        """Yield the same without blocking the event loop."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(ready.set)
        try:
            while True:
                ready.clear()
                while not self._events.empty():
                    if (event := self._next_event()) is None:
                        return
                    yield event
                await self._wait(ready)
        finally:
            self._wake = None
            self._abandon()

    async def _wait(self, ready: asyncio.Event) -> None:
        if self._cancel_event is None:
            await ready.wait()
            return
        while not ready.is_set():
            if self._cancel_event.is_set():
                self.cancel()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ready.wait(), CANCEL_POLL_S)

    def _next_event(self) -> Prefill | Delta | None:
        while True:
            if self._cancel_event is not None and self._cancel_event.is_set():
                self.cancel()
            try:
                event = self._events.get(timeout=None if self._cancel_event is None else CANCEL_POLL_S)
            except queue.Empty:
                continue
            if isinstance(event, LocalsmithError):
                raise event
            return event

    def _abandon(self) -> None:
        if self._finish_reason is None:
            self.cancel()

    # -- the engine's side

    @property
    def stop_cause(self) -> FinishReason | None:
        """Why the engine must stop now, "cancelled" or "deadline"; None where it may go on."""
        if self._cancelled.is_set():
            return "cancelled"
        if self.deadline_at is not None and time.perf_counter() >= self.deadline_at:
            return "deadline"
        return None

    @property
    def left_s(self) -> float | None:
        """Seconds until the deadline; None where there is none."""
        return None if self.deadline_at is None else self.deadline_at - time.perf_counter()

    def put(self, event: Prefill | Delta) -> None:
        """Hand an event to the reader."""
        self._hand_over(event)

    def update(self, usage: Usage) -> None:
        """Replace the usage."""
        self._usage = usage

    def finish(self, reason: FinishReason) -> None:
        """End the stream."""
        self._finish_reason = reason
        self._hand_over(None)

    def fail(self, error: LocalsmithError) -> None:
        """End the stream with an error."""
        self._finish_reason = "stop"
        self._hand_over(error)

    def _hand_over(self, event: Prefill | Delta | LocalsmithError | None) -> None:
        self._events.put(event)
        if (wake := self._wake) is not None:
            with contextlib.suppress(RuntimeError):  # the reader's event loop has been closed
                wake()
