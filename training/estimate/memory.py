"""The most memory that a training run holds at once, on each device, part by part.

Place in the data's way: `ModelShape` and `TrainingPlan` -> `estimate_run` -> `MemoryEstimate` -> the verdict,
the command line's table, a page's picture. benchmarks/estimate.py holds it against measured peaks.

A run's memory rises and falls; its peak is the highest of four moments, since what one needs is free again in
the next: loading, the turn from forward to backward pass, the end of the backward pass, the optimizer's step.
That holds where freed memory is given back: see `allocator`.

Example:
    estimate = estimate_run(read_shape(path), TrainingPlan("lora", batch_size=4, max_tokens=512))
    estimate.total_bytes, estimate.table()
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .activations import kept_bytes, working_bytes
from .plan import TrainingPlan, trained_parameters
from .shape import ModelShape

Moment: TypeAlias = Literal["loading", "turn", "end of backward", "optimizer step"]

# Resident memory of a process with PyTorch 2.13 for CPU, transformers 5.24, peft 0.21 and the trainer loaded
# (499 MB), and what loading leaves behind beside the weights (44 MB for SmolLM2-135M, 66 MB for a 0.5B).
CPU_FRAMEWORK_BYTES = 545_000_000
# cuBLAS's workspace, the larger of its two defaults (PyTorch's notes on CUDA, CUBLAS_WORKSPACE_CONFIG). The
# context is taken before free memory is asked for. Not measured: no GPU was at hand.
CUDA_FRAMEWORK_BYTES = 32 << 20
# 4-bit NormalFloat: a constant of 8 bits for 64 weights, and one of 32 bits for 256 of these.
# Source: Dettmers et al. 2023, "QLoRA", section 3, "Double Quantization" (0.127 bits a parameter).
_NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)
# Bytes kept for a trained parameter of 4 bytes, and of 2: PyTorch keeps Adam's moments in the weight's type.
# 8 bits: two moments, and two constants of 4 bytes for 256 (Dettmers et al. 2022, "8-bit Optimizers via
# Block-wise Quantization", section 2.1; the block of bitsandbytes).
_STATE_BYTES: Mapping[str, tuple[float, float]] = {
    "adamw": (8, 4),
    "adamw_8bit": (2 + 8 / 256, 2 + 8 / 256),
    "sgd": (0, 0),
}
# Log probabilities and two gradients of their size, in FP32, when the backward pass begins.
_LOSS_BYTES = 12


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """What a run needs on each device.

    Attributes:
        moments: Bytes by part, at each moment that can be the peak.
    """

    moments: Mapping[Moment, Mapping[str, int]]

    @property
    def peak(self) -> Moment:
        """The moment that needs the most."""
        return max(self.moments, key=lambda moment: sum(self.moments[moment].values()))

    @property
    def parts(self) -> Mapping[str, int]:
        """Bytes by part at the peak."""
        return self.moments[self.peak]

    @property
    def total_bytes(self) -> int:
        """Bytes at the peak."""
        return sum(self.parts.values())

    def table(self) -> str:
        """Return the parts at the peak as lines for people, largest first."""
        rows = sorted(self.parts.items(), key=lambda part: -part[1])
        lines = [f"{name:24} {size / 1e9:9.2f} GB" for name, size in rows if size]
        return "\n".join([*lines, f"{'together, at the ' + self.peak:24} {self.total_bytes / 1e9:9.2f} GB"])


def estimate_run(shape: ModelShape, plan: TrainingPlan) -> MemoryEstimate:
    """Estimate the peak memory of a run on each device.

    Raises:
        ValueError: The plan trains nothing of this model.

    Source:
        Weights, gradients and states: Rajbhandari et al. 2020, "ZeRO", section 3.1; full shards: Zhao et al.
        2023, "PyTorch FSDP", section 3.2; buckets of gradients: Li et al. 2020, "PyTorch Distributed",
        section 3.2.2. Activations: see `activations`.
    """
    trained = trained_parameters(shape, plan)
    share = 1 / plan.num_devices if plan.sharding == "fsdp" else 1
    gradients = round(trained * plan.trained_bytes * share)
    held = {
        "weights": round(weight_bytes(shape, plan, trained) * share),
        "optimizer states": round(trained * _state_bytes(plan) * share),
        "libraries": CPU_FRAMEWORK_BYTES if plan.device == "cpu" else CUDA_FRAMEWORK_BYTES,
    }
    if plan.sharding == "ddp":
        held["buckets of gradients"] = gradients
    if plan.sharding == "fsdp":
        held["gathered layers"] = _gathered_bytes(shape, plan)
    activations = {
        "activations": kept_bytes(shape, plan) + working_bytes(shape, plan),
        "logits and temporaries": _turn_bytes(shape, plan),
    }
    if plan.num_accumulated > 1:
        activations["gradients"] = gradients
    if plan.precision == "mixed" and plan.sharding != "fsdp":  # which gathers layers in 16 bits anyway
        activations["16-bit copies of weights"] = _copied_bytes(shape, plan)
    moments: dict[Moment, Mapping[str, int]] = {
        "turn": held | activations,
        "end of backward": held
        | {"gradients": gradients, "logits and temporaries": _embedding_gradient_bytes(shape, plan)},
        "optimizer step": held
        | {"gradients": gradients, "logits and temporaries": _step_bytes(shape, plan, trained, share)},
    }
    if plan.device == "cpu":
        moments["loading"] = _loading(shape, plan)
    return MemoryEstimate(moments)


def rule_of_thumb(num_parameters: int) -> dict[str, int]:
    """Return the bytes of full training in FP32 by the rule of 4 + 20 bytes a parameter.

    The rule to calculate with in the head: 4 for the weight; 8 for Adam's two moments, 4 for the gradient, 8
    for activations and temporaries. The last is the crude part, for it takes no notice of batch and length.
    """
    bytes_each = {"weights": 4, "optimizer states": 8, "gradients": 4, "activations and temporaries": 8}
    return {name: size * num_parameters for name, size in bytes_each.items()}


def weight_bytes(shape: ModelShape, plan: TrainingPlan, trained: int) -> int:
    """Return the bytes of all weights, unsharded: the base's and the added ones."""
    linear, others = shape.linear_parameters, shape.num_parameters - shape.linear_parameters
    size: float = (linear + others) * plan.weight_bytes
    if plan.base_bits:  # embeddings, norms and biases stay as they are
        # 8 bits: a constant of FP32 for each row. Source: Dettmers et al. 2022, "LLM.int8()", section 2.1.
        rows = shape.num_layers * sum(outputs for _, outputs in shape.linears.values())
        quantized = linear * _NF4_BITS / 8 if plan.base_bits == 4 else linear + 4 * rows
        size = quantized + others * plan.weight_bytes
    if plan.has_frozen_base:
        size += trained * plan.trained_bytes
    return round(size)


