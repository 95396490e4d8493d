"""Graphics cards that llama.cpp sees, and how many of a model's layers fit into their memory.

Place in the data's way: `LlamaRuntime` asks before it loads a model; a CPU build sees no card and nothing is
put on one.

Example:
    >>> num_layers_that_fit(24, weights_bytes=480, kv_bytes=120, free_bytes=300)
    9
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from ...core.settings import ModelSettings
from ..catalog.gguf_facts import read_gguf_facts
from .library import ggml_library

log = structlog.get_logger(__name__)

_GPU, _INTEGRATED_GPU = 1, 2  # ggml_backend_dev_type, ggml-backend.h
# llama.cpp's buffers for one step grow with the batch and the vocabulary; this much stays free for them.
_KEPT_SHARE = 0.1
_KEPT_BYTES = 700 * 2**20
BYTES_PER_ELEMENT = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}  # ggml's block layouts


@dataclass(frozen=True, slots=True)
class Gpu:
    """A card.

    Attributes:
        name: As llama.cpp calls it, for example "CUDA0".
        free_bytes: Memory free now.
        total_bytes: Memory in all.
    """

    name: str
    free_bytes: int
    total_bytes: int


def gpus() -> list[Gpu]:
    """Return the cards that this build of llama.cpp can use."""
    library = _ggml()
    found = []
    for i in range(library.ggml_backend_dev_count()):
        device = library.ggml_backend_dev_get(i)
        if library.ggml_backend_dev_type(device) not in (_GPU, _INTEGRATED_GPU):
            continue
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        library.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        name = library.ggml_backend_dev_name(device).decode()
        found.append(Gpu(name, free.value, total.value))
    return found


def choose_gpu_layers(path: Path, settings: ModelSettings, n_ctx: int) -> int:
    """Return how many layers to put on the cards.

    Args:
        path: The GGUF file.
        settings: `n_gpu_layers` of 0 or more is taken as it is; -1 means as many as fit.
        n_ctx: Cells of the KV cache.

    Raises:
        ModelLoadError: The file's header is damaged.
    """
    if settings.n_gpu_layers >= 0:
        return settings.n_gpu_layers
    cards = gpus()
    if not cards:
        return 0
    facts = read_gguf_facts(path)
    kv_bytes = int(n_ctx * facts.kv_elements * BYTES_PER_ELEMENT[settings.kv_type])
    free_bytes = sum(card.free_bytes for card in cards)
    num_layers = num_layers_that_fit(
        facts.n_layer + 1,  # the output matrix counts as one
        path.stat().st_size,
        kv_bytes,
        int(free_bytes * (1 - _KEPT_SHARE)) - _KEPT_BYTES * len(cards),
    )
    log.info("layers on the graphics card", cards=[card.name for card in cards], layers=num_layers)
    return num_layers


def num_layers_that_fit(n_layer: int, weights_bytes: int, kv_bytes: int, free_bytes: int) -> int:
    """Return how many of `n_layer` equal layers, with their share of the KV cache, fit.

    Args:
        n_layer: Layers in all.
        weights_bytes: All weights.
        kv_bytes: The whole KV cache.
        free_bytes: Memory to fill.
    """
    each = (weights_bytes + kv_bytes) / max(1, n_layer)
    return max(0, min(n_layer, math.floor(free_bytes / each)))


def _ggml() -> Any:
    libggml = ggml_library()
    libggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    libggml.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    libggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    libggml.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    libggml.ggml_backend_dev_type.restype = ctypes.c_int
    libggml.ggml_backend_dev_name.argtypes = [ctypes.c_void_p]
    libggml.ggml_backend_dev_name.restype = ctypes.c_char_p
    size = ctypes.POINTER(ctypes.c_size_t)
    libggml.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, size, size]
    libggml.ggml_backend_dev_memory.restype = None
    return libggml
