"""The sandboxes, each kind warm for the whole session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from localsmith.agents.sandbox import BubblewrapSandbox, WasmSandbox, compile_module
from localsmith.core.errors import SandboxError
from localsmith.core.settings import SandboxSettings, load_settings

SETTINGS = SandboxSettings(timeout_s=20, memory_bytes=128 * 2**20)


@pytest.fixture(scope="session")
def compiled() -> Path:
    """The folder of the compiled module; the first session on a machine makes it, for minutes."""
    return compile_module(load_settings().sandbox_cache_dir)


@pytest.fixture(scope="session")
def wasm(compiled: Path) -> Iterator[WasmSandbox]:
    with WasmSandbox(compiled, SETTINGS) as sandbox:
        assert sandbox.run("print(1)").stdout == "1\n"
        yield sandbox


@pytest.fixture(scope="session")
def bubblewrap() -> BubblewrapSandbox:
    try:
        return BubblewrapSandbox(SETTINGS)
    except SandboxError as exc:
        pytest.skip(f"bubblewrap can't run here: {exc}")


@pytest.fixture(params=["wasm", "bubblewrap"])
def sandbox(request: pytest.FixtureRequest) -> WasmSandbox | BubblewrapSandbox:
    """Every kind in turn: one contract for all."""
    found: WasmSandbox | BubblewrapSandbox = request.getfixturevalue(request.param)
    return found
