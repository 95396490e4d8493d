"""QLoRA: LoRA beside a base whose weights are kept in 4 bits; what is computed has 16 or 32.

Place in the data's way: a `Method`, see `methods.method`. It fits models into a GPU's memory that are four
times too large for it; on a CPU it saves memory and costs time, since each matrix is dequantized on its use.

Source: Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs", section 3.

Example:
    QLora(rank=16).prepare(model)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from . import peft_model
from .four_bit import dequantized, is_four_bit, known_as_four_bit, quantize_linears
from .lora import Lora


@dataclass(frozen=True, slots=True)
class QLora(Lora):
    """Low-rank adaptation of a base in NF4.

    Attributes:
        is_double: Whether the constants of NF4's blocks are quantized as well.

    Raises:
        ValueError: A value is out of range.
    """

    is_double: bool = True

    name: ClassVar[str] = "qlora"
    learning_rate: ClassVar[float] = 5e-4
    can_be_exported: ClassVar[bool] = True

    def prepare(self, model: Any) -> Any:
        """Return the model in 4 bits, with the thin matrices beside its layers; see `Method.prepare`."""
        quantize_linears(model, is_double=self.is_double)
        with known_as_four_bit(model):
            return Lora.prepare(self, model)

    def load(self, model: Any, folder: Path) -> Any:
        """Put the adapter onto a fresh base, which is quantized as in training; see `Method.load`."""
        quantize_linears(model, is_double=self.is_double)
        with known_as_four_bit(model):
            return peft_model.load(model, folder)

    def merged(self, model: Any) -> Any:
        """Return a plain model with `W + B A * alpha / r`, `W` being what 4 bits keep of the base's weights.

        The adapter was trained beside these, so with them the merged model answers as the trained one.
        """
        from torch import nn

        base = model.get_base_model()
        for name, part in list(base.named_modules()):
            layer = part.base_layer if hasattr(part, "base_layer") else part
            if not is_four_bit(layer) or name.endswith(".base_layer"):
                continue
            linear = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
            linear.weight.data = merged_weight(part)
            if layer.bias is not None:
                linear.bias.data = layer.bias.data
            parent, _, last = name.rpartition(".")
            setattr(base.get_submodule(parent), last, linear)
        del base.peft_config  # as peft does when it merges: nothing of it is left
        return base


def merged_weight(part: Any) -> Any:
    """Return the weight (outputs, inputs) of an NF4 layer in float32, with its adapters where it has some."""
    if not hasattr(part, "base_layer"):
        return dequantized(part)
    weight = dequantized(part.base_layer)
    for adapter in part.active_adapters:
        weight = weight + part.get_delta_weight(adapter).to(weight)
    return weight
