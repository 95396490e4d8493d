"""Everything that a planned run costs, in one value: memory against what is there, tokens, time.

Place in the data's way: settings of a run -> shape, plan, device, speed -> `costs_of` -> the command
`localsmith train estimate`, or a page.

Example:
    costs = costs_of(shape, plan, this_cpu(), products_per_s("cpu", "fp32"))
    costs.memory.table(), costs.fits, [way.words for way in costs.alternatives]
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .compute import compute_optimal_tokens, seconds_by_flops, seconds_by_speed, training_flops
from .memory import MemoryEstimate, estimate_run
from .plan import TrainingPlan, trained_parameters
from .shape import ModelShape
from .speed import Speed
from .verdict import Alternative, Device, alternatives


@dataclass(frozen=True, slots=True)
class Costs:
    """What a planned run costs.

    Attributes:
        num_parameters: Of the base.
        num_trained: Parameters that are trained.
        plan: The plan.
        device: Where it is to run: each of them, where there are more.
        memory: What it needs on each device.
        alternatives: What would fit, in the order of how little it changes; empty where it fits.
        optimal_tokens: Compute-optimal tokens for training from scratch, 20 a parameter.
        num_tokens: Tokens that the time is for.
        flops: Floating-point operations for them.
        seconds: Time for them on all devices together; None where no speed is known.
        speed: What the time was computed from; None where no such device is here.
    """

    num_parameters: int
    num_trained: int
    plan: TrainingPlan
    device: Device
    memory: MemoryEstimate
    alternatives: tuple[Alternative, ...]
    optimal_tokens: int
    num_tokens: int
    flops: float
    seconds: float | None
    speed: Speed | None

    @property
    def fits(self) -> bool:
        """Whether the memory suffices."""
        return self.memory.total_bytes <= self.device.free_bytes


def costs_of(
    shape: ModelShape,
    plan: TrainingPlan,
    device: Device,
    speed: Speed | None,
    num_tokens: int | None = None,
    smaller: Mapping[str, ModelShape] | None = None,
) -> Costs:
    """Work out what a run costs; nothing is loaded.

    Args:
        shape: The model.
        plan: The plan.
        device: Where it is to run.
        speed: Of one device; None for unknown.
        num_tokens: Tokens of all epochs together; None for the compute-optimal number.
        smaller: Other bases by name that may be named as a way out.

    Raises:
        ValueError: The plan trains nothing of this model.
    """
    plan = dataclasses.replace(plan, device=device.kind)
    memory = estimate_run(shape, plan)
    is_too_large = memory.total_bytes > device.free_bytes
    optimal = compute_optimal_tokens(shape.num_parameters)
    wanted = optimal if num_tokens is None else num_tokens
    flops = training_flops(shape, plan, wanted)
    seconds = None
    if speed and speed.tokens_per_s is not None:
        seconds = seconds_by_speed(wanted, speed.tokens_per_s) / plan.num_devices
    elif speed:
        seconds = seconds_by_flops(flops, speed.flops_per_s or 0.0, plan.num_devices)
    return Costs(
        num_parameters=shape.num_parameters,
        num_trained=trained_parameters(shape, plan),
        plan=plan,
        device=device,
        memory=memory,
        alternatives=tuple(alternatives(shape, plan, device, smaller)) if is_too_large else (),
        optimal_tokens=optimal,
        num_tokens=wanted,
        flops=flops,
        seconds=seconds,
        speed=speed,
    )


def costs_to_json(costs: Costs) -> dict[str, Any]:
    """Return the costs as JSON values."""
    return {
        "num_parameters": costs.num_parameters,
        "num_trained": costs.num_trained,
        "plan": dataclasses.asdict(costs.plan),
        "device": dataclasses.asdict(costs.device),
        "fits": costs.fits,
        "total_bytes": costs.memory.total_bytes,
        "peak": costs.memory.peak,
        "moments": {moment: dict(parts) for moment, parts in costs.memory.moments.items()},
        "alternatives": [
            {"words": way.words, "total_bytes": way.estimate.total_bytes} for way in costs.alternatives
        ],
        "compute_optimal_tokens": costs.optimal_tokens,
        "num_tokens": costs.num_tokens,
        "flops": costs.flops,
        "seconds": costs.seconds,
        "speed": dataclasses.asdict(costs.speed) if costs.speed else None,
    }
