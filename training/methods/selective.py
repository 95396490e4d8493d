"""Selective fine-tuning: only chosen weights are trained, the rest stays as it is.

Place in the data's way: a `Method`, see `methods.method`. Bias-only is BitFit (Ben Zaken et al. 2022,
"BitFit", section 3); the last layers alone go back to Howard and Ruder 2018, "Universal Language Model
Fine-tuning for Text Classification", section 3.3.

Example:
    SelectiveFineTuning(which="last_layers", num_layers=4).prepare(model)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

from ...core.errors import TrainingError
from .method import freeze
from .weights import load_weights, save_weights

Selection: TypeAlias = Literal["last_layers", "bias", "norms"]

_LAYER = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class SelectiveFineTuning:
    """Trains the last layers, the biases, or the norms.

    Attributes:
        which: What is trained.
        num_layers: How many of the last layers, for "last_layers".

    Raises:
        ValueError: `num_layers` is below 1.
    """

    which: Selection = "last_layers"
    num_layers: int = 4

    name: ClassVar[str] = "selective"
    learning_rate: ClassVar[float] = 1e-4
    can_be_exported: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the number of layers."""
        if self.num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, not {self.num_layers}.")

    def prepare(self, model: Any) -> Any:
        """Return the model with the chosen weights trained; see `Method.prepare`.

        Raises:
            TrainingError: The model has no such weights.
        """
        chosen = self._names([name for name, _ in model.named_parameters()])
        if not chosen:
            raise TrainingError(
                f"This model has no weights of the kind {self.which!r}.",
                hint="Many models have no biases; choose last_layers or norms, or another method as lora.",
            )
        freeze(model)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in chosen)
        return model

    def save(self, model: Any, folder: Path) -> None:
        """Write the chosen weights; see `Method.save`."""
        save_weights({name: p for name, p in model.named_parameters() if p.requires_grad}, folder)

    def load(self, model: Any, folder: Path) -> Any:
        """Put the weights into a fresh base; see `Method.load`."""
        load_weights(model, folder)
        return model

    def merged(self, model: Any) -> Any:
        """Return the model as it is."""
        return model

    def _names(self, names: list[str]) -> set[str]:
        if self.which == "bias":
            return {name for name in names if name.endswith(".bias")}
        if self.which == "norms":
            return {name for name in names if re.search(r"norm|\bln_", name)}
        numbers = {name: int(match[1]) for name in names if (match := _LAYER.search(name))}
        first = max(numbers.values(), default=-1) + 1 - self.num_layers
        return {name for name, number in numbers.items() if number >= first}
