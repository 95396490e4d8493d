"""Trained weights under llama.cpp's names, one tensor at a time.

Place in the data's way: what a trainer leaves (a model in memory, a folder of safetensors, a LoRA adapter and
its base) -> one of the classes here -> `gguf_writer` asks for one tensor after the other, so that a model is
never in memory twice.

Example:
    weights = MergedWeights(BaseFile.open(base), LoraFolder.open(adapter))
    weights.tensor("blk.0.attn_q.weight")
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from ...core.errors import ExportError
from ..methods.four_bit import is_four_bit
from ..methods.qlora import merged_weight
from .base_file import BaseFile
from .layout import Array, TensorLayout
from .lora_folder import LoraFolder

_INDEX_FILE = "model.safetensors.index.json"
_SINGLE_FILE = "model.safetensors"
_FOUR_BIT_PART = re.compile(r"\.weight\.")  # the constants of bitsandbytes' blocks
_PEFT_PART = re.compile(r"\.(lora|ia3)_")  # merged with the layer they stand beside


class Weights(Protocol):
    """What the writer reads from."""

    def names(self) -> Sequence[str]:
        """Return the tensors there are, by their GGUF names."""
        ...

    def tensor(self, name: str) -> Array:
        """Return one tensor in llama.cpp's row order, float32.

        Raises:
            ExportError: It can't be read.
        """
        ...


class MergedWeights:
    """A base with a LoRA adapter added: `W + B A * scale`, layer by layer.

    Raises:
        ExportError: The adapter changes a layer that the base does not have, or one of another shape.
    """

    def __init__(self, base: BaseFile, adapter: LoraFolder) -> None:
        self._base = base
        self._pairs = {base.layout.gguf_name(name): pair for name, pair in adapter.pairs.items()}
        for name, pair in self._pairs.items():
            shape = (pair.b.shape[0], pair.a.shape[1])
            if name not in base.tensors or base.shape(name) != shape:
                there = base.shape(name) if name in base.tensors else "missing"
                raise ExportError(
                    f"The adapter changes {name} of shape {shape}, which is {there} in {base.path.name}.",
                    "Name the base that the adapter was trained on.",
                )

    def names(self) -> Sequence[str]:
        """Return the base's tensors."""
        return list(self._base.tensors)

    def tensor(self, name: str) -> Array:
        """Return the base's tensor with what the adapter adds to it."""
        values = self._base.tensor(name)
        pair = self._pairs.get(name)
        return values if pair is None else values + self._base.layout.to_gguf(name, pair.delta)


class FolderWeights:
    """A model's folder of safetensors, whole or in parts.

    Raises:
        ExportError: A file is missing or damaged, or a tensor has no place in GGUF.
    """

    def __init__(self, folder: Path, layout: TensorLayout) -> None:
        self._layout = layout
        self._places = {layout.gguf_name(name): (path, name) for name, path in _stored(folder)}

    def names(self) -> Sequence[str]:
        """Return the folder's tensors."""
        return list(self._places)

    def tensor(self, name: str) -> Array:
        """Return one tensor."""
        from safetensors import SafetensorError, safe_open

        path, stored = self._places[name]
        try:
            with safe_open(path, framework="pt") as file:
                values: Array = file.get_tensor(stored).float().numpy()
        except (OSError, SafetensorError) as exc:
            raise _unreadable(path, exc) from exc
        return self._layout.to_gguf(name, values)


class ModelWeights:
    """A model in memory; what peft put beside its layers is merged on the way, in a copy of one layer.

    Raises:
        ExportError: The model has parts that can't be written as weights of its base.
    """

    def __init__(self, model: Any, layout: TensorLayout) -> None:
        self._layout = layout
        base = _without_prompts(model)
        self._layers = {
            name: module for name, module in base.named_modules() if hasattr(module, "base_layer")
        }
        self._four_bit = {
            name: module
            for name, module in base.named_modules()
            if is_four_bit(getattr(module, "base_layer", module)) and not name.endswith(".base_layer")
        }
        self._state = {
            layout.gguf_name(plain): (stored, values)
            for stored, values in base.state_dict().items()
            if (plain := _plain_name(stored))
        }

    def names(self) -> Sequence[str]:
        """Return the model's tensors; one that is shared stands under each of its names."""
        return list(self._state)

    def tensor(self, name: str) -> Array:
        """Return one tensor, merged with the active adapters."""
        stored, values = self._state[name]
        module, _, part = stored.rpartition(".")
        layer = module.removesuffix(".base_layer")
        if layer in self._four_bit:
            values = merged_weight(self._four_bit[layer]) if part == "weight" else values
        elif not values.is_floating_point():
            raise ExportError(
                f"{stored} is quantized in memory ({values.dtype}).",
                "Save the adapter and export its folder: it is merged with the base's own file.",
            )
        elif layer != module:
            values = getattr(_merged(self._layers[layer], layer).get_base_layer(), part)
        return self._layout.to_gguf(name, values.detach().float().cpu().numpy())


def _without_prompts(model: Any) -> Any:
    configs = getattr(model, "peft_config", None)
    if not configs:
        return model
    if any(config.is_prompt_learning for config in configs.values()):
        raise ExportError(
            "Learned prompts and prefixes are no weights of the model; a GGUF file can't hold them.",
            "Train with another method, such as LoRA.",
        )
    return model.get_base_model()


def _merged(layer: Any, name: str) -> Any:
    """Return a copy of one of peft's layers, in 32 bits, with its adapters computed into its weight."""
    if layer.merged:
        return layer
    copied = copy.deepcopy(layer).float()
    try:
        copied.merge(safe_merge=True)
    except (ValueError, NotImplementedError) as exc:
        raise ExportError(f"What was trained beside {name} can't be merged: {exc}") from exc
    return copied


def _plain_name(stored: str) -> str:
    """Return the name that a tensor has without peft's wrappers; "" for what is not the model's own."""
    if ".original_module." in stored or _PEFT_PART.search(stored) or _FOUR_BIT_PART.search(stored):
        return ""
    head, marker, tail = stored.partition(".modules_to_save.")
    plain = f"{head}.{tail.partition('.')[2]}" if marker else stored
    return plain.replace(".base_layer.", ".")


def _stored(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield each tensor's name and the file it stands in."""
    from safetensors import SafetensorError, safe_open

    index = folder / _INDEX_FILE
    if index.is_file():
        try:
            places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            # Only the file's name is taken: a path in an index must not lead out of the folder.
            yield from ((str(name), folder / Path(file).name) for name, file in places.items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
            raise _unreadable(index, exc) from exc
        return
    path = folder / _SINGLE_FILE
    try:
        with safe_open(path, framework="pt") as file:
            yield from ((name, path) for name in file.keys())  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as exc:
        raise _unreadable(path, exc) from exc


def _unreadable(path: Path, exc: Exception) -> ExportError:
    return ExportError(f"{path} can't be read: {exc}.", "Name the folder that the training run saved.")
