"""What a fine-tuning run depends on, in one typed place; kept beside the run, so that it can be done again.

Place in the data's way: the command line or a page -> `SftConfig` -> `sft.train` -> `run.json` in the run's
folder, from which a resume reads it back.

Example:
    config = SftConfig(base="smollm2-135m", data=("tickets.jsonl",))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast, get_args

from ..core.errors import TrainingError
from .bases import Precision, TemplateChoice
from .encoding import LongRows
from .parallel.ranks import Parallel

Device: TypeAlias = Literal["auto", "cpu", "cuda", "mps"]
Schedule: TypeAlias = Literal["cosine", "linear", "constant"]


@dataclass(frozen=True, slots=True)
class SftConfig:
    """The settings of a fine-tuning run.

    Attributes:
        base: Where it starts; see `bases.find_base`.
        data_version: Id of the prepared data.
        method: Name of the method.
        method_options: Its settings.
        epochs: Times that every row is seen; fractions are allowed.
        max_steps: Optimizer steps at most; 0 for as many as `epochs` say.
        batch_size: Rows of an optimizer step, over all processes.
        micro_batch_size: Rows that a process computes at once; the batch is accumulated from them.
        max_tokens: Most tokens of a row.
        long_rows: What becomes of longer rows.
        learning_rate: Highest learning rate; 0 for the method's own.
        warmup_share: Share of the steps in which it rises, 0 to 1.
        schedule: How it falls afterwards.
        weight_decay: Of AdamW.
        max_grad_norm: Gradients are clipped to this norm; 0 for not at all.
        precision: In which the weights are kept and computed.
        is_checkpointed: Whether activations are computed again in the backward pass, to save memory.
        save_every: Optimizer steps between checkpoints; 0 for about ten in a run.
        template: The chat template.
        device: Where it is trained; "auto" for a GPU where there is one.
        parallel: How several processes share the work: "ddp", each with the whole model, or "fsdp", each
            with a part of its weights, gradients and optimizer state; "none" for one process alone.
        seed: Of data order, dropout and added weights.

    Raises:
        ValueError: A value is out of range.
    """

    base: str
    data_version: str
    method: str = "lora"
    method_options: Mapping[str, Any] = field(default_factory=dict)
    epochs: float = 1.0
    max_steps: int = 0
    batch_size: int = 8
    micro_batch_size: int = 4
    max_tokens: int = 1024
    long_rows: LongRows = "refuse"
    learning_rate: float = 0.0
    warmup_share: float = 0.05
    schedule: Schedule = "cosine"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    precision: Precision = "fp32"
    is_checkpointed: bool = False
    save_every: int = 0
    template: TemplateChoice = "model"
    device: Device = "auto"
    parallel: Parallel = "none"
    seed: int = 7

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("batch_size", "micro_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of "
                f"micro_batch_size {self.micro_batch_size}."
            )
        if self.epochs <= 0 and self.max_steps <= 0:
            raise ValueError(f"epochs must be above 0, not {self.epochs}.")
        for name in ("max_steps", "learning_rate", "weight_decay", "max_grad_norm", "save_every", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be below 0, but is {getattr(self, name)}.")
        if not 0 <= self.warmup_share <= 1:
            raise ValueError(f"warmup_share must be from 0 to 1, not {self.warmup_share}.")
        if self.parallel not in get_args(Parallel):
            raise ValueError(f"parallel must be none, ddp or fsdp, not {self.parallel!r}.")
        if self.parallel != "none" and self.device == "mps":
            raise ValueError("parallel needs CPUs or NVIDIA GPUs, not mps.")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> SftConfig:
        """Return the settings that `to_json` wrote.

        Raises:
            TrainingError: They are of another version of Localsmith, or damaged.
        """
        try:
            return cls(**cast(dict[str, Any], dict(raw)))
        except (TypeError, ValueError) as exc:
            raise TrainingError(
                f"The run's settings can't be read: {exc}", hint="Start it anew with the same data."
            ) from exc
