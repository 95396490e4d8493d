"""What the processes of the tests of shards do; a module of its own, since they import it by its name."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from localsmith.training.bases import Base
from localsmith.training.config import SftConfig
from localsmith.training.data.rows import TrainingRow
from localsmith.training.parallel.local_processes import Tell
from localsmith.training.parallel.ranks import Flag, launched
from localsmith.training.runs.checkpoints import newest
from localsmith.training.runs.run_folder import open_run
from localsmith.training.sft import Trained, train


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training run within a launch of processes."""

    name: str
    config: SftConfig
    stop_at: int = 0  # step after which a person stops it; 0 for never
    copy_to: str = ""  # name of a copy of the run's folder as it is afterwards
    kill_at: int = 0  # step after which processes are killed; 0 for never
    is_killed_wholly: bool = False  # all of them, else the last


class Watch:
    """Looks like a person's flag; asked after each step, it stops the run or kills its own process."""

    def __init__(self, trial: Trial, first_step: int) -> None:
        self._trial = trial
        self._step = first_step
        self._is_killed = trial.is_killed_wholly or not launched().is_first

    def is_set(self) -> bool:
        self._step += 1
        if self._is_killed and self._step == self._trial.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return self._step == self._trial.stop_at


def trained(runs: Path, trial: Trial, base: Base, rows: Sequence[TrainingRow]) -> Trained:
    """Begin a run, or go on with it, as one of the processes."""
    run = open_run(runs, trial.name)
    checkpoint = newest(run.checkpoints_dir)
    watch = Watch(trial, checkpoint.step if checkpoint else 0)
    if not launched().is_first:
        return train(run, trial.config, base, rows, cancel=watch)
    with run:
        return train(run, trial.config, base, rows, cancel=watch)


def train_all(
    runs: Path, trials: Sequence[Trial], base: Base, rows: Sequence[TrainingRow], tell: Tell, stop: Flag
) -> dict[str, float]:
    """Train the trials one after the other; return the bytes that each held in the first process."""
    held = {}
    for trial in trials:
        held[trial.name] = trained(runs, trial, base, rows).figures["held_bytes"]
        if trial.copy_to and launched().is_first:
            shutil.copytree(runs / trial.name, runs / trial.copy_to)
    return held
