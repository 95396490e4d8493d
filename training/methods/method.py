"""The seam between a recipe and a way to fine-tune: what every method can do.

Place in the data's way: a recipe loads a base -> `Method.prepare` decides what is trained -> the trainer runs
-> `save` keeps what was trained -> `load` puts it back onto a fresh base -> `merged` for the export.

Example:
    method = method_of("lora", {"rank": 8})
    model = method.prepare(load_trainable(base))
    print(count_parameters(model))
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import nn


class Method(Protocol):
    """A way to fine-tune; its fields are its settings."""

    @property
    def name(self) -> str:
        """The name that people type."""
        ...

    @property
    def learning_rate(self) -> float:
        """The highest learning rate to use where none is given."""
        ...

    @property
    def can_be_exported(self) -> bool:
        """Whether `merged` gives a model, so that a GGUF can be handed back to the chat."""
        ...

    def prepare(self, model: Any) -> nn.Module:
        """Freeze, mark and add weights; return the model to train, which may wrap the one given.

        Raises:
            TrainingError: The method does not fit this model.
        """
        ...

    def save(self, model: Any, folder: Path) -> None:
        """Write what was trained, and nothing else, into an empty folder."""
        ...

    def load(self, model: Any, folder: Path) -> nn.Module:
        """Put what `save` wrote onto a freshly loaded base.

        Raises:
            TrainingError: The folder was written for another base or method.
        """
        ...

    def merged(self, model: Any) -> Any:
        """Return a plain model of the base's architecture that answers as the trained one.

        Raises:
            ExportError: The method adds parts that the architecture has no place for.
        """
        ...


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """How many parameters are trained.

    Attributes:
        trained: Parameters that get gradients.
        total: All parameters, added ones included.
    """

    trained: int
    total: int

    @property
    def share(self) -> float:
        """Trained of all, 0 to 1."""
        return self.trained / max(1, self.total)

    def __str__(self) -> str:
        """Say it for people."""
        return f"{self.trained:,} of {self.total:,} parameters are trained ({self.share:.2%})"


def count_parameters(model: nn.Module) -> ParameterCount:
    """Count a model's parameters; tied ones once, and those in 4 bits as what they stand for."""
    parameters = list(model.parameters())
    return ParameterCount(
        sum(p.numel() for p in parameters if p.requires_grad), sum(_num_weights(p) for p in parameters)
    )


def _num_weights(parameter: nn.Parameter) -> int:
    state = getattr(parameter, "quant_state", None)  # bitsandbytes packs two weights into a byte
    return math.prod(state.shape) if state else parameter.numel()


def freeze(model: nn.Module) -> None:
    """Take the gradients from all parameters."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
