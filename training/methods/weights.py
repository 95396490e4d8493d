"""Trained weights as a safetensors file, and back into a model by their names.

Place in the data's way: methods that add no parts of peft's keep what they trained with these two.

Example:
    save_weights({"model.norm.weight": parameter}, folder)
    load_weights(model, folder)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.errors import StorageError, TrainingError

WEIGHTS_FILE = "weights.safetensors"


def save_weights(parameters: Mapping[str, Any], folder: Path) -> None:
    """Write parameters, on the CPU and each contiguous.

    Raises:
        StorageError: The folder can't be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {name: parameter.detach().cpu().contiguous() for name, parameter in parameters.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as exc:
        raise StorageError(f"{folder} can't be written: {exc}", hint="Free some space.") from exc


def load_weights(model: Any, folder: Path) -> None:
    """Copy saved parameters into a model.

    Raises:
        TrainingError: The file is damaged, or names a weight that this model has not, or not in this shape.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    parameters = dict(model.named_parameters())
    path = folder / WEIGHTS_FILE
    try:
        with safe_open(path, framework="pt") as file, torch.no_grad():
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                tensor = file.get_tensor(name)
                if name not in parameters or parameters[name].shape != tensor.shape:
                    raise TrainingError(
                        f"{path} holds the weight {name}, for which this base has no place.",
                        hint="It was trained from another base.",
                    )
                parameters[name].copy_(tensor)
    except (OSError, SafetensorError) as exc:
        raise TrainingError(f"{path} can't be read: {exc}", hint="Train again.") from exc
