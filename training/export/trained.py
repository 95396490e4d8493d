"""What a training run leaves, opened as a model of transformers.

Place in the data's way: `export` needs the trained model itself to compare the exported file with, and for a
base that is a Hugging Face folder to merge and save it.

Example:
    model = open_trained(Path("runs/7/adapter"), Path("smollm2-135m.gguf"))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

from ..bases import Base, load_trainable
from ..methods import peft_model
from .lora_folder import is_adapter

# A model of transformers or peft in memory, the folder of one, or the folder of a peft adapter.
Trained: TypeAlias = Any


def open_trained(trained: Trained, base: Path) -> Any:
    """Return the trained model in 32 bits; one that is in memory is returned as it is.

    Args:
        trained: The model, its folder, or an adapter's folder.
        base: The GGUF file or the folder that was trained.

    Raises:
        TrainingError: The files are of another base, or of an architecture that transformers does not know.
        ModelLoadError: They are damaged.
    """
    if not isinstance(trained, Path):
        return trained
    if not is_adapter(trained):
        return load_trainable(_as_base(trained))
    return peft_model.load(load_trainable(_as_base(base)), trained)


def _as_base(path: Path) -> Base:
    return Base(path.stem, path, "folder" if path.is_dir() else "gguf", sha256="")
