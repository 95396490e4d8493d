"""What every route needs: the parts, the limits, the figures, and threads for what blocks.

Place in the data's way: `create_app` makes one and hangs it on the application; `service_of` finds it.

Example:
    service = service_of(request)
    model = await service.model(body.model)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar, cast

from fastapi import Request

from ..core.contracts import Embedder, ServedModel
from ..core.errors import ModelNotReadyError
from ..core.settings import ServeSettings
from ..models.hot_swap import HotSwap
from .errors import ApiError
from .guard import Caller
from .metrics import ServerMetrics
from .parts import ServedParts

# A model that is nearly there is waited for; one that takes longer is told of with Retry-After.
LOADING_WAIT_S = 1.0
LOADING_POLL_S = 0.05
# A name for the chat model that is the same on every machine.
ANY_MODEL = "localsmith"
T = TypeVar("T")


def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(4, thread_name_prefix="localsmith-serve")


@dataclass(frozen=True, slots=True)
class Service:
    """One server's parts, settings, figures and threads.

    Attributes:
        parts: What is served.
        settings: Limits and defaults.
        metrics: The figures.
        blocking: Rendering, tokenizing and building grammars happen here, beside the streams.
        embedding: One thread of its own, so that a long list of texts delays no chat.
    """

    parts: ServedParts
    settings: ServeSettings
    metrics: ServerMetrics
    blocking: ThreadPoolExecutor = field(default_factory=_executor)
    embedding: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="localsmith-embed")
    )

    async def model(self, name: str) -> ServedModel:
        """Return the chat model by its name or `localsmith`.

        Raises:
            ApiError: There is no model of this name (404).
            ModelNotReadyError: It is still loading, or another takes longer than a request may to replace it.
        """
        model = await self._when_ready(self.parts.model)
        if isinstance(model, HotSwap):
            await self._when_replaced(model)
        if name not in (model.name, ANY_MODEL):
            raise model_not_found(name)
        return model

    async def embedder(self, name: str) -> Embedder:
        """Return the embedding model by its name, with or without the hash behind `@`.

        Raises:
            ApiError: There is no embedding model of this name (404).
            ModelNotReadyError: It is still loading.
        """
        embedder = await self._when_ready(self.parts.embedder)
        if name not in (embedder.name, embedder.name.partition("@")[0]):
            raise model_not_found(name)
        return embedder

    async def run(self, call: Callable[[], T]) -> T:
        """Run what blocks for milliseconds without stopping the streams."""
        return await asyncio.get_running_loop().run_in_executor(self.blocking, call)

    async def _when_ready(self, part: Callable[[], T]) -> T:
        for _ in range(int(LOADING_WAIT_S / LOADING_POLL_S)):
            try:
                return part()
            except ModelNotReadyError:
                await asyncio.sleep(LOADING_POLL_S)
        return part()

    async def _when_replaced(self, model: HotSwap) -> None:
        """Wait while one model makes room for the next, without taking a thread."""
        deadline = time.monotonic() + self.settings.deadline_s
        while (state := model.state).stage == "between":
            if time.monotonic() > deadline:
                raise ModelNotReadyError(f"The model is being replaced: {state.detail}.", hint="Ask again.")
            await asyncio.sleep(LOADING_POLL_S)

    def close(self) -> None:
        """Let the threads go; what runs in them ends by itself."""
        self.blocking.shutdown(wait=False, cancel_futures=True)
        self.embedding.shutdown(wait=False, cancel_futures=True)


def model_not_found(name: str) -> ApiError:
    """Return the 404 for a model that isn't served."""
    return ApiError(
        404,
        f"There is no model {name[:100]!r} here; GET /v1/models lists those there are.",
        "model_not_found",
        param="model",
    )


def service_of(request: Request) -> Service:
    """Return the service of the application that handles the request."""
    return cast(Service, request.app.state.service)


def caller_of(request: Request) -> Caller:
    """Return who sends the request, as the guard found out."""
    return cast(Caller, request.scope["caller"])


def fair_share_of(request: Request, user: str | None) -> str:
    """Return whose share of the engine the request takes: the key's or address's, and the user it names."""
    return f"{caller_of(request).id}/{user}" if user else caller_of(request).id
