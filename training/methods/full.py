"""Full fine-tuning: every weight is trained.

Place in the data's way: a `Method`, see `methods.method`. Needs memory for gradients and Adam's two moments
of every weight, and forgets the most of what the base could do.

Example:
    FullFineTuning().prepare(model)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from .weights import load_weights, save_weights


@dataclass(frozen=True, slots=True)
class FullFineTuning:
    """Trains every weight."""

    name: ClassVar[str] = "full"
    learning_rate: ClassVar[float] = 5e-5
    can_be_exported: ClassVar[bool] = True

    def prepare(self, model: Any) -> Any:
        """Return the model with all weights trained; see `Method.prepare`."""
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        return model

    def save(self, model: Any, folder: Path) -> None:
        """Write all weights; see `Method.save`."""
        save_weights(dict(model.named_parameters()), folder)

    def load(self, model: Any, folder: Path) -> Any:
        """Put the weights into a fresh base; see `Method.load`."""
        load_weights(model, folder)
        return model

    def merged(self, model: Any) -> Any:
        """Return the model as it is."""
        return model
