"""Bottleneck adapters: small two-layer networks behind attention and feed-forward, with a skip connection.

Place in the data's way: a `Method`, see `methods.method`. peft has none. They can't be computed into the
base's weights, because there is a non-linearity between the two layers; so there is no GGUF of them.

Source: Houlsby et al. 2019, "Parameter-Efficient Transfer Learning for NLP", section 2.1: down-projection,
non-linearity, up-projection begun near zero, so that the adapter begins as the identity.

Example:
    BottleneckAdapters(size=32).prepare(model)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from ...core.errors import ExportError, TrainingError
from .method import freeze
from .weights import load_weights, save_weights

# Parts of a layer whose output an adapter follows, in the models of transformers.
_FOLLOWED = ("self_attn", "attn", "attention", "mlp")


@dataclass(frozen=True, slots=True)
class BottleneckAdapters:
    """Adapters behind attention and feed-forward of every layer.

    Attributes:
        size: Width of the bottleneck, written m.

    Raises:
        ValueError: It is below 1.
    """

    size: int = 32

    name: ClassVar[str] = "bottleneck"
    learning_rate: ClassVar[float] = 1e-3
    can_be_exported: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the width."""
        if self.size < 1:
            raise ValueError(f"size must be at least 1, not {self.size}.")

    def prepare(self, model: Any) -> Any:
        """Return the model with an adapter behind each part; see `Method.prepare`.

        Raises:
            TrainingError: The model's layers have no parts of the names that are known.
        """
        freeze(model)
        hidden_size = model.config.hidden_size
        num_adapters = 0
        for name, part in list(model.named_modules()):
            parent_name, _, last = name.rpartition(".")
            if last in _FOLLOWED and parent_name.rpartition(".")[2].isdigit():
                _follow(part, hidden_size, self.size)
                num_adapters += 1
        if not num_adapters:
            raise TrainingError(
                "Adapters find no attention or feed-forward in this model.",
                hint="Use lora, which finds the linear layers of any model.",
            )
        return model

    def save(self, model: Any, folder: Path) -> None:
        """Write the adapters; see `Method.save`."""
        save_weights({name: p for name, p in model.named_parameters() if p.requires_grad}, folder)

    def load(self, model: Any, folder: Path) -> Any:
        """Put the adapters into a fresh base; see `Method.load`."""
        prepared = self.prepare(model)
        load_weights(prepared, folder)
        return prepared

    def merged(self, model: Any) -> NoReturn:
        """Refuse; see `Method.merged`.

        Raises:
            ExportError: Always.
        """
        raise ExportError(
            "A model with bottleneck adapters can't be exported: a GGUF has no place for them.",
            hint="Train with lora, ia3, selective or full to hand a GGUF back to the chat.",
        )


def _follow(part: Any, hidden_size: int, size: int) -> None:
    """Add an adapter to a part, whose output goes through it from now on."""
    import torch
    from torch import nn

    like = next(part.parameters())
    down = nn.Linear(hidden_size, size, device=like.device, dtype=like.dtype)
    up = nn.Linear(size, hidden_size, device=like.device, dtype=like.dtype)
    nn.init.normal_(down.weight, std=hidden_size**-0.5)
    nn.init.zeros_(down.bias)
    nn.init.zeros_(up.weight)
    nn.init.zeros_(up.bias)
    part.adapter = nn.Sequential(down, nn.GELU(), up)

    def through(module: Any, _: Any, output: Any) -> Any:
        if isinstance(output, torch.Tensor):
            return output + module.adapter(output)  # (batch, tokens, hidden)
        return (output[0] + module.adapter(output[0]), *output[1:])

    part.register_forward_hook(through)
