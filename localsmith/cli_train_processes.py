"""Several processes for one training run: started here by --processes, or outside by torchrun.

Place in the data's way: `train sft` and `train resume` -> `carry_out` -> `training.fine_tune` here, or in
several processes; the first alone prepares data, makes the run, shows bars and prints.

Example: `localsmith train sft --base smollm2-135m --data tickets.jsonl --parallel fsdp --processes 2`
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .core.settings import Settings
    from .training.fine_tune import FineTuned
    from .training.runs.run_folder import RunFolder

Parallel = Annotated[
    str,
    typer.Option(
        help="How processes share the work: ddp, each the whole model; fsdp, each a part of it; none for one."
    ),
]
Processes = Annotated[
    int, typer.Option(min=1, help="Processes to start on this machine; 1 under torchrun, which starts them.")
]

Later = Annotated[
    bool, typer.Option("--later", help="Prepare data and run only; `localsmith train resume` begins it.")
]


def run_of_first(settings: Settings, device: str) -> RunFolder | None:
    """Return the run that the first of several processes makes, once it has; None in the first itself.

    Raises:
        TrainingError: The first has failed.
    """
    from .training.parallel.ranks import join, launched, uses_gpu
    from .training.runs.run_folder import open_run

    ranks = launched()
    if ranks.num_processes == 1:
        return None
    join(ranks, uses_gpu(device))
    return None if ranks.is_first else open_run(settings.runs_dir, ranks.shared(lambda: ""))


def tell_others(run: RunFolder) -> None:
    """Tell the processes that wait in `run_of_first` which run the first has made."""
    from .training.parallel.ranks import launched

    launched().shared(lambda: run.run_id)


def check_launch(parallel: str, processes: int) -> None:
    """Refuse processes that nothing tells how to share the work.

    Raises:
        ConfigError: They would each train the whole model, or --processes is used under torchrun.
    """
    from .core.errors import ConfigError
    from .training.parallel.ranks import launched

    started = launched().num_processes
    if started > 1 and processes > 1:
        raise ConfigError(
            f"{started} processes were started already, and --processes would start more.",
            hint="Leave --processes out under torchrun.",
        )
    if max(started, processes) > 1 and parallel == "none":
        raise ConfigError(
            f"{max(started, processes)} processes would each train the whole model.",
            hint="Say how they share the work: --parallel ddp, or --parallel fsdp.",
        )


def carry_out(
    settings: Settings, run: RunFolder, processes: int, cancel: threading.Event
) -> FineTuned | None:
    """Do what the run's plan says, with the stages shown; None in all processes but the first.

    Args:
        settings: Where models, data and runs are kept.
        run: The run.
        processes: How many to start here; 1 for this process alone, or for those that torchrun started.
        cancel: Set to stop after the step at hand.
    """
    from .stage_progress import stages
    from .training.fine_tune import fine_tune
    from .training.parallel.ranks import launched

    check_launch(str(run.config["sft"].get("parallel", "none")), processes)
    if not launched().is_first:
        fine_tune(settings, run, cancel=cancel)
        return None
    if processes == 1 or run.trained_dir.is_dir():
        with stages() as on_stage, run:
            return fine_tune(settings, run, on_stage=on_stage, cancel=cancel)
    from .training.processes import fine_tune_in_processes

    with stages() as on_stage:
        return fine_tune_in_processes(settings, run, processes, on_stage=on_stage, cancel=cancel)
