"""Where a run stands, told to a client that waits for a tool.

Place in the data's way: a strategy's events -> a number that only grows, as the protocol asks, and a few
words -> `notifications/progress`.

Source: Model Context Protocol, revision 2025-06-18, "Progress": the value must increase with every
notification, and senders should limit how often they send.

Example:
    report = ProgressReport(send)
    await report.tell(Progress("reading", 120, 800))
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from ...core.types import Delta, Event, Progress, StepEnded

MIN_INTERVAL_S = 0.25
HEARTBEAT_S = 2.0  # where nothing countable happens; clients take silence for a hang
MAX_WORDS_CHARS = 300
Send: TypeAlias = Callable[[float, str], Awaitable[None]]
"""Sends one notification: the value and the words."""


class ProgressReport:
    """Tells a client how far its request is.

    Args:
        send: Sends a notification; None where the client asked for none.
        clock: Seconds that only grow.
    """

    def __init__(self, send: Send | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._value = 0.0
        self._topic = ""
        self._done = 0
        self._written = 0
        self._sent_at = -HEARTBEAT_S
        self._sent_value = 0.0

    async def tell(self, event: Event) -> None:
        """Tell of an event, unless one was told of only just now and the topic is the same.

        The value counts what was done: tokens read, pieces written, steps taken.
        """
        if isinstance(event, Progress):
            is_said = event.detail.startswith(event.stage)
            topic = event.detail if is_said else f"{event.stage} {event.detail}".rstrip()
            done = event.done or 0
            before = self._done if topic == self._topic else 0
            words = topic if event.total is None else f"{topic}: {done} of {event.total}"
            self._done = done
            await self._note(topic, max(0, done - before), words)
        elif isinstance(event, Delta):
            self._written += len(event.text)
            await self._note("writing", 1, f"writing: {self._written} characters")
        elif isinstance(event, StepEnded):
            await self._note(f"{event.step.kind}: {event.step.summary}", 1, "")

    async def _note(self, topic: str, gain: float, words: str) -> None:
        now, is_new = self._clock(), topic != self._topic
        self._topic = topic
        self._value += gain + is_new
        interval_s = MIN_INTERVAL_S if self._value > self._sent_value else HEARTBEAT_S
        if self._send is None or (now - self._sent_at < interval_s and not is_new):
            return
        self._value = max(self._value, self._sent_value + 1)
        self._sent_at, self._sent_value = now, self._value
        await self._send(self._value, (words or topic)[:MAX_WORDS_CHARS])
