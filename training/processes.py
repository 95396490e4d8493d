"""The whole loop with training spread over processes of this machine; the first alone exports and compares.

Place in the data's way: `localsmith train sft --processes 2` -> `fine_tune_in_processes` -> `fine_tune` in
each process -> what the first returns. On several machines torchrun starts the processes instead.

Example:
    tuned = fine_tune_in_processes(settings, run, 2, on_stage=show)
"""

from __future__ import annotations

import functools
import threading
from pathlib import Path

from ..core.errors import TrainingError
from ..core.settings import Settings
from .comparison import OnStage
from .fine_tune import FineTuned, FineTuningPlan, fine_tune
from .parallel.local_processes import Tell, in_processes
from .parallel.ranks import Flag, launched, uses_gpu
from .parallel.sharing import check_shared
from .runs.run_folder import RunFolder


def fine_tune_in_processes(
    settings: Settings,
    run: RunFolder,
    num_processes: int,
    *,
    on_stage: OnStage | None = None,
    cancel: threading.Event | None = None,
) -> FineTuned:
    """Do what the run's plan says; see `fine_tune`.

    Args:
        settings: Where models, data and runs are kept.
        run: The run, held by no process; the first of the new ones takes it.
        num_processes: How many; a GPU for each where the run is on GPUs.
        on_stage: Told how far each stage is.
        cancel: Set to stop training after the step at hand; None for never.

    Raises:
        TrainingError: The plan can't be carried out so, or a process has failed or was killed. The last whole
            checkpoint is kept.
    """
    config = FineTuningPlan.from_json(run.config).sft
    check_shared(config, num_processes)
    tell = on_stage or (lambda *_: None)
    try:
        return in_processes(
            functools.partial(_work, settings, run.path),
            num_processes,
            on_told=lambda words: tell(*words),
            cancel=cancel or threading.Event(),
            is_on_gpu=uses_gpu(config.device),
        )
    except TrainingError:
        if run.state.status == "interrupted":  # the first could not write down itself what ended the run
            with run:
                raise
        raise


def _work(settings: Settings, path: Path, tell: Tell, stop: Flag) -> FineTuned:
    run = RunFolder(path)
    if not launched().is_first:
        return fine_tune(settings, run, cancel=stop)
    with run:
        return fine_tune(settings, run, on_stage=lambda *words: tell(words), cancel=stop)