def _state_bytes(plan: TrainingPlan) -> float:
    return _STATE_BYTES[plan.optimizer][0 if plan.trained_bytes == 4 else 1]


def _copied_bytes(shape: ModelShape, plan: TrainingPlan) -> int:
    """Return autocast's copies of the weights that the backward pass goes through, trained or not."""
    num_layers = plan.num_trained_layers if plan.method == "last_layers" else shape.num_layers
    return 2 * (num_layers * shape.layer_parameters + shape.embedding_parameters)


def _turn_bytes(shape: ModelShape, plan: TrainingPlan) -> int:
    """Return what the loss needs, or what comes after it: the gradients of logits and output layer."""
    logits = plan.label_tokens * shape.vocabulary_size
    after = 4 * logits + _embedding_gradient_bytes(shape, plan)
    return max(_LOSS_BYTES * logits, after)


def _embedding_gradient_bytes(shape: ModelShape, plan: TrainingPlan) -> int:
    """Return the gradient of the largest matrix: a tied one gets two, which are added up."""
    return shape.embedding_parameters * plan.trained_bytes if plan.method == "full" else 0


def _step_bytes(shape: ModelShape, plan: TrainingPlan, trained: int, share: float) -> int:
    """Return AdamW's temporaries: on a CPU two for the parameter at hand, on a GPU one for all of them."""
    if plan.optimizer == "sgd":
        return 0
    if plan.device == "cuda":
        return round(trained * plan.trained_bytes * share)
    sizes = [inputs * outputs for inputs, outputs in shape.linears.values()]
    if plan.method == "full":
        sizes.append(shape.embedding_parameters)
    return round(2 * min(trained, max(sizes)) * plan.trained_bytes * share)


def _gathered_bytes(shape: ModelShape, plan: TrainingPlan) -> int:
    """Return what FSDP holds unsharded: what is in no block, the block at hand, the next, and a gradient."""
    root = shape.num_parameters - shape.num_layers * shape.layer_parameters
    gathered = (root + 2 * shape.layer_parameters) * plan.weight_bytes
    largest = max(shape.layer_parameters, shape.embedding_parameters)
    return gathered + (0 if plan.has_frozen_base else largest * plan.trained_bytes)


def _loading(shape: ModelShape, plan: TrainingPlan) -> dict[str, int]:
    """Return what loading needs: the mapped file, and the largest matrix in FP32 on its way."""
    return {
        "weights": shape.num_parameters * plan.weight_bytes,
        "file and matrix at hand": shape.file_bytes + 4 * shape.embedding_parameters,
        "libraries": CPU_FRAMEWORK_BYTES,
    }
