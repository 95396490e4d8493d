"""The benchmarks, which are no part of the package, as modules; and our server over a scripted model."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from localsmith.core.settings import ServeSettings
from localsmith.models.embedding.fake import HashingEmbedder
from localsmith.models.scripted import ScriptedModel
from localsmith.serving.app import create_app
from localsmith.serving.keys import SCOPES, KeyStore
from localsmith.serving.parts import ServedParts
from localsmith.serving.server import HttpServer

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(autouse=True)
def _benchmarks_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for the processes that they start


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., tuple[str, str]]]:
    """Start our server over a model; returns its address and a key."""
    with contextlib.ExitStack() as stack:

        def start(model: ScriptedModel, *, with_key: bool = False, **settings: object) -> tuple[str, str]:
            serve = ServeSettings.model_validate({"port": 0, "shutdown_s": 0.5} | settings)
            store = KeyStore(tmp_path / "keys.sqlite3") if with_key else None
            key = store.create("benchmark", SCOPES)[1] if store else ""
            embedder = HashingEmbedder()
            parts = ServedParts(model=lambda: model, embedder=lambda: embedder)
            server = HttpServer(create_app(parts, serve, store), serve)
            thread = threading.Thread(target=server.run, daemon=True)
            thread.start()
            stack.callback(thread.join, 20)
            stack.callback(server.stop)
            deadline = time.monotonic() + 20
            while not server.is_started and time.monotonic() < deadline:
                time.sleep(0.01)
            return server.url, key

        yield start
