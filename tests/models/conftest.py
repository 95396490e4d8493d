"""Small GGUF files for tests: a model's header with one matrix, and LoRA adapters that llama.cpp loads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import pytest

Pair = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., Path]:
    """Write a model that the catalog takes: `tiny_model(path, seed=1)`."""
    return write_model


@pytest.fixture(scope="session")
def tiny_adapter() -> Callable[..., Path]:
    """Write a LoRA adapter: `tiny_adapter(path, {"blk.0.attn_q.weight": (a, b)})`."""
    return write_adapter


def write_model(path: Path, seed: int = 0) -> Path:
    """Write what the catalog takes for a model; the engine could not run it."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_tensor("w", np.random.default_rng(seed).normal(size=(4, 4)).astype(np.float32))
    return _write(writer, path)


def write_adapter(path: Path, pairs: Mapping[str, Pair], *, architecture: str = "llama") -> Path:
    """Write an adapter; each pair is (A of shape (rank, n_in), B of shape (n_out, rank))."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    for name, (a, b) in pairs.items():
        writer.add_tensor(f"{name}.lora_a", a)
        writer.add_tensor(f"{name}.lora_b", b)
    return _write(writer, path)


def _write(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
