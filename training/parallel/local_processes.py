"""Processes on this machine that do one piece of work together, each with its rank, started and watched here.

Place in the data's way: `localsmith train sft --processes 2` -> `in_processes` -> the work in each of them, a
group already -> what the first returns and tells on the way comes back. One that dies ends all.

Example:
    in_processes(work, 2, on_told=show, cancel=event, is_on_gpu=False)  # work(tell, cancel) -> what it is
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

from ...core.errors import LocalsmithError, TrainingError
from .ranks import Flag, Ranks, is_peer_lost, join, leave

T = TypeVar("T")
Tell: TypeAlias = Callable[[tuple[Any, ...]], None]
"""Sends a word to the process that started the work."""

_POLL_S = 0.1
# Time in which the others may write down that one is gone, before they are ended.
_GRACE_S = 20.0
# Imported once, by the server that the processes are forked from.
_PRELOADED = ("transformers.trainer", "peft", __name__)


Work: TypeAlias = Callable[[Tell, Flag], T]
"""What each process does. It is pickled, so it is a function of a module, or a `functools.partial` of one."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error of ours on its way to the process that started the work."""

    message: str
    hint: str
    is_peer_lost: bool


@dataclass(frozen=True, slots=True)
class _Result:
    value: Any


def in_processes(
    work: Work[T],
    num_processes: int,
    *,
    on_told: Tell,
    cancel: threading.Event,
    is_on_gpu: bool,
) -> T:
    """Do a piece of work in several processes; return what the first of them returns.

    Args:
        work: The work.
        num_processes: How many; with GPUs one for each at most.
        on_told: Gets what the first process tells.
        cancel: Set to stop; the work sees it.
        is_on_gpu: Whether each process has a GPU.

    Raises:
        ValueError: `num_processes` is below 1.
        TrainingError: A process failed or was killed; the others are ended. Also what the work raises.
    """
    if num_processes < 1:
        raise ValueError(f"num_processes must be at least 1, not {num_processes}.")
    import torch
    from torch.multiprocessing.spawn import ProcessException, start_processes

    if is_on_gpu and num_processes > torch.cuda.device_count():
        raise TrainingError(
            f"{num_processes} processes need a GPU each, but {torch.cuda.device_count()} are here.",
            hint="Start fewer, or train on CPUs: --device cpu.",
        )

    # A server that has imported the libraries forks the processes in no time, and they share its memory. With
    # CUDA a fork is not safe once anything has asked for GPUs, as imports do.
    method = "spawn" if is_on_gpu or sys.platform == "win32" else "forkserver"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(list(_PRELOADED))
    ends = [context.Pipe(duplex=False) for _ in range(num_processes)]
    stop = context.Event()
    told: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        start = _Start(num_processes, is_on_gpu, str(Path(folder) / "meeting"), dict(os.environ))
        arguments = (start, work, [sender for _, sender in ends], stop)
        group: Any = start_processes(  # type: ignore[no-untyped-call]
            _child, arguments, num_processes, join=False, start_method=method
        )
        try:
            is_done = False
            while not is_done:
                is_done = group.join(timeout=_POLL_S, grace_period=_GRACE_S)
                if cancel.is_set():
                    stop.set()
                told += _received(ends, on_told)
        except ProcessException as exc:
            told += _received(ends, on_told)
            raise _failure(told, [process.exitcode for process in group.processes], str(exc)) from exc
        finally:
            for process in group.processes:
                if process.is_alive():
                    process.kill()
    results = [message.value for message in told if isinstance(message, _Result)]
    return cast(T, results[0])


@dataclass(frozen=True, slots=True)
class _Start:
    """What a process needs to know before it works."""

    num_processes: int
    is_on_gpu: bool
    meeting_file: str
    environment: dict[str, str]


def _child(rank: int, start: _Start, work: Work[Any], senders: Sequence[Connection], stop: Flag) -> None:
    """Work as one of the processes."""
    threading.Thread(target=_end_with_starter, name="end-with-starter", daemon=True).start()
    stop = _Stop(stop)
    ranks = Ranks(rank, start.num_processes, rank, start.num_processes)
    _set_environment(ranks, start.environment)
    sender = senders[rank]
    tell: Tell = sender.send if ranks.is_first else lambda _: None
    try:
        join(ranks, start.is_on_gpu, f"file://{start.meeting_file}")
        result = work(tell, stop)
        if ranks.is_first:
            sender.send(_Result(result))
        leave()
    except LocalsmithError as exc:
        sender.send(_Failure(str(exc), exc.hint, is_peer_lost(exc.__cause__)))
        sys.stdout.flush()
        # Threads of a group that has lost a member may never end.
        os._exit(1)


def _set_environment(ranks: Ranks, environment: dict[str, str]) -> None:
    """Take over the starter's environment, and say in it which process this is, as torchrun does."""
    import torch

    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    num_threads = environment.get("OMP_NUM_THREADS") or str(max(1, num_cores // ranks.num_local))
    os.environ.update(environment)
    os.environ |= {
        "RANK": str(ranks.rank),
        "WORLD_SIZE": str(ranks.num_processes),
        "LOCAL_RANK": str(ranks.local_rank),
        "LOCAL_WORLD_SIZE": str(ranks.num_local),
        "OMP_NUM_THREADS": num_threads,
    }
    torch.set_num_threads(int(num_threads))


class _Stop:
    """The starter's event, or Ctrl-C sent to this process."""

    def __init__(self, event: Flag) -> None:
        self._event = event
        self._is_interrupted = False
        signal.signal(signal.SIGINT, self._interrupt)

    def is_set(self) -> bool:
        return self._is_interrupted or self._event.is_set()

    def _interrupt(self, number: int, frame: object) -> None:
        self._is_interrupted = True


def _end_with_starter() -> None:
    """End this process when the one that started it is gone, however that came about."""
    starter = multiprocessing.parent_process()
    assert starter is not None
    wait([starter.sentinel])
    os._exit(1)


def _received(ends: Sequence[tuple[Connection, Connection]], on_told: Tell) -> list[Any]:
    """Hand on what was told; return results and failures."""
    found = []
    for receiver, _ in ends:
        while receiver.poll():
            message = receiver.recv()
            if isinstance(message, _Failure | _Result):
                found.append(message)
            else:
                on_told(message)
    return found


def _failure(told: Sequence[Any], exit_codes: Sequence[int | None], words: str) -> TrainingError:
    """Return what went wrong first: an error of the work before a kill, a kill before what it led to."""
    failures = [message for message in told if isinstance(message, _Failure)]
    for failure in failures:
        if not failure.is_peer_lost:
            return TrainingError(failure.message, failure.hint)
    for rank, code in enumerate(exit_codes):
        if code is not None and code < 0 and code != -signal.SIGTERM:
            name = signal.Signals(-code).name
            why = " The kernel does that where memory is short." if name == "SIGKILL" else ""
            return TrainingError(
                f"Process {rank + 1} of {len(exit_codes)} was ended by {name}.{why}",
                hint="The last whole checkpoint is kept: localsmith train resume goes on from it.",
            )
    if failures:
        return TrainingError(failures[0].message, failures[0].hint)
    return TrainingError(f"A process of the run has failed: {words.strip()}")
