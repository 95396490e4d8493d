"""Completions as server-sent events, in as few steps a token as can be.

Place in the data's way: `respond` returns an `EventStream`; it writes to the server's `send` itself. What has
queued up since the last write goes out in one.

Example:
    return EventStream(job, service)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog
from fastapi import Response

from ..core.types import Delta, Prefill, Progress, StepEnded
from .errors import api_error
from .guard import Receive, Scope, Send
from .job import UNREAD_GRACE_S, EventOfRun, Feed, Job, background, cancelled_when_left
from .service import Service

HEARTBEAT_S = 15.0
HEARTBEAT = b": still here\n\n"
DONE = b"data: [DONE]\n\n"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold the tokens back
]
_log = structlog.get_logger(__name__)


class EventStream(Response):
    """A response that writes a job's pieces as they come.

    Args:
        job: What is running.
        service: Its figures and limits.
    """

    def __init__(self, job: Job, service: Service) -> None:
        super().__init__()
        self._job = job
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it; a client that leaves or doesn't read stops the model."""
        limit_s = self._service.settings.deadline_s + UNREAD_GRACE_S
        self._service.metrics.streams.inc()
        try:
            async with cancelled_when_left(self._job, receive), asyncio.timeout(limit_s):
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                await self._send_all(send)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            _log.warning("client_does_not_read", route=self._job.route)
            if abort := scope.get("abort"):
                abort()  # a polite close would wait until what is buffered has been read
        finally:
            self._service.metrics.streams.dec()

    async def _send_all(self, send: Send) -> None:
        written_at = time.monotonic()

        async def write(data: bytes) -> None:
            nonlocal written_at
            if data:
                written_at = time.monotonic()
                await send({"type": "http.response.body", "body": data, "more_body": True})

        async def keep_alive() -> None:
            while True:
                await asyncio.sleep(HEARTBEAT_S / 2)
                if time.monotonic() - written_at > HEARTBEAT_S:
                    await write(HEARTBEAT)

        feed = Feed(self._job.runs)
        try:
            async with background(keep_alive()):
                await self._pass_on(feed, write)
        finally:
            await feed.close()

    async def _pass_on(self, feed: Feed, write: Callable[[bytes], Awaitable[None]]) -> None:
        runs, form = self._job.runs, self._job.form
        await write(b"".join(form.first(i) for i in range(len(runs))))
        num_open, has_text = len(runs), False
        while num_open:
            out = []
            for index, events in _grouped(await feed.next()):
                if isinstance(events, list):
                    out.append(form.piece(index, events))
                    if not has_text:
                        has_text = True
                        waited_s = time.perf_counter() - self._job.begun
                        self._service.metrics.count_first_token(self._job.route, waited_s)
                elif isinstance(events, Exception):
                    _log.warning("stream_failed", error=str(events), route=self._job.route)
                    await write(b"".join([*out, b"data: " + api_error(events).body + b"\n\n"]))
                    return
                elif events is None:
                    num_open -= 1
                    out.append(form.last(index, runs[index]))
                elif isinstance(events, Prefill | Progress | StepEnded):
                    out.append(form.progress(index, events))
            await write(b"".join(out))
        await write(form.end(runs) + DONE)


def _grouped(
    items: list[tuple[int, EventOfRun | Exception | None]],
) -> list[tuple[int, list[Delta] | EventOfRun | Exception | None]]:
    """Return the items with neighbouring deltas of one choice put together."""
    grouped: list[tuple[int, list[Delta] | EventOfRun | Exception | None]] = []
    deltas: list[Delta] | None = None
    last = -1
    for index, event in items:
        if isinstance(event, Delta):
            if deltas is not None and index == last:
                deltas.append(event)
                continue
            deltas, last = [event], index
            grouped.append((index, deltas))
        else:
            deltas = None
            grouped.append((index, event))
    return grouped
