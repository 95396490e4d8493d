"""The sandboxes, and the programs that attack them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from localsmith.agents.sandbox import BubblewrapSandbox, WasmSandbox, compile_module
from localsmith.core.errors import SandboxError
from localsmith.core.settings import SandboxSettings, load_settings

PROGRAMS = Path(__file__).resolve().parents[2] / "data" / "hostile_programs.toml"


@dataclass(frozen=True)
class HostileProgram:
    """A program of the suite, and how it may end."""

    name: str
    source: str
    ends: tuple[str, ...]


def hostile_programs() -> list[HostileProgram]:
    found = tomllib.loads(PROGRAMS.read_text(encoding="utf-8"))["program"]
    return [HostileProgram(item["name"], item["source"], tuple(item["ends"])) for item in found]


@pytest.fixture(scope="session")
def compiled() -> Path:
    """The folder of the compiled module; the first session on a machine makes it, for minutes."""
    return compile_module(load_settings().sandbox_cache_dir)


@pytest.fixture(scope="session")
def wasm(compiled: Path) -> Iterator[WasmSandbox]:
    with WasmSandbox(compiled, SandboxSettings(timeout_s=20)) as sandbox:
        assert sandbox.run("print(1)").stdout == "1\n"
        yield sandbox


@pytest.fixture(scope="session")
def bubblewrap() -> BubblewrapSandbox:
    try:
        return BubblewrapSandbox(SandboxSettings(timeout_s=20))
    except SandboxError as exc:
        pytest.skip(f"bubblewrap can't run here: {exc}")


@pytest.fixture(params=["wasm", "bubblewrap"])
def sandbox(request: pytest.FixtureRequest) -> WasmSandbox | BubblewrapSandbox:
    """Every kind in turn: one contract for all."""
    found: WasmSandbox | BubblewrapSandbox = request.getfixturevalue(request.param)
    return found
