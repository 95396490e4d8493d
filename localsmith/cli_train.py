"""The commands that train: `localsmith train sft | resume | list | show | delete`.

Place in the data's way: words in -> a data version and a run -> `training.fine_tune`, whose stages are shown
with the time left -> a model in the catalog. Ctrl-C stops after the step at hand; `resume` goes on.

Example: `localsmith train sft --base smollm2-135m --data dialogues.jsonl --method lora`
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .core.settings import Settings
    from .training.data.versions import DataVersion
    from .training.fine_tune import FineTuned
    from .training.runs.run_folder import RunFolder

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""
FEEDBACK = "feedback"
"""What --data names instead of a file for what people said in the chat."""

app = typer.Typer(help="Train the model that serves you.", no_args_is_help=True)

RunId = Annotated[str, typer.Argument(help="Name of the run; `localsmith train list` shows all.")]


@app.command()
def sft(
    base: Annotated[
        str,
        typer.Option(help="An installed model, a GGUF file, a Hugging Face folder, or hub:OWNER/NAME."),
    ],
    data: Annotated[
        list[str],
        typer.Option(help=f"JSON Lines or CSV files of examples, or {FEEDBACK} for the chat's; repeat."),
    ],
    method: Annotated[
        str, typer.Option(help="lora, full, selective, bottleneck, ia3, prompt or prefix.")
    ] = "lora",
    options: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the method, such as rank=8; repeat.", metavar="NAME=VALUE"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run and of the trained model.")] = None,
    template: Annotated[
        str | None, typer.Option("--task", help="Template that turns the files' fields into prompts.")
    ] = None,
    wording: Annotated[str, typer.Option(help="One wording a row, all of them, or one by its name.")] = "one",
    epochs: Annotated[float, typer.Option(help="Times that every row is seen.")] = 1.0,
    max_steps: Annotated[int, typer.Option(min=0, help="Optimizer steps at most; 0 by --epochs.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows of an optimizer step.")] = 8,
    micro_batch_size: Annotated[int, typer.Option(min=1, help="Rows computed at once.")] = 4,
    max_tokens: Annotated[int, typer.Option(min=2, help="Most tokens of a row.")] = 1024,
    long_rows: Annotated[str, typer.Option(help="Longer rows: refuse, or drop and count them.")] = "refuse",
    learning_rate: Annotated[float, typer.Option(min=0.0, help="0 for the method's own.")] = 0.0,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Compute activations again, to save memory.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    chat_template: Annotated[
        str, typer.Option(help="model for the base's own, chatml where it has none.")
    ] = "model",
    quantization: Annotated[str, typer.Option(help="F16, Q8_0, Q5_K_M or Q4_K_M.")] = "Q8_0",
    held_out: Annotated[float, typer.Option(min=0.0, max=0.9, help="Share of the rows held out.")] = 0.1,
    evaluation: Annotated[
        Path | None, typer.Option(help="File to compare base and trained model on; else the held-out rows.")
    ] = None,
    num_evaluated: Annotated[int, typer.Option(min=1, help="Rows of it at most.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Of data, order and added weights.")] = 7,
) -> None:
    """Fine-tune a model.

    On examples, or on what was said in the chat. The trained model is exported, compared with its base on
    rows that were held out, and taken into the catalog.
    """
    from .core.errors import ConfigError
    from .core.logs import log_to_file
    from .core.settings import load_settings
    from .training.config import SftConfig
    from .training.evaluation_rows import EvaluationFile
    from .training.fine_tune import FineTuningPlan
    from .training.methods.registry import method_of, options_of
    from .training.runs.run_folder import RunFolder

    settings = load_settings()
    log_to_file(settings)
    chosen = method_of(method, _pairs(options or []))
    _pull_base(settings, base)
    version = _prepare(settings, data, template, wording, held_out, seed)
    try:
        config: dict[str, Any] = {
            "base": base,
            "data_version": version.id,
            "method": method,
            "method_options": options_of(chosen),
            "epochs": epochs,
            "max_steps": max_steps,
            "batch_size": batch_size,
            "micro_batch_size": micro_batch_size,
            "max_tokens": max_tokens,
            "long_rows": long_rows,
            "learning_rate": learning_rate,
            "precision": precision,
            "is_checkpointed": checkpointing,
            "device": device,
            "template": chat_template,
            "seed": seed,
        }
        run_name = name or _free_name(settings, f"{_stem(base)}-{method}")
        compared = EvaluationFile(
            str(evaluation.resolve()) if evaluation else "", template or "", wording, seed
        )
        plan = FineTuningPlan(
            SftConfig(**config),
            run_name,
            quantization,  # type: ignore[arg-type]
            evaluation=compared,
            num_evaluated=num_evaluated,
        )
    except ValueError as exc:
        raise ConfigError(str(exc), hint="localsmith train sft --help lists the options.") from exc
    _run(settings, RunFolder.create(settings.runs_dir, "sft", plan.to_json(), run_name))


@app.command()
def resume(run: RunId) -> None:
    """Go on with a run that was stopped, killed or has failed."""
    from .core.logs import log_to_file
    from .core.settings import load_settings
    from .training.runs.run_folder import open_run

    settings = load_settings()
    log_to_file(settings)
    opened = open_run(settings.runs_dir, run)
    if opened.state.status == "finished":
        typer.echo(f"{run} is finished: localsmith train show {run}")
        return
    _run(settings, opened)


@app.command("list")
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
            Path(str(run.config.get("sft", {}).get("base", ""))).name,
            str(run.config.get("sft", {}).get("method", "")),
            state.status,
            f"{state.step} of {state.num_steps}" if state.num_steps else "",
            f"{losses[-1][1]:.3f}" if losses else "",
        )
    Console(highlight=False).print(table)


@app.command()
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
    for key, value in opened.config.get("sft", {}).items():
        typer.echo(f"  {key}: {value}")
    if curve := loss_curve(opened.metrics.series("loss")):
        typer.echo(f"\n{curve}")
    if state.figures:
        print_comparison(state.figures)


@app.command()
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


def _run(settings: Settings, run: RunFolder) -> None:
    """Train with the stages shown; Ctrl-C stops after the step at hand."""
    from .training.fine_tune import fine_tune
    from .training_terminal import print_comparison, stages

    with stages() as on_stage, _ctrl_c() as cancel, run:
        tuned = fine_tune(settings, run, on_stage=on_stage, cancel=cancel)
    if tuned.is_stopped:
        typer.secho(f"Stopped. It goes on with: localsmith train resume {run.run_id}", fg="yellow", err=True)
        raise typer.Exit(INTERRUPTED)
    print_comparison(tuned.figures)
    typer.echo(_next_step(tuned))


def _next_step(tuned: FineTuned) -> str:
    if not tuned.model_name:
        return f"{tuned.words}. This method has no GGUF, so the chat can't run it."
    return (
        f"{tuned.words}. The model {tuned.model_name} is in the catalog; "
        f"put it in use: localsmith models promote {tuned.model_name}"
    )


@contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """Make the first Ctrl-C set an event; a second one ends the program at once."""
    cancel = threading.Event()

    def stop(number: int, frame: object) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        cancel.set()
        typer.secho("\nStopping after this step; Ctrl-C again ends it at once.", fg="yellow", err=True)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, before)


def _prepare(
    settings: Settings, data: list[str], template: str | None, wording: str, held_out: float, seed: int
) -> DataVersion:
    """Make a data version of files and feedback, and say what was dropped."""
    from .core.conversations import ConversationStore
    from .training.data.prepare import prepare
    from .training.data.recipe import Recipe
    from .training.data.sources import FeedbackSource, FileSource, Source
    from .training.data.task_template import load_template
    from .training_terminal import print_report, stages

    loaded = load_template(template) if template else None
    sources: list[Source] = [
        FeedbackSource(ConversationStore(settings.conversations_path).feedback.all())
        if name == FEEDBACK
        else FileSource(Path(name), template=loaded, wording=wording)
        for name in data
    ]
    with stages() as on_stage:
        version = prepare(
            sources,
            Recipe(held_out_share=held_out, seed=seed),
            settings.home,
            lambda done, total, stage: on_stage(stage, done, total, ""),
        )
    print_report(version)
    return version


def _pull_base(settings: Settings, base: str) -> None:
    """Fetch a base that the catalog knows and that is not here yet."""
    from .cli_models import pull
    from .models.catalog.catalog import catalog
    from .models.catalog.installed import installed

    if base in catalog() and base not in installed(settings):
        pull(base, None)


def _pairs(options: list[str]) -> dict[str, str]:
    from .core.errors import ConfigError

    pairs = dict(option.partition("=")[::2] for option in options)
    if wrong := [option for option in options if "=" not in option]:
        raise ConfigError(f"--set {wrong[0]} makes no sense.", hint="Write NAME=VALUE, such as rank=8.")
    return pairs


def _stem(base: str) -> str:
    import re

    name = Path(base.removeprefix("hub:")).stem.lower()
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-") or "model"


def _free_name(settings: Settings, wanted: str) -> str:
    """Return the name, with a number behind it where a run or a model has it already."""
    from .models.catalog.installed import installed
    from .training.runs.run_folder import list_runs

    taken = {run.run_id for run in list_runs(settings.runs_dir)} | set(installed(settings))
    numbered = (f"{wanted}-{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (wanted, *numbered) if name not in taken)
