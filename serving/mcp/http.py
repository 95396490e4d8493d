"""The MCP server over streamable HTTP, behind the same door as the OpenAI-compatible one.

Place in the data's way: `guard.py` checks host, origin, key and rate -> `McpEndpoint` -> the server. A
session belongs to the key that opened it.

Example:
    app = create_http_app(parts, ServeSettings(port=8001), keys)
    HttpServer(app, settings).run()
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from ...core.settings import ServeSettings
from .. import status
from ..guard import Guard, Receive, Scope, Send
from ..keys import KeyStore
from ..metrics import ServerMetrics
from ..service import Service
from .parts import McpParts
from .server import create_server

PATH = "/mcp"
SESSION_IDLE_S = 1800.0


class McpEndpoint:
    """The one path of the protocol as an ASGI application.

    Args:
        sessions: The library's sessions.
    """

    def __init__(self, sessions: StreamableHTTPSessionManager) -> None:
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request of a caller whom the guard has let in."""
        caller = scope["caller"].id
        scope["user"] = AuthenticatedUser(AccessToken(token=caller, client_id=caller, scopes=[]))
        await self._sessions.handle_request(scope, receive, send)


def create_http_app(parts: McpParts, settings: ServeSettings, keys: KeyStore | None = None) -> FastAPI:
    """Return the application: `/mcp`, and `/healthz` and `/metrics` for those who watch it.

    Args:
        parts: What is served.
        settings: Limits; `host` tells whether it listens on loopback only.
        keys: The API keys; None where none can be had, which only a loopback server goes without.
    """
    metrics = ServerMetrics(parts.served)
    service = Service(parts.served, settings, metrics)
    sessions = StreamableHTTPSessionManager(
        create_server(parts, settings),
        session_idle_timeout=SESSION_IDLE_S,
        max_request_body_size=settings.max_body_bytes,
        max_sessions=settings.max_connections,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with sessions.run():
            yield
        service.close()

    app = FastAPI(
        title="Localsmith MCP",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.service = service
    app.add_route(PATH, McpEndpoint(sessions))  # type: ignore[arg-type]  # an instance is an ASGI application
    app.add_api_route("/healthz", status.health)
    app.add_api_route("/metrics", status.metrics)
    app.add_middleware(Guard, settings=settings, keys=keys, metrics=metrics)
    return app
