"""The door: who may come in, how often, and that nobody leaves with a stack trace.

Place in the data's way: the outermost ASGI layer. It checks Host, Origin, key and rate before a byte of the
body is read, leaves the `Caller` in the request's scope, counts the request, and turns whatever goes wrong
into OpenAI's form.

Example:
    app = Guard(app, settings=ServeSettings(), keys=store, metrics=metrics)
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import structlog

from ..core.errors import StorageError
from ..core.settings import ServeSettings
from .errors import INTERNAL_ERROR, ApiError, api_error
from .keys import ApiKey, KeyStore
from .limits import RateLimiter
from .metrics import ServerMetrics

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

# These tell nothing about anybody. All others want a key, where keys are wanted.
OPEN_PATHS = {"/healthz", "/openapi.json"}
# What the key must be good for; any valid key for paths not named. Chat asks for "chat" or "documents"
# itself, by the model.
SCOPE_OF_PATH = {"/v1/completions": "chat", "/v1/embeddings": "embeddings", "/metrics": "metrics"}
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request.

    Attributes:
        id: The key's id, or the address where no key is needed; the engine shares itself between these.
        scopes: What the caller may do; None for everything.
    """

    id: str
    scopes: frozenset[str] | None = None

    def require(self, scope: str) -> None:
        """Refuse a caller whose key is not good for `scope`; "" asks for nothing.

        Raises:
            ApiError: It is not (403).
        """
        if scope and self.scopes is not None and scope not in self.scopes:
            raise ApiError(
                403,
                f"This key is not good for {scope!r}. "
                f"Make one that is: localsmith keys create NAME --scope {scope}",
                "insufficient_scope",
                kind="permission_error",
            )


class Guard:
    """Admits requests to an ASGI application.

    Args:
        app: The application behind it.
        settings: Origins, hosts and the rate; `host` tells whether the server listens on loopback only.
        keys: The keys; None where there can't be any.
        metrics: Counts the requests.
    """

    def __init__(
        self, app: App, *, settings: ServeSettings, keys: KeyStore | None, metrics: ServerMetrics
    ) -> None:
        self._app = app
        self._settings = settings
        self._keys = keys
        self._metrics = metrics
        self._limiter = RateLimiter(settings.requests_per_minute)
        self._is_local = is_loopback(settings.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or pass the server's lifespan on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 0

        async def counted_send(message: Message) -> None:
            nonlocal status
            if not status:
                status = message["status"]
            await send(message)

        try:
            scope["caller"] = self._admit(scope)
            await self._app(scope, receive, counted_send)
        except Exception as exc:  # noqa: BLE001 - the last place before the client
            error = api_error(exc)
            if error.code == INTERNAL_ERROR:  # a bug of ours; the client is told nothing of it
                _log.error("request_failed", path=scope["path"], traceback=traceback.format_exc())
            if not status:
                await error.response()(scope, receive, counted_send)
        finally:
            self._metrics.count_request(scope, status, time.perf_counter() - begun)

    def _admit(self, scope: Scope) -> Caller:
        headers = {name: value.decode("latin-1") for name, value in reversed(scope["headers"])}
        self._check_host(headers.get(b"host", ""))
        self._check_origin(headers)
        address = (scope.get("client") or ("unknown",))[0]
        if scope["path"] in OPEN_PATHS:
            return Caller(address)
        key = self._key(headers.get(b"authorization", ""), address)
        caller = Caller(key.id, key.scopes) if key else Caller(address)
        self._take_turn(caller.id)
        caller.require(SCOPE_OF_PATH.get(scope["path"], ""))
        return caller

    def _check_host(self, host: str) -> None:
        """Refuse names that a page elsewhere may have pointed at this machine (DNS rebinding)."""
        name = urlsplit(f"//{host}").hostname or ""
        if not host or not (self._is_local or self._settings.allowed_hosts):
            return
        if not (is_loopback(name) or name in self._settings.allowed_hosts):
            raise ApiError(
                403,
                f"This server doesn't answer to the name {name!r}; serve.allowed_hosts lists those it does.",
                "host_not_allowed",
                kind="permission_error",
            )

    def _check_origin(self, headers: dict[bytes, str]) -> None:
        """Refuse what a page of another origin has its visitor's browser send."""
        origin = headers.get(b"origin")
        allowed = self._settings.allowed_origins
        if origin is None or origin in allowed or "*" in allowed:
            return
        if urlsplit(origin).netloc != headers.get(b"host"):
            raise ApiError(
                403,
                f"Pages of {origin!r} may not call this server; serve.allowed_origins lists those that may.",
                "origin_not_allowed",
                kind="permission_error",
            )

    def _key(self, authorization: str, address: str) -> ApiKey | None:
        """Return the caller's key; None where none is needed."""
        scheme, _, token = authorization.partition(" ")
        keys = self._keys
        if keys is not None and (key := keys.find(token.strip())) and scheme.lower() == "bearer":
            if keys.is_use_new(key):
                asyncio.get_running_loop().run_in_executor(None, _note_use, keys, key)
            return key
        if self._is_local and (keys is None or not keys.exist()):
            return None
        self._take_turn(address)  # guesses are counted, too
        words = "This API key is wrong or revoked." if token else "This server wants an API key."
        raise ApiError(
            401,
            f"{words} Send `Authorization: Bearer ls-…`; `localsmith keys create NAME` makes a key.",
            "invalid_api_key",
        )

    def _take_turn(self, caller: str) -> None:
        if wait_s := self._limiter.wait_s(caller):
            raise ApiError(
                429,
                f"More than {self._settings.requests_per_minute} requests a minute; "
                f"try again in {wait_s:.1f} s (serve.requests_per_minute).",
                "rate_limit_exceeded",
                kind="rate_limit_error",
                retry_after_s=wait_s,
            )


def _note_use(keys: KeyStore, key: ApiKey) -> None:
    try:
        keys.note_use(key)
    except StorageError as exc:  # for people to read; no reason to refuse a request
        _log.warning("key_use_not_noted", error=str(exc))


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine reach the host."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
