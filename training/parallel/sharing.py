"""How the processes of a run share a batch and a model: what the trainer is told, what is put together after.

Place in the data's way: `SftConfig` and `Ranks` -> `accumulated`, `trainer_arguments` -> transformers'
`Trainer` wraps the model -> `whole_model` at the end, for the trained folder and the export.

Source: Li et al. 2020, "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", section 3;
Zhao et al. 2023, "PyTorch FSDP", section 3; the weights are split by parameter, as PyTorch's `fully_shard`
does it.

Example:
    TrainingArguments(..., **trainer_arguments(config, ranks))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...core.errors import TrainingError
from .ranks import Ranks

if TYPE_CHECKING:
    from ..config import SftConfig

# peft reads the embeddings of the first two outside of the forward pass, where only a shard of them is there;
# weights of 4 bits are no numbers that could be gathered.
_NOT_SHARDED = ("prompt", "prefix", "qlora")


def check_shared(config: SftConfig, num_processes: int) -> None:
    """Refuse a run that processes can't share as its settings say.

    Raises:
        TrainingError: The batch or the method can't be divided so, or nothing says how.
    """
    if num_processes > 1 and config.parallel == "none":
        raise TrainingError(
            f"{num_processes} processes would each train the whole model.",
            hint="Say how they share the work: --parallel ddp, or --parallel fsdp.",
        )
    if config.parallel == "fsdp" and config.method in _NOT_SHARDED:
        raise TrainingError(
            f"The method {config.method} can't be trained in shards.",
            hint="It trains so few weights that --parallel ddp is enough; or choose lora.",
        )
    accumulated(config, num_processes)


def accumulated(config: SftConfig, num_processes: int) -> int:
    """Return how many micro-batches each process adds up for a step of `batch_size` rows in all.

    Raises:
        TrainingError: The batch can't be divided so.
    """
    at_once = config.micro_batch_size * num_processes
    if config.batch_size % at_once:
        raise TrainingError(
            f"A batch of {config.batch_size} rows can't be shared by {num_processes} processes that compute "
            f"{config.micro_batch_size} rows at once.",
            hint=f"Choose a batch size that is a multiple of {at_once}, or a smaller --micro-batch-size.",
        )
    return config.batch_size // at_once


def trainer_arguments(config: SftConfig, ranks: Ranks, is_on_gpu: bool) -> dict[str, Any]:
    """Return the trainer's arguments that say how the work is shared.

    Dropout differs between the processes, as their rows do; so their seeds do.
    """
    arguments: dict[str, Any] = {
        "gradient_accumulation_steps": accumulated(config, ranks.num_processes),
        "seed": config.seed + ranks.rank,
        "use_cpu": config.device == "cpu",
    }
    if config.parallel == "none":
        return arguments
    arguments["use_cpu"] = not is_on_gpu
    arguments["ddp_find_unused_parameters"] = False  # each trained weight is used in each row
    if config.parallel == "fsdp":
        arguments["fsdp"] = True
        # One block of the model is a unit; a checkpoint is written by all, each its own part.
        arguments["fsdp_config"] = {"version": 2, "state_dict_type": "SHARDED_STATE_DICT"}
        # Else each process would keep the gradients of all weights until the last micro-batch of a step.
        arguments["accelerator_config"] = {"gradient_accumulation_kwargs": {"sync_each_batch": True}}
    return arguments


def whole_model(sharded: Any, fresh: Callable[[], Any], ranks: Ranks, device: Any) -> Any:
    """Return a plain model with the trained weights of all shards; None in all processes but the first.

    Args:
        sharded: The model as it was trained; all processes call this.
        fresh: Makes the same model before training.
        ranks: The processes.
        device: Where the model is to be.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    weights = get_model_state_dict(sharded, options=options)
    if not ranks.is_first:
        return None
    model = fresh()
    unknown = model.load_state_dict(weights, strict=False).unexpected_keys
    assert not unknown, unknown
    return model.to(device)


def held_bytes(model: Any, optimizer: Any) -> int:
    """Return the bytes of weights, gradients and optimizer state that lie in this process.

    Args:
        model: The model; of a sharded one the shards of this process count.
        optimizer: Its optimizer, after a step and before the gradients are dropped.
    """
    tensors = {id(parameter): parameter for parameter in model.parameters()}
    held = [tensor for parameter in tensors.values() for tensor in (parameter, parameter.grad)]
    held += [value for state in optimizer.state.values() for value in state.values()]
    return sum(_local_bytes(tensor) for tensor in held)


def _local_bytes(tensor: Any) -> int:
    import torch
    from torch.distributed.tensor import DTensor

    if not isinstance(tensor, torch.Tensor):
        return 0
    local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return local.numel() * local.element_size()
