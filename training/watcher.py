"""What happens between two steps of a training run: metrics kept, checkpoints sealed, trouble noticed.

Place in the data's way: transformers' `Trainer` calls it after every step -> `RunFolder` keeps what it says
-> the command line and the page show it. Imported only by a trainer that runs: it needs transformers.

Example:
    trainer.add_callback(Watcher(run, on_progress, cancel))
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..core.errors import TrainingError
from .parallel.ranks import Flag, Ranks
from .parallel.sharing import held_bytes
from .runs.checkpoints import mark
from .runs.run_folder import RunFolder

# Steps over which speed and the time left are averaged.
_WINDOW = 20


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """How far a run is.

    Attributes:
        step: Optimizer steps done.
        num_steps: Optimizer steps in all.
        loss: Of the last step.
        tokens_per_s: Tokens read a second, padding not counted, over the last steps.
        eta_s: Seconds left by the speed of the last steps; None before there is one.
    """

    step: int
    num_steps: int
    loss: float
    tokens_per_s: float
    eta_s: float | None


OnProgress: TypeAlias = Callable[[TrainingProgress], None]


class Watcher(TrainerCallback):
    """Keeps a run's metrics and checkpoints, and stops it where it has gone wrong.

    Args:
        run: The run, held by this process.
        on_progress: Told after every step.
        cancel: Set by a person to stop after the step at hand, with a checkpoint; None for never.
        ranks: The processes that train together; the first alone keeps metrics.

    Attributes:
        held_bytes: Weights, gradients and optimizer state that lie in this process; 0 before the first step.
    """

    def __init__(
        self,
        run: RunFolder,
        on_progress: OnProgress | None = None,
        cancel: Flag | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self._run = run
        self._on_progress = on_progress
        self._cancel: Flag = cancel or threading.Event()
        self._ranks = ranks or Ranks()
        self._is_cancelled = False
        self.held_bytes = 0
        self._marks: deque[tuple[float, int]] = deque(maxlen=_WINDOW + 1)  # (time, tokens so far)

    @property
    def is_cancelled(self) -> bool:
        """Whether a person has stopped the run; all processes say the same."""
        return self._is_cancelled

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note how many steps there are."""
        self._marks.append((time.monotonic(), int(state.num_input_tokens_seen)))
        if self._ranks.is_first:
            self._run.progress(state.global_step, state.max_steps)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count once what lies in memory from now on."""
        self.held_bytes = self.held_bytes or held_bytes(kwargs["model"], kwargs["optimizer"])

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop with a checkpoint where a person wants it."""
        self._is_cancelled = self._ranks.any(self._cancel.is_set())
        if self._is_cancelled:
            control.should_save = True
            control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep the numbers of a step.

        Raises:
            TrainingError: The loss or the gradient is no number any more.
            StorageError: The disk is full or broken.
        """
        if not logs or "loss" not in logs:
            return
        values = {name: float(value) for name, value in logs.items() if name in ("loss", "grad_norm")}
        for name, value in values.items():
            if not math.isfinite(value):
                raise TrainingError(
                    f"The {'loss' if name == 'loss' else 'gradient'} of step {state.global_step} is {value}; "
                    "the checkpoint before it is kept.",
                    hint="Begin another run with a lower --learning-rate, or with --precision fp32.",
                )
        if not self._ranks.is_first:
            return
        self._marks.append((time.monotonic(), int(state.num_input_tokens_seen)))
        values["learning_rate"] = float(logs.get("learning_rate", 0.0))
        values["tokens"] = float(state.num_input_tokens_seen)
        values["tokens_per_s"] = self._tokens_per_s()
        self._run.metrics.append(state.global_step, values)
        self._run.progress(state.global_step, state.max_steps)
        if self._on_progress:
            self._on_progress(
                TrainingProgress(
                    state.global_step,
                    state.max_steps,
                    values["loss"],
                    values["tokens_per_s"],
                    self._eta_s(state.max_steps - state.global_step),
                )
            )

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Seal the checkpoint that has just been written, once all processes have written their part.

        Raises:
            StorageError: The disk failed.
        """
        self._ranks.wait()
        if self._ranks.is_first:
            mark(self._run.checkpoints_dir / f"checkpoint-{state.global_step}")

    def _tokens_per_s(self) -> float:
        (first_s, first), (last_s, last) = self._marks[0], self._marks[-1]
        return (last - first) / max(last_s - first_s, 1e-9)

    def _eta_s(self, steps_left: int) -> float | None:
        if len(self._marks) < 2:
            return None
        return steps_left * (self._marks[-1][0] - self._marks[0][0]) / (len(self._marks) - 1)
