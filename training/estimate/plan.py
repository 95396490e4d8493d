"""How a model is to be trained, as far as it decides the memory.

Place in the data's way: a recipe's settings -> `TrainingPlan` -> `estimate_run`, `training_flops`, and the
verdict's search for a plan that fits.

Example:
    TrainingPlan("lora", batch_size=4, max_tokens=512, num_label_tokens=400)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from .shape import LINEARS, ModelShape

Method: TypeAlias = Literal["full", "last_layers", "bias", "norms", "lora", "added"]
Precision: TypeAlias = Literal["fp32", "mixed", "bf16", "fp16"]
Sharding: TypeAlias = Literal["none", "ddp", "fsdp"]
Optimizer: TypeAlias = Literal["adamw", "adamw_8bit", "sgd"]
DeviceKind: TypeAlias = Literal["cpu", "cuda"]
BaseBits: TypeAlias = Literal[4, 8]


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """A way to train.

    Attributes:
        method: What is trained: everything, the last blocks, biases, norms, LoRA's thin matrices, or "added"
            for other parts beside frozen weights (adapters, IA3, prompts, prefixes).
        precision: "fp32"; "mixed" for weights in FP32 and most of the computation in BF16; "bf16" and "fp16"
            for both in 16 bits.
        batch_size: Rows that a device computes at once.
        max_tokens: Tokens of the longest row, to which the others are padded.
        num_label_tokens: Positions of a batch whose logits are computed; None for all.
        num_accumulated: Batches from which the gradients of a step are added up.
        num_devices: Devices that share the work.
        sharding: "ddp": each holds everything; "fsdp": weights, gradients and states are divided.
        is_checkpointed: Whether activations are computed again in the backward pass.
        num_trained_layers: Of "last_layers".
        lora_rank: Of "lora".
        lora_dropout: Of "lora"; 0 for none.
        lora_targets: Linear layers of a block that LoRA stands beside.
        trained_parameters: Number of them; None for what the method trains. "added" needs it.
        base_bits: 8 or 4 where a frozen base is quantized; None for the plan's precision.
        optimizer: What is kept for each trained parameter.
        device: Where it runs.

    Raises:
        ValueError: A value is out of range or contradicts another.
    """

    method: Method = "full"
    precision: Precision = "fp32"
    batch_size: int = 1
    max_tokens: int = 1024
    num_label_tokens: int | None = None
    num_accumulated: int = 1
    num_devices: int = 1
    sharding: Sharding = "none"
    is_checkpointed: bool = False
    num_trained_layers: int = 4
    lora_rank: int = 16
    lora_dropout: float = 0.0
    lora_targets: tuple[str, ...] = LINEARS
    trained_parameters: int | None = None
    base_bits: BaseBits | None = None
    optimizer: Optimizer = "adamw"
    device: DeviceKind = "cpu"

    def __post_init__(self) -> None:
        """Check the ranges."""
        counts = ("batch_size", "max_tokens", "num_accumulated", "num_devices", "num_trained_layers")
        for name in (*counts, "lora_rank"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if not 0 <= self.label_tokens <= self.tokens:
            raise ValueError(f"num_label_tokens must be 0 to {self.tokens}, not {self.num_label_tokens}.")
        if (self.num_devices > 1) != (self.sharding != "none"):
            raise ValueError(f"{self.num_devices} devices and sharding {self.sharding!r} do not go together.")
        if self.base_bits and not self.has_frozen_base:
            raise ValueError(f"A base of {self.base_bits} bits can't be trained with {self.method!r}.")
        if unknown := set(self.lora_targets) - set(LINEARS):
            raise ValueError(f"lora_targets must be of {', '.join(LINEARS)}, not {', '.join(unknown)}.")
        if self.method == "added" and self.trained_parameters is None:
            raise ValueError("trained_parameters must be given for parts that are added.")

    @property
    def tokens(self) -> int:
        """Tokens that a device computes at once, padding included."""
        return self.batch_size * self.max_tokens

    @property
    def label_tokens(self) -> int:
        """Positions whose logits are computed at once."""
        return self.tokens if self.num_label_tokens is None else self.num_label_tokens

    @property
    def has_frozen_base(self) -> bool:
        """Whether what is trained stands beside the weights."""
        return self.method in ("lora", "added")

    @property
    def is_padded(self) -> bool:
        """Whether attention needs a mask; a single row has no padding."""
        return self.batch_size > 1

    @property
    def weight_bytes(self) -> int:
        """Bytes of a weight of the model, before `base_bits`."""
        return 4 if self.precision in ("fp32", "mixed") else 2

    @property
    def compute_bytes(self) -> int:
        """Bytes of most activations."""
        return 4 if self.precision == "fp32" else 2

    @property
    def trained_bytes(self) -> int:
        """Bytes of a trained weight; peft keeps LoRA's in FP32 whatever the base is in."""
        return 4 if self.has_frozen_base else self.weight_bytes


def trained_parameters(shape: ModelShape, plan: TrainingPlan) -> int:
    """Return how many parameters a plan trains on all devices together.

    Raises:
        ValueError: The model has none of the kind, or not as many layers.

    Source:
        LoRA's two matrices of rank r: Hu et al. 2022, section 4.1; biases: Ben Zaken et al. 2022, section 3.
    """
    if plan.trained_parameters is not None:
        return plan.trained_parameters
    if plan.method == "lora":
        pairs = (shape.linears[name] for name in plan.lora_targets)
        return shape.num_layers * plan.lora_rank * sum(inputs + outputs for inputs, outputs in pairs)
    if plan.method == "last_layers":
        if plan.num_trained_layers > shape.num_layers:
            raise ValueError(f"num_trained_layers must be at most {shape.num_layers}.")
        return plan.num_trained_layers * shape.layer_parameters
    if plan.method == "norms":
        return shape.norm_parameters
    if plan.method == "bias":
        if not shape.bias_parameters:
            raise ValueError("This model has no biases to train.")
        return shape.bias_parameters
    return shape.num_parameters
