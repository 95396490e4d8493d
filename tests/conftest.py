"""What every test can ask for: the small real models, real documents, a browser, and a clean machine.

A test runs with its own data folder and can't reach another machine unless it is marked `network`. Models
come through the product's own catalog into a cache folder that all checkouts share, once.
"""

from __future__ import annotations

import importlib
import ipaddress
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock
from localsmith.core.settings import load_settings

if TYPE_CHECKING:
    from localsmith.models.embedding.embedder import EmbedderProcess

ROOT = Path(__file__).resolve().parent.parent
TEST_DATA = ROOT / "tests" / "data"
SMALL_MODEL = "smollm2-135m"
BROWSER_MODEL = "qwen2.5-coder-0.5b"
EMBEDDER = "all-minilm-l6-v2"
_KEPT_VARIABLES = ("LOCALSMITH_CHROMIUM", "LOCALSMITH_SHARED_DATA", "LOCALSMITH_TEST_MODELS")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the libraries from asking the model hub for anything."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep what loads a model in one process, and other files whole, where two processes share the tests.

    Two models at once would fight for the cores; beside one, the tests that mostly wait cost next to nothing.
    """
    for item in items:
        group = "models" if item.get_closest_marker("real_model") else str(item.path.relative_to(ROOT))
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True)
def _isolation(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the test its own data folder and none of the person's settings."""
    for name in os.environ:
        if name.startswith("LOCALSMITH_") and name not in _KEPT_VARIABLES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("LOCALSMITH_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections to other machines, unless the test is marked `network`."""
    if request.node.get_closest_marker("network"):
        return
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))


def _guarded(connect: Any) -> Any:
    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
            pytest.fail(f"This test is not marked `network` but connects to {address[0]}:{address[1]}.")
        return connect(self, address)

    return guarded


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real documents and questions: the large collection where it is, else tests/data."""
    named = os.environ.get("LOCALSMITH_SHARED_DATA")
    if named and not Path(named).is_dir():
        pytest.fail(f"LOCALSMITH_SHARED_DATA={named} is not a folder.")
    beside = ROOT.parent / "shared" / "data"
    return Path(named) if named else beside if beside.is_dir() else TEST_DATA


@pytest.fixture(scope="session")
def models_home() -> Path:
    """A data folder whose models all tests and checkouts share; nothing else is to be put there."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    home = Path(os.environ.get("LOCALSMITH_TEST_MODELS") or Path(cache) / "localsmith" / "test-models")
    home.mkdir(parents=True, exist_ok=True)
    return home


@pytest.fixture(scope="session")
def small_model_path(models_home: Path) -> Path:
    """The GGUF file of SmolLM2-135M: for the mechanics, not for good answers."""
    return _pulled(models_home, SMALL_MODEL)


@pytest.fixture(scope="session")
def browser_model_path(models_home: Path) -> Path:
    """The GGUF file of the 0.5B model: the least that answers a question about a document."""
    return _pulled(models_home, BROWSER_MODEL)


@pytest.fixture(scope="session")
def embedder_path(models_home: Path) -> Path:
    """The sentence-transformers folder of the small embedding model."""
    return _pulled(models_home, EMBEDDER)


@pytest.fixture(scope="session")
def embedder(models_home: Path, embedder_path: Path) -> Iterator[EmbedderProcess]:
    """The small embedding model in its process, warm for the whole session."""
    from localsmith.models.embedding.embedder import load_embedder

    with load_embedder(load_settings(home=models_home)) as embedder:
        yield embedder


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium; its absence fails the test, because skipping would hide it."""
    path = _script("chromium").find()
    if path is None:
        pytest.fail(
            "No Chromium was found. `make test` installs one, or set LOCALSMITH_CHROMIUM to its path."
        )
    return str(path)


def _pulled(home: Path, name: str) -> Path:
    from localsmith.models.catalog.installed import installed, path_of

    settings = load_settings(home=home)
    with FileLock(home / f".{name}.lock"):  # tests of two checkouts may want it at once
        if name not in installed(settings):
            from localsmith.models.catalog.pull import pull

            pull(settings, name)
        return path_of(settings, name)


def _script(name: str) -> Any:
    """Load a file of scripts/, which is no package."""
    folder = str(ROOT / "scripts")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)
