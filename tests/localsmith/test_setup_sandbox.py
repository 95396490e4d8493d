"""Set-up compiles the sandbox, and a machine that can't do that is set up all the same."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from localsmith.agents.sandbox import compile_module
from localsmith.core.settings import Settings, load_settings

from localsmith.setup import SetupStep, set_up


def settings_without_models(tmp_path: Path, **sandbox: str) -> Settings:
    """Settings for which set-up has nothing else to do."""
    return load_settings(
        model={"name": "openai://127.0.0.1:9/pear"}, embedder={"name": str(tmp_path)}, sandbox=sandbox
    )


@pytest.mark.timeout(1200)
def test_set_up_ends_with_the_sandbox_compiled(tmp_path: Path) -> None:
    settings = settings_without_models(tmp_path)
    compile_module(settings.sandbox_cache_dir)
    steps: list[SetupStep] = []
    set_up(settings, steps.append, with_welcome=False)
    assert [(step.name, step.detail) for step in steps] == [("Sandbox for programs:", "is here")]


def test_too_little_memory_for_the_sandbox_does_not_end_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10**9))
    steps: list[SetupStep] = []
    choice = set_up(settings_without_models(tmp_path), steps.append, with_welcome=False)
    assert choice.name == "openai://127.0.0.1:9/pear"
    assert "not compiled" in steps[-1].detail
    assert "1.0 GB are free. Close other programs and run `localsmith setup` again." in steps[-1].detail


def test_set_up_leaves_the_sandbox_to_the_chat_where_asked(tmp_path: Path) -> None:
    steps: list[SetupStep] = []
    set_up(settings_without_models(tmp_path), steps.append, with_welcome=False, with_sandbox=False)
    assert steps == []


def test_nothing_is_compiled_for_who_wants_bubblewrap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    steps: list[SetupStep] = []
    set_up(settings_without_models(tmp_path, kind="bubblewrap"), steps.append, with_welcome=False)
    assert steps == []
