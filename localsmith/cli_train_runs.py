"""The commands about runs: `localsmith train list | show | delete`.

Place in the data's way: words in -> the runs' folders, read while they train as well -> tables and curves.

Example: `localsmith train show tickets`
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .cli_pretrain import words_of
from .training.runs.kinds import PRETRAIN

if TYPE_CHECKING:
    from .training.runs.run_folder import RunFolder

RunId = Annotated[str, typer.Argument(help="Name of the run; `localsmith train list` shows all.")]


def list_all() -> None:
    """Show all runs, the newest first."""
    from rich.console import Console
    from rich.table import Table

    from .core.settings import load_settings
    from .training.runs.run_folder import list_runs

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("run", "base", "method", "state", "step", "loss"):
        table.add_column(title, no_wrap=True)
    for run in list_runs(load_settings().runs_dir):
        state = run.state
        losses = run.metrics.series("loss")
        table.add_row(
            run.run_id,
            *_base_and_method(run),
            state.status,
            f"{state.step} of {state.num_steps}" if state.num_steps else "",
            f"{losses[-1][1]:.3f}" if losses else "",
        )
    Console(highlight=False).print(table)


def show(
    run: RunId,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show a run.

    Its settings, its loss curve and what it came to.
    """
    import dataclasses
    import json as json_module

    from .core.settings import load_settings
    from .training.runs.run_folder import open_run
    from .training_terminal import loss_curve, print_comparison

    opened = open_run(load_settings().runs_dir, run)
    state = opened.state
    if json:
        lines = [dataclasses.asdict(line) for line in opened.metrics.lines()]
        content = {"config": opened.config, "state": dataclasses.asdict(state), "metrics": lines}
        typer.echo(json_module.dumps(content, indent=1))
        return
    typer.echo(f"{run}: {state.status}, step {state.step} of {state.num_steps}. {state.error}".rstrip())
    for key, value in _settings_of(opened).items():
        typer.echo(f"  {key}: {value}")
    if curve := loss_curve(opened.metrics.series("loss")):
        typer.echo(f"\n{curve}")
    if state.figures and opened.kind == PRETRAIN:
        typer.echo("\n".join(words_of(state.figures)))
    elif state.figures:
        print_comparison(state.figures)


def delete(run: RunId, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Delete a run with its checkpoints.

    The model that it put into the catalog stays.
    """
    from .core.settings import load_settings
    from .training.runs.run_folder import open_run

    opened = open_run(load_settings().runs_dir, run)
    if not yes:
        typer.confirm(f"Delete the run {run} with its checkpoints?", abort=True)
    opened.delete()
    typer.echo(f"{run} is deleted.")


def _settings_of(run: RunFolder) -> Mapping[str, Any]:
    """Return how a run trains, whatever its kind."""
    if run.kind == PRETRAIN:
        files = ", ".join(Path(file["path"]).name for file in run.config.get("files", ()))
        return {**run.config, "files": files}
    settings: Mapping[str, Any] = run.config.get("sft", {})
    return settings


def _base_and_method(run: RunFolder) -> tuple[str, str]:
    """Return what a run starts from and what it does; one from nothing names its class and its objective."""
    if run.kind == PRETRAIN:
        architecture, size = run.config.get("architecture", ""), run.config.get("size", "")
        return f"{architecture}, {size}", str(run.config.get("objective", ""))
    settings = _settings_of(run)
    return Path(str(settings.get("base", ""))).name, str(settings.get("method", ""))
