"""`localsmith train estimate`: what a run would need, what is there, and what would fit where it does not.

Place in the data's way: words in -> a plan -> `training.estimate.costs`, which loads no model -> a table.

Example: `localsmith train estimate --base smollm2-135m --method full --micro-batch-size 8 --max-tokens 512`
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import cli_train_options as options_of_both

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .core.settings import Settings
    from .training.config import SftConfig
    from .training.estimate.plan import TrainingPlan
    from .training.estimate.shape import ModelShape
    from .training.estimate.speed import Speed
    from .training.estimate.verdict import Device


def estimate(
    base: options_of_both.Base,
    method: options_of_both.Method = "lora",
    options: options_of_both.MethodOptions = None,
    batch_size: options_of_both.BatchSize = 8,
    micro_batch_size: options_of_both.MicroBatchSize = 4,
    max_tokens: options_of_both.MaxTokens = 1024,
    completion_tokens: Annotated[
        int | None, typer.Option(min=1, help="Most of them that are learned; else all, which takes the most.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, mixed, bf16 or fp16.")] = "fp32",
    base_bits: Annotated[
        int | None, typer.Option(help="8 or 4 for a frozen base that is quantized, as in QLoRA.")
    ] = None,
    optimizer: Annotated[str, typer.Option(help="adamw, adamw_8bit or sgd.")] = "adamw",
    checkpointing: options_of_both.Checkpointing = False,
    device: options_of_both.Device = "auto",
    devices: Annotated[int, typer.Option(min=1, help="Devices that share the work.")] = 1,
    sharding: Annotated[
        str, typer.Option(help="How: fsdp divides the model, ddp gives each all of it.")
    ] = "fsdp",
    memory_gb: Annotated[
        float | None, typer.Option(min=0.0, help="Memory of each device, in place of what is free here.")
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(
            min=1, help="Tokens of all epochs, for the time.  [default: the compute-optimal number]"
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Say what a run would need.

    Memory by part against what is there, what would fit where it doesn't, compute-optimal tokens, and time.
    Nothing is trained.
    """
    import json as json_module

    from .core.errors import ConfigError
    from .core.settings import load_settings
    from .training.bases import find_base
    from .training.config import SftConfig
    from .training.estimate.costs import costs_of, costs_to_json
    from .training.estimate.shape import read_shape
    from .training.methods.registry import method_of
    from .training.methods.registry import options_of as options_of_method
    from .training_terminal import print_costs

    settings = load_settings()
    chosen = method_of(method, options_of_both.pairs(options or []))
    found = find_base(settings, base)
    shape = read_shape(found.path)
    common: dict[str, Any] = {
        "precision": "fp32" if precision == "mixed" else precision,
        "is_checkpointed": checkpointing,
        "device": device,
    }
    sharing = {"sharding": sharding, "num_devices": devices} if devices > 1 else {}
    try:
        config = SftConfig(
            base,
            "",
            method,
            options_of_method(chosen),
            batch_size=batch_size,
            micro_batch_size=micro_batch_size,
            max_tokens=max_tokens,
            **common,
        )
        place = _place(device, memory_gb)
        changes: dict[str, Any] = {
            "precision": precision,
            "base_bits": base_bits,
            "optimizer": optimizer,
            **sharing,
        }
        if completion_tokens:
            # Two more a row: see `batches.Collator`.
            changes["num_label_tokens"] = micro_batch_size * min(completion_tokens + 2, max_tokens)
        plan = _plan(config, shape, place, changes)
        speed = _speed(settings, config, plan)
        costs = costs_of(shape, plan, place, speed, tokens)
        if not costs.fits:
            costs = costs_of(shape, plan, place, speed, tokens, _smaller(settings, base))
    except ValueError as exc:
        raise ConfigError(
            f"This can't be estimated: {exc}", hint="localsmith train estimate --help lists the options."
        ) from exc
    if json:
        typer.echo(
            json_module.dumps({"base": found.name, "method": method, **costs_to_json(costs)}, indent=1)
        )
        return
    print_costs(found.name, method, costs)


def _place(device: str, memory_gb: float | None) -> Device:
    from .training.estimate.verdict import Device, this_device

    if memory_gb is None:
        return this_device(device)
    kind = "cuda" if device == "cuda" else "cpu"
    return Device("a GPU" if kind == "cuda" else "a machine", kind, round(memory_gb * 1e9))  # type: ignore[arg-type]


def _plan(config: SftConfig, shape: ModelShape, place: Device, changes: Mapping[str, Any]) -> TrainingPlan:
    """Return the plan of a run, also of one that this version could not train, such as on many devices."""
    import dataclasses
    import typing

    from .training.estimate import plan as plans
    from .training.estimate.sft_plan import sft_plan

    allowed = {
        "precision": plans.Precision,
        "base_bits": plans.BaseBits,
        "optimizer": plans.Optimizer,
        "sharding": plans.Sharding,
    }
    for name, kind in allowed.items():
        value = changes.get(name)
        if value is not None and value not in typing.get_args(kind):
            known = ", ".join(str(word) for word in typing.get_args(kind))
            raise ValueError(f"{name} must be one of {known}, not {value!r}.")
    return dataclasses.replace(sft_plan(config, shape, place.kind), **changes)


def _speed(settings: Settings, config: SftConfig, plan: TrainingPlan) -> Speed | None:
    """Return the speed of a run of this kind here, else of matrix products; None without such a device."""
    from .training.estimate.speed import products_per_s, speed_in_runs
    from .training.estimate.verdict import this_device
    from .training.runs.run_folder import list_runs

    if plan.device == "cuda" and this_device("auto").kind != "cuda":
        return None
    measured = speed_in_runs(list_runs(settings.runs_dir), config)
    return measured or products_per_s(plan.device, plan.precision)


def _smaller(settings: Settings, base: str) -> dict[str, ModelShape]:
    """Return the shapes of the other installed chat models that can be trained."""
    from .core.errors import TrainingError
    from .models.catalog.installed import installed
    from .training.estimate.shape import read_shape

    shapes = {}
    for model in installed(settings).values():
        if model.kind != "chat" or model.is_adapter or model.name == base:
            continue
        try:
            shapes[model.name] = read_shape(model.path)
        except TrainingError:  # of another family, or its file is gone: not a way out
            continue
    return shapes
