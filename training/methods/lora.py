"""LoRA: to a frozen weight matrix `W` a product of two thin ones is added, `W + B A * alpha / r`.

Place in the data's way: a `Method`, see `methods.method`.

Source: Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1; all linear layers
as targets: Dettmers et al. 2023, "QLoRA", section 4 (figure 2).

Example:
    Lora(rank=8, alpha=16).prepare(model)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from . import peft_model


@dataclass(frozen=True, slots=True)
class Lora:
    """Low-rank adaptation.

    Attributes:
        rank: Columns of `B` and rows of `A`, written r.
        alpha: The product is scaled by alpha / rank.
        dropout: Share of the inputs of `A` that is dropped in training, 0 to below 1.
        targets: Names of the linear layers; empty for all but the output layer.

    Raises:
        ValueError: A value is out of range.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ()

    name: ClassVar[str] = "lora"
    learning_rate: ClassVar[float] = 5e-4
    can_be_exported: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, not {self.rank}.")
        if self.alpha <= 0:
            raise ValueError(f"alpha must be above 0, not {self.alpha}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be from 0 to below 1, not {self.dropout}.")

    def prepare(self, model: Any) -> Any:
        """Return the model with the thin matrices beside its linear layers; see `Method.prepare`."""
        return peft_model.wrap(
            model,
            lambda peft: peft.LoraConfig(
                r=self.rank,
                lora_alpha=self.alpha,
                lora_dropout=self.dropout,
                target_modules=list(self.targets) or "all-linear",
                task_type="CAUSAL_LM",
            ),
        )

    def save(self, model: Any, folder: Path) -> None:
        """Write `A` and `B` of every layer; see `Method.save`."""
        peft_model.save(model, folder)

    def load(self, model: Any, folder: Path) -> Any:
        """Put the adapter onto a fresh base; see `Method.load`."""
        return peft_model.load(model, folder)

    def merged(self, model: Any) -> Any:
        """Return the base with `W + B A * alpha / r` for each `W`; see `Method.merged`."""
        return peft_model.merge(model)


def lora_parameters(num_rows: int, num_columns: int, rank: int) -> int:
    """Return how many parameters LoRA trains beside a matrix of this shape.

    Example:
        >>> lora_parameters(512, 64, 8), 512 * 64, round(1 - lora_parameters(512, 64, 8) / (512 * 64), 2)
        (4608, 32768, 0.86)
    """
    return rank * (num_rows + num_columns)
