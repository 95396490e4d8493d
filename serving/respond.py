"""A job's response, streamed or in one piece.

Place in the data's way: every route that generates ends here.

Example:
    return await respond(Job(runs, form, route="/v1/chat/completions"), request, is_stream=body.stream)
"""

from __future__ import annotations

import time

from fastapi import Request, Response

from ..core.types import Delta, TokenLogprob
from .job import Completion, Feed, Job, cancelled_when_left
from .service import Service, service_of
from .stream import EventStream

CLIENT_GONE = 499  # nginx's number for a client that left before the answer


async def respond(job: Job, request: Request, *, is_stream: bool) -> Response:
    """Return the response to a request that set `job` going.

    Raises:
        LocalsmithError: A completion failed, and nothing has been sent.
    """
    service = service_of(request)
    if is_stream:
        return EventStream(job, service)
    async with cancelled_when_left(job, request.receive) as has_left:
        completions = await _collect(job, service)
        if has_left():
            return Response(status_code=CLIENT_GONE)
    return Response(job.form.whole(completions), media_type="application/json")


async def _collect(job: Job, service: Service) -> list[Completion]:
    texts: list[list[str]] = [[] for _ in job.runs]
    logprobs: list[list[TokenLogprob]] = [[] for _ in job.runs]
    feed, num_open, is_first = Feed(job.runs), len(job.runs), True
    try:
        while num_open:
            for index, event in await feed.next():
                if isinstance(event, Delta):
                    if is_first:
                        is_first = False
                        service.metrics.count_first_token(job.route, time.perf_counter() - job.begun)
                    texts[index].append(event.text)
                    logprobs[index] += event.logprobs
                elif event is None:
                    num_open -= 1
                elif isinstance(event, Exception):
                    raise event
    finally:
        await feed.close()
    return [
        Completion(run, "".join(text), tuple(tokens))
        for run, text, tokens in zip(job.runs, texts, logprobs, strict=True)
    ]
