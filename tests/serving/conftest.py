"""A real server on a real port, in a thread, over a scripted model or whatever a test hands in."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from localsmith.core.errors import LocalsmithError
from localsmith.core.settings import ServeSettings
from localsmith.models.embedding.fake import HashingEmbedder
from localsmith.models.scripted import ScriptedModel
from localsmith.serving.app import create_app
from localsmith.serving.keys import KeyStore
from localsmith.serving.parts import ServedParts
from localsmith.serving.server import HttpServer

START_TIMEOUT_S = 20


@dataclass
class Running:
    """A server that answers.

    Attributes:
        url: Its address, without a path.
        port: Its port.
        model: What it serves, where it is a scripted model.
        service: The server's own state.
        stop: Stops it and waits until it has; the fixture does so at the end.
    """

    url: str
    port: int
    model: Any
    service: Any
    stop: Callable[[], None]


@contextlib.contextmanager
def running(parts: ServedParts, keys: KeyStore | None = None, **settings: Any) -> Iterator[Running]:
    serve = ServeSettings(**{"port": 0, "shutdown_s": 1.0, **settings})
    app = create_app(parts, serve, keys)
    server = HttpServer(app, serve)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + START_TIMEOUT_S
    while not server.is_started:
        assert time.monotonic() < deadline and thread.is_alive(), "the server did not start"
        time.sleep(0.01)

    def stop() -> None:
        server.stop()
        thread.join(START_TIMEOUT_S)
        assert not thread.is_alive(), "the server did not stop"

    try:
        model = None
        with contextlib.suppress(LocalsmithError):
            model = parts.model()
        yield Running(server.url, int(server.url.rpartition(":")[2]), model, app.state.service, stop)
    finally:
        stop()


def parts_of(model: Any, **more: Any) -> ServedParts:
    embedder = more.pop("embedder", None) or HashingEmbedder()
    return ServedParts(model=lambda: model, embedder=lambda: embedder, **more)


@pytest.fixture
def serve() -> Iterator[Callable[..., Running]]:
    """Start servers: `serve(ScriptedModel([...]), **settings)`, or with `parts=`."""
    yield from _starter()


@pytest.fixture(scope="module")
def serve_module() -> Iterator[Callable[..., Running]]:
    """Start servers that all tests of a file share."""
    yield from _starter()


def _starter() -> Iterator[Callable[..., Running]]:
    with contextlib.ExitStack() as stack:

        def start(model: Any = None, *, parts: ServedParts | None = None, **settings: Any) -> Running:
            parts = parts or parts_of(model if model is not None else ScriptedModel(echo))
            return stack.enter_context(running(parts, **settings))

        yield start


def echo(messages: Any) -> str:
    """Reply with the last message."""
    return f"You said: {messages[-1].content}"
