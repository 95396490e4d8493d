"""A fine-tuning run's settings as the estimate's plan.

Place in the data's way: `SftConfig` -> `sft_plan` -> `check_fits`, before the base is loaded.

Example:
    plan = sft_plan(config, shape, "cpu", num_label_tokens=400)
"""

from __future__ import annotations

import dataclasses

from ..config import SftConfig
from ..methods.bottleneck import BottleneckAdapters
from ..methods.full import FullFineTuning
from ..methods.ia3 import Ia3
from ..methods.lora import Lora
from ..methods.method import Method
from ..methods.prompts import PrefixTuning, PromptTuning
from ..methods.qlora import QLora
from ..methods.registry import method_of
from ..methods.selective import SelectiveFineTuning
from .plan import DeviceKind, TrainingPlan
from .shape import LINEARS, ModelShape


def sft_plan(
    config: SftConfig,
    shape: ModelShape,
    device: DeviceKind,
    *,
    max_tokens: int | None = None,
    num_label_tokens: int | None = None,
    num_processes: int = 1,
) -> TrainingPlan:
    """Return the plan of a run.

    Args:
        config: The run's settings.
        shape: Its base.
        device: Where it runs.
        max_tokens: Tokens of the longest row, where that is known; None for the settings' limit.
        num_label_tokens: Positions of a micro-batch whose logits are computed; None for all.
        num_processes: Processes that share the work as the settings say.

    Raises:
        TrainingError: The settings name a method that does not exist, or an option that it has not.
        ValueError: LoRA's targets are no linear layers of a block, or nothing says how several processes
            share the work.
    """
    plan = TrainingPlan(
        precision=config.precision,
        batch_size=config.micro_batch_size,
        max_tokens=max_tokens or config.max_tokens,
        num_label_tokens=num_label_tokens,
        num_accumulated=max(1, config.batch_size // (config.micro_batch_size * num_processes)),
        num_devices=num_processes,
        sharding=config.parallel if num_processes > 1 else "none",
        is_checkpointed=config.is_checkpointed,
        device=device,
    )
    plan = _with_method(plan, method_of(config.method, config.method_options), shape)
    if plan.sharding == "fsdp" and plan.precision != "fp32" and not plan.has_frozen_base:
        return dataclasses.replace(
            plan, precision="mixed"
        )  # accelerate keeps shards that are trained in FP32
    return plan


def _with_method(plan: TrainingPlan, method: Method, shape: ModelShape) -> TrainingPlan:
    match method:
        case FullFineTuning():
            return dataclasses.replace(plan, method="full")
        case SelectiveFineTuning():
            return dataclasses.replace(
                plan, method=method.which, num_trained_layers=min(method.num_layers, shape.num_layers)
            )
        case Lora():
            return dataclasses.replace(
                plan,
                method="lora",
                lora_rank=method.rank,
                lora_dropout=method.dropout,
                lora_targets=method.targets or LINEARS,
                base_bits=4 if isinstance(method, QLora) else None,
            )
    return dataclasses.replace(plan, method="added", trained_parameters=_added_parameters(method, shape))


def _added_parameters(method: Method, shape: ModelShape) -> int:
    """Return the size of parts beside the base; each method's docstring names the paper."""
    match method:
        case BottleneckAdapters():  # two adapters a block, each two matrices with biases
            one = 2 * shape.hidden_size * method.size + shape.hidden_size + method.size
            return 2 * shape.num_layers * one
        case Ia3():  # a factor for each key, each value and each input of the last layer
            return shape.num_layers * (2 * shape.kv_size + shape.intermediate_size)
        case PromptTuning():
            return method.num_virtual_tokens * shape.hidden_size
        case PrefixTuning():
            return method.num_virtual_tokens * shape.num_layers * 2 * shape.kv_size
    raise ValueError(f"The memory of the method {method.name!r} can't be told.")
