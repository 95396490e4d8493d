"""The compiled module: one for each runtime and processor, made wholly or not at all."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from localsmith.agents.sandbox import (
    BubblewrapSandbox,
    WasmSandbox,
    choose_sandbox,
    compile_module,
    is_compiled,
)
from localsmith.agents.sandbox.compiled import compiled_folder
from localsmith.core.errors import SandboxError
from localsmith.core.settings import SandboxSettings, load_settings

pytestmark = pytest.mark.timeout(1200)


def test_what_is_compiled_is_not_compiled_again(compiled: Path) -> None:
    cache = load_settings().sandbox_cache_dir
    (module,) = compiled.glob("*.cwasm")
    before = module.stat().st_mtime_ns
    assert is_compiled(cache)
    assert compile_module(cache) == compiled
    assert module.stat().st_mtime_ns == before


def test_the_compiled_module_is_kept_from_other_users(compiled: Path) -> None:
    """It is native code: who can write it can run anything."""
    (module,) = compiled.glob("*.cwasm")
    assert compiled.stat().st_mode & 0o077 == 0
    assert module.stat().st_mode & 0o077 == 0


def test_a_half_made_folder_does_not_count(tmp_path: Path) -> None:
    compiled_folder(tmp_path).mkdir(parents=True)
    (tmp_path / ".unfinished-1").mkdir()
    assert not is_compiled(tmp_path)


def test_too_little_memory_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1_500_000_000))
    with pytest.raises(SandboxError, match=r"needs 3 GB of memory .* 1\.5 GB are free") as error:
        compile_module(tmp_path)
    assert "localsmith setup" in error.value.hint
    assert list(tmp_path.glob("*.cwasm")) == list(tmp_path.glob(".unfinished*")) == []


def test_a_compiler_that_fails_leaves_nothing_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "shadow"))
    (tmp_path / "shadow" / "wasmtime").mkdir(parents=True)
    (tmp_path / "shadow" / "wasmtime" / "__init__.py").write_text("raise ImportError('no such processor')")
    with pytest.raises(SandboxError, match=r"(?s)exit code 1.*reinstall it or install wasmtime"):
        compile_module(tmp_path / "cache")
    assert not is_compiled(tmp_path / "cache")
    assert list((tmp_path / "cache").glob("*wasm*")) == list((tmp_path / "cache").glob(".unfinished*")) == []


def test_webassembly_is_chosen_where_it_is_compiled(compiled: Path) -> None:
    sandbox = choose_sandbox(SandboxSettings(), load_settings().sandbox_cache_dir)
    assert isinstance(sandbox, WasmSandbox)
    sandbox.close()


def test_bubblewrap_is_chosen_where_nothing_is_compiled(
    bubblewrap: BubblewrapSandbox, tmp_path: Path
) -> None:
    assert isinstance(choose_sandbox(SandboxSettings(), tmp_path), BubblewrapSandbox)


def test_a_kind_that_the_settings_name_is_not_swapped(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="not compiled") as error:
        choose_sandbox(SandboxSettings(kind="wasm"), tmp_path)
    assert "localsmith setup" in error.value.hint


def test_where_there_is_no_sandbox_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no bwrap
    with pytest.raises(SandboxError, match="can't be run here") as error:
        choose_sandbox(SandboxSettings(), tmp_path)
    assert "localsmith setup" in error.value.hint
