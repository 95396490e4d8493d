"""The commands that train: `localsmith train sft | resume`, and beside them `data`, `estimate` and the runs.

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

from . import (
    cli_pretrain,
    cli_train_data,
    cli_train_estimate,
    cli_train_options,
    cli_train_processes,
    cli_train_runs,
)
from .training.runs.kinds import PRETRAIN

if TYPE_CHECKING:
    from .core.settings import Settings
    from .training.fine_tune import FineTuned
    from .training.runs.run_folder import RunFolder

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

app = typer.Typer(help="Train the model that serves you.", no_args_is_help=True)
app.command()(cli_train_data.data)
app.command()(cli_train_estimate.estimate)
app.command()(cli_pretrain.pretrain)


@app.command()
def sft(
    base: cli_train_options.Base,
    data: cli_train_data.Data = None,
    recipe: cli_train_data.RecipePath = None,
    method: cli_train_options.Method = "lora",
    options: cli_train_options.MethodOptions = None,
    name: Annotated[str | None, typer.Option(help="Name of the run and of the trained model.")] = None,
    template: cli_train_data.Template = None,
    wording: cli_train_data.Wording = "one",
    languages: cli_train_data.Languages = None,
    min_words: cli_train_data.MinWords = None,
    max_words: cli_train_data.MaxWords = None,
    min_tokens: cli_train_data.MinTokens = None,
    personal_data: cli_train_data.PersonalData = None,
    drop_toxic: cli_train_data.DropToxic = False,
    near_duplicates: cli_train_data.NearDuplicates = None,
    drop_strangest: cli_train_data.Strangest = None,
    drop_plainest: cli_train_data.Plainest = None,
    caps: cli_train_data.Caps = None,
    weights: cli_train_data.Weights = None,
    held_out: cli_train_data.HeldOut = None,
    epochs: Annotated[float, typer.Option(help="Times that every row is seen.")] = 1.0,
    max_steps: Annotated[int, typer.Option(min=0, help="Optimizer steps at most; 0 by --epochs.")] = 0,
    batch_size: cli_train_options.BatchSize = 8,
    micro_batch_size: cli_train_options.MicroBatchSize = 4,
    max_tokens: cli_train_options.MaxTokens = 1024,
    long_rows: Annotated[str, typer.Option(help="Longer rows: refuse, or drop and count them.")] = "refuse",
    learning_rate: Annotated[float, typer.Option(min=0.0, help="0 for the method's own.")] = 0.0,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    checkpointing: cli_train_options.Checkpointing = False,
    device: cli_train_options.Device = "auto",
    parallel: cli_train_processes.Parallel = "none",
    processes: cli_train_processes.Processes = 1,
    later: cli_train_processes.Later = False,
    chat_template: Annotated[
        str, typer.Option(help="model for the base's own, chatml where it has none.")
    ] = "model",
    quantization: Annotated[str, typer.Option(help="F16, Q8_0, Q5_K_M or Q4_K_M.")] = "Q8_0",
    evaluation: Annotated[
        Path | None, typer.Option(help="File to compare base and trained model on; else the held-out rows.")
    ] = None,
    num_evaluated: Annotated[int, typer.Option(min=1, help="Rows of it at most.")] = 50,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Of data, order and added weights; else the recipe's.  [default: 7]"),
    ] = None,
) -> None:
    """Fine-tune a model.

    On examples, or on what was said in the chat. The trained model is exported, compared with its base on
    rows that were held out, and taken into the catalog.
    """
    from .core.errors import ConfigError
    from .core.logs import log_to_file
    from .core.settings import load_settings
    from .training.config import SftConfig
    from .training.evaluation_rows import EvaluationFile, check_held_out
    from .training.fine_tune import FineTuningPlan
    from .training.methods.registry import method_of, options_of
    from .training.runs.run_folder import RunFolder
    from .training_terminal import print_report

    settings = load_settings()
    log_to_file(settings)
    cli_train_processes.check_launch(parallel, processes)
    if (made := cli_train_processes.run_of_first(settings, device)) is not None:
        _run(settings, made)
        return
    chosen = method_of(method, cli_train_options.pairs(options or []))
    cli_train_options.pull_base(settings, base)
    filters = cli_train_data.filter_options(
        languages=languages,
        min_words=min_words,
        max_words=max_words,
        min_tokens=min_tokens,
        personal_data=personal_data,
        drop_toxic=drop_toxic,
        near_duplicates=near_duplicates,
        drop_strangest=drop_strangest,
        drop_plainest=drop_plainest,
    )
    wanted = cli_train_data.DataOptions(
        data, recipe, template, wording, held_out, seed, filters, caps, weights
    )
    version = cli_train_data.prepare_data(settings, wanted, base)
    print_report(version)
    if evaluation is None:
        check_held_out(version.report.num_held_out)
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
            "parallel": parallel,
            "template": chat_template,
            "seed": version.recipe.seed,
        }
        run_name = name or _free_name(settings, f"{_stem(base)}-{method}")
        compared = EvaluationFile(
            str(evaluation.resolve()) if evaluation else "", template or "", wording, version.recipe.seed
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
    run = RunFolder.create(settings.runs_dir, "sft", plan.to_json(), run_name)
    cli_train_processes.tell_others(run)
    if later:
        typer.echo(f"Prepared. Begin with: localsmith train resume {run.run_id}")
        return
    _run(settings, run, processes)


@app.command()
def resume(run: cli_train_runs.RunId, processes: cli_train_processes.Processes = 1) -> None:
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
    if opened.kind == PRETRAIN:
        cli_pretrain.run_pretraining(opened)
        return
    _run(settings, opened, processes)


app.command("list")(cli_train_runs.list_all)
app.command()(cli_train_runs.show)
app.command()(cli_train_runs.delete)


def _run(settings: Settings, run: RunFolder, processes: int = 1) -> None:
    """Train with the stages shown; Ctrl-C stops after the step at hand."""
    from .training_terminal import print_comparison

    with _ctrl_c() as cancel:
        tuned = cli_train_processes.carry_out(settings, run, processes, cancel)
    if tuned is None:
        return
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
