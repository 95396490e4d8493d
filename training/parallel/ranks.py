"""The processes that train one run together: how many there are, which of them this is, how they agree.

Place in the data's way: torchrun or `local_processes` starts them -> `joined` makes them
a group -> `sft.train` asks who is first, since the first alone writes what a run keeps.

Example:
    with joined("fsdp", is_on_gpu=False) as ranks:
        checkpoint = ranks.shared(lambda: newest(run.checkpoints_dir))
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, cast

from ...core.errors import TrainingError

Parallel: TypeAlias = Literal["none", "ddp", "fsdp"]
T = TypeVar("T")

TIMEOUT = timedelta(hours=2)
"""How long the others wait for one: the first may prepare data or fetch a base while they do. A process that
is gone is noticed at once, by its closed connection."""

# What gloo, NCCL and torch's store say when the other end is gone.
_LOST = ("connection closed by peer", "connection reset", "broken pipe", "socket closed", "timed out waiting")


class Flag(Protocol):
    """What is set to stop a run: an event of a thread, or one that reaches into other processes."""

    def is_set(self) -> bool:
        """Return whether it is set."""
        ...


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes of a run, seen from one of them.

    Attributes:
        rank: Number of this process, from 0.
        num_processes: Processes in all.
        local_rank: Number of this process on its machine, from 0; its GPU's as well.
        num_local: Processes on this machine.
    """

    rank: int = 0
    num_processes: int = 1
    local_rank: int = 0
    num_local: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes what the run keeps."""
        return self.rank == 0

    def shared(self, compute: Callable[[], T]) -> T:
        """Return what the first process computes, in all of them.

        Raises:
            TrainingError: The first process failed; it raises its own error.
        """
        if self.num_processes == 1:
            return compute()
        import torch.distributed as dist

        box: list[Any] = [None, ""]
        try:
            if self.is_first:
                box[0] = compute()
        except Exception as exc:
            box[1] = str(exc) or type(exc).__name__
            raise
        finally:
            dist.broadcast_object_list(box, src=0)
        if box[1]:
            raise TrainingError(f"The first process could not go on: {box[1]}")
        return cast(T, box[0])

    def any(self, is_so: bool) -> bool:
        """Return whether it is so in any process; all must ask."""
        if self.num_processes == 1:
            return is_so
        import torch
        import torch.distributed as dist

        flag = torch.tensor([is_so], dtype=torch.int64)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag.item())

    def wait(self) -> None:
        """Wait until all processes have come to this point."""
        self.any(False)


def launched() -> Ranks:
    """Return what the launcher says of this process; one of one where none started it."""
    number = {name: int(os.environ.get(name) or default) for name, default in _DEFAULTS.items()}
    return Ranks(number["RANK"], number["WORLD_SIZE"], number["LOCAL_RANK"], number["LOCAL_WORLD_SIZE"])


@contextmanager
def joined(parallel: Parallel, is_on_gpu: bool) -> Iterator[Ranks]:
    """Make the processes a group for the time of a block; one that is a group already stays it.

    Args:
        parallel: How they share the work.
        is_on_gpu: Whether each has a GPU.

    Raises:
        TrainingError: The others did not come.
    """
    ranks = launched()
    is_alone = "WORLD_SIZE" not in os.environ
    if parallel == "none" or (parallel == "ddp" and is_alone):
        yield ranks
        return
    import torch.distributed as dist

    if dist.is_initialized():
        yield ranks
        return
    if is_alone:
        with _group_of_one(is_on_gpu):
            yield ranks
        return
    join(ranks, is_on_gpu)
    try:
        yield ranks
    finally:
        leave()


def join(ranks: Ranks, is_on_gpu: bool, init_method: str = "env://") -> None:
    """Make this process one of the group.

    Args:
        ranks: Which of them it is.
        is_on_gpu: Whether each has a GPU: tensors there travel by NCCL, others by gloo.
        init_method: Where they find each other, as PyTorch writes it.

    Raises:
        TrainingError: The others did not come.
    """
    import torch
    import torch.distributed as dist

    if is_on_gpu:
        torch.cuda.set_device(ranks.local_rank)
    try:
        dist.init_process_group(
            backend(is_on_gpu),
            init_method=init_method,
            rank=ranks.rank,
            world_size=ranks.num_processes,
            timeout=TIMEOUT,
        )
    except (RuntimeError, ValueError) as exc:
        raise TrainingError(
            f"The {ranks.num_processes} processes do not find each other: {exc}",
            hint="Start them by torchrun, or let --processes start them.",
        ) from exc


def leave() -> None:
    """Leave the group, if there is one; all leave at about the same time."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def uses_gpu(device: str) -> bool:
    """Return whether a run on this device ("auto", "cpu", "cuda", "mps") has NVIDIA's GPUs."""
    if device == "auto":
        import torch

        return torch.cuda.is_available()
    return device == "cuda"


def backend(is_on_gpu: bool) -> str:
    """Return by what tensors travel, as PyTorch writes it."""
    return "cpu:gloo,cuda:nccl" if is_on_gpu else "gloo"


def is_peer_lost(exc: BaseException | None) -> bool:
    """Return whether an error says that another process is gone."""
    import torch.distributed as dist

    if isinstance(exc, dist.DistNetworkError):
        return True
    return isinstance(exc, RuntimeError) and any(words in str(exc).lower() for words in _LOST)


_DEFAULTS = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}


@contextmanager
def _group_of_one(is_on_gpu: bool) -> Iterator[None]:
    """Make this process a group of its own, as FSDP needs one; transformers looks into the environment."""
    import torch.distributed as dist
    from torch._C._distributed_c10d import HashStore

    os.environ |= {name: str(number) for name, number in _DEFAULTS.items()}
    dist.init_process_group(backend(is_on_gpu), store=HashStore(), rank=0, world_size=1, timeout=TIMEOUT)
    try:
        yield
    finally:
        leave()
        for name in _DEFAULTS:
            os.environ.pop(name, None)
