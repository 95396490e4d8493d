"""An engine over an installed model: its files, its adapter, its prefixes on disk, and the memory it takes.

Place in the data's way: the front door, the measuring of speeds and the swap of a serving model all open
engines here, so that an adapter runs beside its base everywhere.

Example:
    engine = installed_engine(settings, installed_model(settings, "mine"), prompt_tokens_per_s=140.0)
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable

import psutil

from ..core.settings import ModelSettings, Settings
from .catalog.gguf_facts import read_gguf_facts
from .catalog.installed import InstalledModel
from .catalog.weights import Weights, weights_of
from .engine import Engine
from .llama.devices import BYTES_PER_ELEMENT, choose_gpu_layers, gpus
from .saved_prefixes import SavedPrefixes

# The weights, and those of them that llama.cpp packs anew for the processor.
_WEIGHTS_FACTOR = 1.3
# The buffers of a step: 45 MB with SmolLM2-135M, 127 MB with Qwen2.5-0.5B; the rest stays for other programs.
_SPARE_BYTES = 256 * 2**20


def installed_engine(
    settings: Settings,
    model: InstalledModel,
    *,
    prompt_tokens_per_s: float = float("inf"),
    keeps_prefixes: bool = True,
    on_progress: Callable[[float], None] | None = None,
) -> Engine:
    """Load an installed chat model, with its adapter where it is one.

    Args:
        settings: How the engine is run, and where prefixes are kept.
        model: The model.
        prompt_tokens_per_s: Its speed of reading; infinity where it was not measured.
        keeps_prefixes: Whether prefixes outlive the engine.
        on_progress: Called with the share of the weights loaded, 0 to 1.

    Raises:
        ModelNotFoundError: It is an adapter, and its base is not installed.
        ModelLoadError: A file is missing or damaged, or can't be loaded.
    """
    weights = weights_of(settings, model)
    return Engine(
        weights.path,
        name=model.name,
        settings=settings.model,
        prompt_tokens_per_s=prompt_tokens_per_s,
        adapter=weights.adapter,
        saved_prefixes=_saved_prefixes(settings, weights) if keeps_prefixes else None,
        on_progress=on_progress,
    )


def fits_beside(settings: Settings, model: InstalledModel) -> bool:
    """Return whether a model can be loaded while what runs now stays loaded.

    On graphics cards it must fit as wholly as an empty card would take it, for layers that are left on the
    processor at first stay there. Raises what `weights_of` does.
    """
    weights = weights_of(settings, model)
    if gpus() and settings.model.n_gpu_layers != 0:
        wanted = settings.model.n_gpu_layers
        num_layers = read_gguf_facts(weights.path).n_layer + 1
        automatic = settings.model.model_copy(update={"n_gpu_layers": -1})
        return choose_gpu_layers(weights.path, automatic, settings.model.n_ctx) >= (
            num_layers if wanted < 0 else min(wanted, num_layers)
        )
    return memory_bytes(weights, settings.model) <= psutil.virtual_memory().available


def memory_bytes(weights: Weights, settings: ModelSettings) -> int:
    """Return the memory that an engine on the processor takes at most, spare memory for the rest included."""
    facts = read_gguf_facts(weights.path)
    n_ctx = min(settings.n_ctx, facts.n_ctx_train or settings.n_ctx)
    cells = max(settings.kv_cells, n_ctx) if settings.kv_cells else 2 * n_ctx
    kv_bytes = cells * facts.kv_elements * BYTES_PER_ELEMENT[settings.kv_type]
    return int(_WEIGHTS_FACTOR * weights.size_bytes + kv_bytes) + _SPARE_BYTES


def _saved_prefixes(settings: Settings, weights: Weights) -> SavedPrefixes | None:
    if not settings.model.saved_prefix_mib:
        return None
    engine_version = importlib.metadata.version("llama-cpp-python")
    key = f"{weights.identity} {settings.model.kv_type} {settings.model.flash_attention} {engine_version}"
    return SavedPrefixes(settings.prefixes_dir, key, settings.model.saved_prefix_mib * 2**20)
