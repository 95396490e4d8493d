"""Tiny random models in GGUF, one of each architecture, as a run would begin from them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .tiny_gguf import write_tiny


@pytest.fixture(scope="session")
def gguf_base(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the path of a tiny base of an architecture."""
    folder = tmp_path_factory.mktemp("bases")

    @functools.cache
    def make(architecture: str) -> Path:
        return write_tiny(folder / f"{architecture}.gguf", architecture)

    return make


@pytest.fixture
def gguf_model(gguf_base: Callable[[str], Path]) -> Callable[[str], Any]:
    """Return a tiny base loaded by transformers, as a trainer would load it; new for each call."""
    from localsmith.training.bases import Base, load_trainable

    return lambda architecture: load_trainable(Base("tiny", gguf_base(architecture), "gguf", "")).eval()
