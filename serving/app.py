"""The server as an ASGI application.

Place in the data's way: `localsmith serve` and the tests make one from a `ServedParts`; `server.py` runs it.

Example:
    app = create_app(ServedParts(model=lambda: engine, embedder=lambda: embedder), ServeSettings())
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware

from ..core.errors import LocalsmithError
from ..core.settings import ServeSettings
from . import chat, completions, embeddings, status
from .errors import ApiError, api_error, bad_request
from .guard import Guard
from .keys import KeyStore
from .metrics import ServerMetrics
from .openapi import add_bodies
from .parts import ServedParts
from .service import Service


def create_app(parts: ServedParts, settings: ServeSettings, keys: KeyStore | None = None) -> FastAPI:
    """Return the application.

    Args:
        parts: What is served.
        settings: Limits; `host` tells whether it listens on loopback only.
        keys: The API keys; None where none can be had, which only a loopback server goes without.
    """
    metrics = ServerMetrics(parts)
    service = Service(parts, settings, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    # No pages to try requests on: they would load scripts from elsewhere.
    app = FastAPI(
        title="Localsmith", docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan
    )
    app.state.service = service
    for router in (chat.router, completions.router, embeddings.router, status.router):
        app.include_router(router)
    add_bodies(app)
    _add_error_forms(app)
    app.add_middleware(Guard, settings=settings, keys=keys, metrics=metrics)
    if settings.allowed_origins:  # around the guard, so that a page can read its refusals
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.allowed_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
        )
    return app


def _add_error_forms(app: FastAPI) -> None:
    """Turn every error that a route raises into OpenAI's form; the guard takes what is left."""

    async def answer(_: Request, exc: Exception) -> Response:
        return api_error(exc).response()

    async def refuse(_: Request, exc: Any) -> Response:
        return bad_request(str(exc.errors()[0]["msg"])).response()

    async def no_route(request: Request, exc: Any) -> Response:
        if isinstance(exc, ApiError):
            return exc.response()
        words = f"{request.method} {request.url.path[:200]} is not offered here."
        return ApiError(exc.status_code, words, "unknown_url").response()

    app.add_exception_handler(ApiError, answer)
    app.add_exception_handler(LocalsmithError, answer)
    app.add_exception_handler(RequestValidationError, refuse)
    app.add_exception_handler(404, no_route)
    app.add_exception_handler(405, no_route)
