"""IA3: keys, values and the feed-forward's inner activations are rescaled by learned vectors.

Place in the data's way: a `Method`, see `methods.method`. The vectors are computed into the weights for
export.

Source: Liu et al. 2022, "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context
Learning", section 3.3.

Example:
    Ia3().prepare(model)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ...core.errors import TrainingError
from . import peft_model

_KEYS_AND_VALUES = ("k_proj", "v_proj")
_FEED_FORWARD = ("down_proj",)


@dataclass(frozen=True, slots=True)
class Ia3:
    """Learned vectors that rescale activations."""

    name: ClassVar[str] = "ia3"
    learning_rate: ClassVar[float] = 3e-3
    can_be_exported: ClassVar[bool] = True

    def prepare(self, model: Any) -> Any:
        """Return the model with the vectors beside its layers; see `Method.prepare`.

        Raises:
            TrainingError: The model's layers have other names than those of Llama, Qwen2 and their kin.
        """
        names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
        targets = [*_KEYS_AND_VALUES, *_FEED_FORWARD]
        if missing := [name for name in targets if name not in names]:
            raise TrainingError(
                f"IA3 looks for the layers {', '.join(targets)}; this model has no {', '.join(missing)}.",
                hint="Use lora, which finds the linear layers of any model.",
            )
        return peft_model.wrap(
            model,
            lambda peft: peft.IA3Config(
                target_modules=targets, feedforward_modules=list(_FEED_FORWARD), task_type="CAUSAL_LM"
            ),
        )

    def save(self, model: Any, folder: Path) -> None:
        """Write the vectors; see `Method.save`."""
        peft_model.save(model, folder)

    def load(self, model: Any, folder: Path) -> Any:
        """Put the vectors onto a fresh base; see `Method.load`."""
        return peft_model.load(model, folder)

    def merged(self, model: Any) -> Any:
        """Return the base with the vectors computed into its weights; see `Method.merged`."""
        return peft_model.merge(model)
