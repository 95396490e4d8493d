"""How much a client may send and how often.

Place in the data's way: `RateLimiter` stands in the guard, before anything is read; `read_model` reads a
body, no further than it may be long, and turns it into a checked request.

Example:
    >>> limiter = RateLimiter(per_minute=60)
    >>> limiter.wait_s("somebody")
    0.0
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from fastapi import Request
from fastapi.exceptions import HTTPException
from pydantic import BaseModel, ValidationError

from .errors import ApiError, bad_request

MAX_CALLERS = 10_000
BODY_TIMEOUT_S = 30.0
Model = TypeVar("Model", bound=BaseModel)


class RateLimiter:
    """A token bucket for every caller, a minute's worth deep.

    Args:
        per_minute: Requests of one caller; 0 for no limit.
        clock: Seconds that only grow.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait_s(self, caller: str) -> float:
        """Take one request from the caller's bucket.

        Returns:
            0 where it may go on, else the seconds until it may; nothing is taken then.
        """
        if not self._per_minute:
            return 0.0
        now, rate = self._clock(), self._per_minute / 60
        level, since = self._buckets.get(caller, (float(self._per_minute), now))
        level = min(float(self._per_minute), level + (now - since) * rate)
        if level < 1:
            return (1 - level) / rate
        if len(self._buckets) >= MAX_CALLERS and caller not in self._buckets:
            self._forget_full(now, rate)
        self._buckets[caller] = (level - 1, now)
        return 0.0

    def _forget_full(self, now: float, rate: float) -> None:
        """Drop the buckets that have filled up; the oldest one where none has."""
        full = [
            name
            for name, (level, since) in self._buckets.items()
            if level + (now - since) * rate >= self._per_minute
        ]
        for name in full or [min(self._buckets, key=lambda name: self._buckets[name][1])]:
            del self._buckets[name]


async def read_model(request: Request, kind: type[Model], max_bytes: int) -> Model:
    """Read the body as JSON and check it.

    Args:
        request: The request, body unread.
        kind: The pydantic class of the body.
        max_bytes: Longest body, counted as it comes: a chunked one declares no length.

    Raises:
        ApiError: It is too long (413), too slow (408), not JSON (415, 400) or not as `kind` says (400).
        HTTPException: The client has gone.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        # Also a wall: a page elsewhere can't send this type without asking first.
        raise ApiError(
            415, "Send JSON with the header `Content-Type: application/json`.", "unsupported_media_type"
        )
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            body = await _read(request, max_bytes)
    except TimeoutError as exc:
        raise ApiError(408, f"The body took longer than {BODY_TIMEOUT_S:.0f} s.", "body_timeout") from exc
    try:
        return kind.model_validate_json(bytes(body))
    except ValidationError as exc:
        raise _explained(exc) from exc


async def _read(request: Request, max_bytes: int) -> bytearray:
    declared = request.headers.get("content-length", "")
    body = bytearray()
    if not declared.isdecimal() or int(declared) <= max_bytes:
        more = True
        while more and len(body) <= max_bytes:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise HTTPException(400, "The client has gone.")
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if len(body) <= max_bytes:
            return body
    raise ApiError(
        413, f"The body is longer than {max_bytes} bytes (serve.max_body_bytes).", "body_too_large"
    )


def _explained(exc: ValidationError) -> ApiError:
    """Return a 400 that names the first parameter at fault, as a client wrote it."""
    error = exc.errors(include_url=False, include_context=False, include_input=False)[0]
    param = ".".join(str(part) for part in error["loc"] if not _is_branch(part))
    if error["type"] == "json_invalid":
        return bad_request(f"The body is not valid JSON: {error['msg']}.", code="invalid_json")
    if error["type"] == "extra_forbidden":
        return bad_request(
            f"The parameter {param!r} is unknown or not supported here.", param, "unknown_parameter"
        )
    if error["type"] == "missing":
        return bad_request(f"The parameter {param!r} is missing.", param, "missing_required_parameter")
    hint = ""
    if error["type"] == "string_type" and param.partition(".")[0] in ("input", "prompt"):
        hint = " Send text, not token numbers (in LangChain: check_embedding_ctx_length=False)."
    return bad_request(f"{param or 'body'}: {error['msg']}.{hint}", param or None)


def _is_branch(part: str | int) -> bool:
    """Whether a part of a pydantic location is the name of a union's branch, which no client wrote."""
    return isinstance(part, str) and ("[" in part or part in ("str", "int", "float", "bool"))
