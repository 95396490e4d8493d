"""Which files the engine loads for an installed model: a whole GGUF, or a base and a LoRA adapter beside it.

Place in the data's way: an `InstalledModel` -> `weights_of`, which verifies every file -> the engine, the
measuring of its speed, the check for memory, and the key of its prefixes on disk.

Example:
    >>> weights_of(settings, installed_model(settings, "mine")).path  # doctest: +SKIP
    PosixPath('.../models/smollm2-135m/SmolLM2-135M-Instruct.Q4_1.gguf')
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...core.errors import ModelNotFoundError
from ...core.settings import Settings
from ..llama.adapter import LoraAdapter
from .installed import InstalledModel, installed
from .lineage import Lineage


@dataclass(frozen=True, slots=True)
class Weights:
    """Verified files.

    Attributes:
        path: The GGUF file of the model, or of the adapter's base.
        adapter: The adapter; None for a whole model.
        identity: All that the computed numbers depend on: the hashes of the files, and the adapter's scale.
    """

    path: Path
    adapter: LoraAdapter | None
    identity: str

    @property
    def size_bytes(self) -> int:
        """Size of the files."""
        return self.path.stat().st_size + (self.adapter.path.stat().st_size if self.adapter else 0)


def weights_of(settings: Settings, model: InstalledModel) -> Weights:
    """Return the files of a chat model, checked to be whole.

    Raises:
        ModelNotFoundError: It is an adapter, and its base is not installed.
        ModelLoadError: A file is missing or damaged.
    """
    own = model.verify()
    if own.lineage is None or not own.is_adapter:
        return Weights(own.path, None, own.sha256)
    base, scale = base_of(settings, own.lineage).verify(), own.lineage.adapter_scale
    return Weights(base.path, LoraAdapter(own.path, scale), f"{base.sha256} {own.sha256} {scale:g}")


def base_of(settings: Settings, lineage: Lineage) -> InstalledModel:
    """Return the installed model that a model was trained from; its bytes count, whatever its name is now.

    Raises:
        ModelNotFoundError: No such model is installed.
    """
    models = installed(settings)
    named = models.get(lineage.base)
    for model in [*([named] if named else []), *models.values()]:
        if model.sha256 == lineage.base_sha256 and not model.is_adapter:
            return model
    there = f"{lineage.base} here has other bytes" if named else f"{lineage.base} is not installed"
    raise ModelNotFoundError(
        f"The base {lineage.base} (SHA-256 {lineage.base_sha256[:12]}…) is needed, but {there}.",
        f"Get it: localsmith models restore {lineage.base}, or localsmith models pull {lineage.base}",
    )
