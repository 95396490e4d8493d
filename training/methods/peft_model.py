"""What the methods that peft provides have in common: wrap, save, load, merge; and peft's own errors.

Place in the data's way: `lora`, `ia3` and `prompts` give their config and leave the rest to this file, the
only one that calls peft.

Example:
    wrapped = wrap(model, lambda peft: peft.LoraConfig(r=8, task_type="CAUSAL_LM"))
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...core.errors import ExportError, StorageError, TrainingError


def wrap(model: Any, config: Callable[[Any], Any]) -> Any:
    """Return the model with the parts that a peft config adds; only they are trained.

    Args:
        model: The base.
        config: Makes the config, given the module `peft`.

    Raises:
        TrainingError: The config does not fit this model.
    """
    import peft

    try:
        return peft.get_peft_model(model, config(peft))
    except (ValueError, KeyError, AttributeError) as exc:
        raise TrainingError(
            f"The method does not fit this model: {exc}", hint="Name target modules that the model has."
        ) from exc


def begin_prefix_with(model: Any, cache: Any) -> None:
    """Let a prefix begin as the keys and values of a cache that holds as many positions.

    Args:
        model: A model that `wrap` gave a prefix.
        cache: The base's keys and values, of one sequence.
    """
    import peft

    peft.initialize_kv_prefix_from_past_key_values(model, past_key_values=cache)


def save(model: Any, folder: Path) -> None:
    """Write the added parts and their config.

    Raises:
        StorageError: The folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(str(folder), safe_serialization=True)
    except OSError as exc:
        raise StorageError(f"{folder} can't be written: {exc}", hint="Free some space.") from exc


def load(model: Any, folder: Path) -> Any:
    """Put saved parts onto a fresh base.

    Raises:
        TrainingError: They were trained for another base, or are damaged.
    """
    import peft

    try:
        return peft.PeftModel.from_pretrained(model, str(folder))
    except (OSError, ValueError, RuntimeError, KeyError) as exc:
        raise TrainingError(
            f"What lies in {folder} does not fit this base: {exc}",
            hint="Use the base that it was trained from.",
        ) from exc


def merge(model: Any) -> Any:
    """Return the base with the added parts computed into its weights.

    Raises:
        ExportError: They can't be.
    """
    try:
        return model.merge_and_unload(safe_merge=True)
    except (ValueError, NotImplementedError, AttributeError) as exc:
        raise ExportError(f"The trained parts can't be merged into the base: {exc}") from exc
