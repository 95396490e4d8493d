"""Whether a run fits into the memory that is free, and what would where it does not.

Place in the data's way: before a recipe loads a weight, shape, plan, device -> `check_fits` -> the estimate,
or a `TrainingError` that says need, have, and the smallest changes that help, each by the same estimate.

Example:
    check_fits(read_shape(path), TrainingPlan("full"), this_cpu())
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ...core.errors import TrainingError
from .memory import CPU_FRAMEWORK_BYTES, MemoryEstimate, estimate_run
from .plan import DeviceKind, TrainingPlan
from .shape import ModelShape

_MOST_DEVICES = 64
_LOWEST_RANK = 4
_CGROUP = Path("/sys/fs/cgroup")
_Step: TypeAlias = Callable[[TrainingPlan], Iterator[TrainingPlan]]


@dataclass(frozen=True, slots=True)
class Device:
    """A place to train.

    Attributes:
        name: For people.
        kind: "cpu" or "cuda".
        free_bytes: Memory that this process can take, what it holds already included on a CPU.
    """

    name: str
    kind: DeviceKind
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Alternative:
    """A run that fits.

    Attributes:
        words: What is changed, for people.
        shape: The model, which is another only where a smaller base is the change.
        plan: The changed plan.
        estimate: What it needs.
    """

    words: str
    shape: ModelShape
    plan: TrainingPlan
    estimate: MemoryEstimate


def this_cpu() -> Device:
    """Return the memory of this machine that is free, no more than a container's limit leaves.

    What this process holds counts as free up to the size of the libraries, which the estimate counts too.
    """
    import psutil

    free = psutil.virtual_memory().available
    if (left := _left_in_container()) is not None:
        free = min(free, left)
    held = min(psutil.Process().memory_info().rss, CPU_FRAMEWORK_BYTES)
    return Device("this machine", "cpu", max(0, free) + held)


def this_gpu(index: int = 0) -> Device:
    """Return the free memory of a GPU, with this process's CUDA context already taken off.

    Raises:
        TrainingError: There is no such GPU.
    """
    import torch

    if not 0 <= index < torch.cuda.device_count():
        raise TrainingError(f"There is no GPU {index} here.", hint="Train on the CPU: --device cpu.")
    free, _ = torch.cuda.mem_get_info(index)
    return Device(torch.cuda.get_device_name(index), "cuda", free)


def this_device(name: str) -> Device:
    """Return where a run on this device would be: "auto" for a GPU where there is one, "cpu", "cuda", "mps".

    Raises:
        TrainingError: There is no GPU, and one was asked for.
    """
    if name == "auto":
        import torch

        name = "cuda" if torch.cuda.is_available() else "cpu"
    return this_gpu() if name == "cuda" else this_cpu()


def check_fits(
    shape: ModelShape,
    plan: TrainingPlan,
    device: Device,
    smaller: Mapping[str, ModelShape] | None = None,
) -> MemoryEstimate:
    """Return the estimate of a run that fits.

    Args:
        shape: The model.
        plan: The plan.
        device: Where it is to run.
        smaller: Other bases by name that may be named as a way out; None for none.

    Raises:
        TrainingError: It does not fit; the hint says what would.
    """
    plan = dataclasses.replace(plan, device=device.kind)
    estimate = estimate_run(shape, plan)
    if estimate.total_bytes <= device.free_bytes:
        return estimate
    found = alternatives(shape, plan, device, smaller)
    fitting = "; ".join(f"{way.words} ({_gb(way.estimate.total_bytes)})" for way in found)
    raise TrainingError(
        f"This run needs {_gb(estimate.total_bytes)} of memory at its peak, the {estimate.peak}, "
        f"but {device.name} has {_gb(device.free_bytes)} free.",
        hint=f"This would fit: {fitting}." if found else "Nothing that was tried fits; use a smaller base.",
    )


def alternatives(
    shape: ModelShape,
    plan: TrainingPlan,
    device: Device,
    smaller: Mapping[str, ModelShape] | None = None,
) -> list[Alternative]:
    """Return what would fit, in the order of how little it changes.

    Each change is tried alone, by its smallest amount that helps. Where none suffices, they are made one
    after the other until their sum does. Then come more devices, and the largest smaller base.
    """
    plan = dataclasses.replace(plan, device=device.kind)
    found = [way for step in _STEPS if (way := _first(shape, step(plan), plan, device))]
    if not found and (way := _together(shape, plan, device)):
        found.append(way)
    if way := _first(shape, _sharded(plan), plan, device):
        found.append(way)
    by_size = sorted((smaller or {}).items(), key=lambda item: -item[1].num_parameters)
    for name, other in by_size:
        if other.num_parameters >= shape.num_parameters:
            continue
        if way := _fitting(other, plan, device, f"base {name}"):
            return [*found, way]
        if not found and (way := _together(other, plan, device)):
            return [dataclasses.replace(way, words=f"base {name} and {way.words}")]
    return found


def _fitting(shape: ModelShape, plan: TrainingPlan, device: Device, words: str) -> Alternative | None:
    try:
        estimate = estimate_run(shape, plan)
    except ValueError:  # the smaller base has no biases, or fewer layers than are to be trained
        return None
    return Alternative(words, shape, plan, estimate) if estimate.total_bytes <= device.free_bytes else None


def _first(
    shape: ModelShape, plans: Iterator[TrainingPlan], before: TrainingPlan, device: Device
) -> Alternative | None:
    ways = (_fitting(shape, plan, device, _difference(before, plan)) for plan in plans)
    return next((way for way in ways if way), None)


def _together(shape: ModelShape, plan: TrainingPlan, device: Device) -> Alternative | None:
    changed = plan
    for step in _STEPS:
        for option in step(changed):
            if way := _fitting(shape, option, device, _difference(plan, option)):
                return way
            changed = option
    return None


def _checkpointed(plan: TrainingPlan) -> Iterator[TrainingPlan]:
    if not plan.is_checkpointed:
        yield dataclasses.replace(plan, is_checkpointed=True)


def _smaller_batch(plan: TrainingPlan) -> Iterator[TrainingPlan]:
    """Halve the batch and accumulate twice as many, so that a step still learns from as many rows."""
    while plan.batch_size > 1 and plan.batch_size % 2 == 0:
        labels = plan.num_label_tokens
        plan = dataclasses.replace(
            plan,
            batch_size=plan.batch_size // 2,
            num_accumulated=plan.num_accumulated * 2,
            num_label_tokens=None if labels is None else -(-labels // 2),
        )
        yield plan


def _lora(plan: TrainingPlan) -> Iterator[TrainingPlan]:
    if not plan.has_frozen_base:
        yield dataclasses.replace(plan, method="lora", trained_parameters=None)


def _lower_rank(plan: TrainingPlan) -> Iterator[TrainingPlan]:
    while plan.method == "lora" and plan.lora_rank // 2 >= _LOWEST_RANK:
        plan = dataclasses.replace(plan, lora_rank=plan.lora_rank // 2, trained_parameters=None)
        yield plan


def _four_bits(plan: TrainingPlan) -> Iterator[TrainingPlan]:
    """Quantize the base to 4 bits (QLoRA), which has its kernels on a GPU."""
    if plan.device == "cuda" and plan.base_bits != 4:
        method = plan.method if plan.has_frozen_base else "lora"
        trained = plan.trained_parameters if plan.has_frozen_base else None
        yield dataclasses.replace(plan, method=method, trained_parameters=trained, base_bits=4)


def _sharded(plan: TrainingPlan) -> Iterator[TrainingPlan]:
    """Divide everything by FSDP over more devices of this size, each with a batch of its own."""
    fewest = plan.num_devices + 1 if plan.sharding == "fsdp" else max(2, plan.num_devices)
    for num_devices in range(fewest, _MOST_DEVICES + 1):
        yield dataclasses.replace(plan, num_devices=num_devices, sharding="fsdp")


_STEPS: tuple[_Step, ...] = (_checkpointed, _smaller_batch, _lora, _lower_rank, _four_bits)


def _difference(before: TrainingPlan, after: TrainingPlan) -> str:
    words = []
    if after.is_checkpointed > before.is_checkpointed:
        words.append("gradient checkpointing")
    if after.batch_size != before.batch_size:
        words.append(f"batches of {after.batch_size}, {after.num_accumulated} accumulated")
    if after.method != before.method:
        words.append(f"LoRA of rank {after.lora_rank}")
    elif after.lora_rank != before.lora_rank:
        words.append(f"rank {after.lora_rank}")
    if after.base_bits != before.base_bits:
        words.append(f"a base of {after.base_bits} bits")
    if after.sharding != before.sharding or after.num_devices != before.num_devices:
        place = "machines" if after.device == "cpu" else "GPUs"
        words.append(f"FSDP over {after.num_devices} {place} with as much memory each")
    return " and ".join(words)


def _left_in_container() -> int | None:
    """Return what a control group leaves, with the files counted as free that the kernel can drop."""
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        lines = (_CGROUP / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # no control group, or "max"
        return None
    droppable = next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)
    return limit - used + droppable


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB"
