"""The command that trains a model from nothing: `localsmith train pretrain`.

Place in the data's way: text files in -> `PretrainConfig` and a run -> `training.pretrain`, whose stages are
shown with the time left -> a model in the run's folder. `localsmith train resume` goes on with such a run.

Example: `localsmith train pretrain --architecture decoder --data notes.txt --max-steps 500`
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .training.runs.kinds import PRETRAIN

if TYPE_CHECKING:
    from .training.runs.run_folder import RunFolder


def pretrain(
    architecture: Annotated[str, typer.Option(help="decoder, encoder or encoder-decoder.")],
    data: Annotated[list[Path], typer.Option(help="Text, Markdown, JSON Lines or CSV files; repeat.")],
    fields: Annotated[
        list[str] | None,
        typer.Option("--field", help="Field of a row that holds text; repeat.  [default: text]"),
    ] = None,
    objective: Annotated[
        str,
        typer.Option(help="causal, masked, span-corruption or denoising; else the architecture's usual one."),
    ] = "",
    size: Annotated[str, typer.Option(help="tiny, mini, small or medium.")] = "tiny",
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    max_steps: Annotated[int, typer.Option(min=1, help="Optimizer steps.")] = 500,
    vocabulary_size: Annotated[int, typer.Option(help="Tokens of the vocabulary at most.")] = 4096,
    max_tokens: Annotated[int, typer.Option(help="Tokens of a block.")] = 128,
    batch_size: Annotated[int, typer.Option(min=1, help="Blocks of an optimizer step.")] = 16,
    micro_batch_size: Annotated[
        int, typer.Option(min=0, help="Blocks computed at once; 0 for the whole batch.")
    ] = 0,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 2e-3,
    held_out: Annotated[float, typer.Option(help="Share of the text that is held out.")] = 0.05,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    save_every: Annotated[int, typer.Option(min=0, help="Steps between checkpoints; 0 for about ten.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of first weights, order and noise.")] = 7,
) -> None:
    """Train a small model from nothing, on texts.

    Vocabulary and weights are learned from the texts alone. What is held out of them is read before and
    after.
    """
    from .cli_train import _free_name
    from .core.errors import ConfigError
    from .core.logs import log_to_file
    from .core.settings import load_settings
    from .training.pretraining.config import PretrainConfig, text_file
    from .training.runs.run_folder import RunFolder

    settings = load_settings()
    log_to_file(settings)
    options: dict[str, Any] = {
        "architecture": architecture,
        "files": tuple(text_file(path) for path in data),
        "fields": tuple(fields or ("text",)),
        "objective": objective,
        "size": size,
        "max_steps": max_steps,
        "vocabulary_size": vocabulary_size,
        "max_tokens": max_tokens,
        "batch_size": batch_size,
        "micro_batch_size": micro_batch_size or batch_size,
        "learning_rate": learning_rate,
        "held_out_share": held_out,
        "precision": precision,
        "save_every": save_every,
        "device": device,
        "seed": seed,
    }
    try:
        config = PretrainConfig(**options)
    except ValueError as exc:
        raise ConfigError(str(exc), hint="localsmith train pretrain --help lists the options.") from exc
    run_name = name or _free_name(settings, f"{architecture}-{size}")
    run_pretraining(RunFolder.create(settings.runs_dir, PRETRAIN, config.to_json(), run_name))


def run_pretraining(run: RunFolder) -> None:
    """Train, or go on training, with the stages shown; Ctrl-C stops after the step at hand.

    Args:
        run: A run of the kind "pretrain".
    """
    from .cli_train import INTERRUPTED, _ctrl_c
    from .stage_progress import stages
    from .training.pretrain import pretrain

    with stages() as on_stage, _ctrl_c() as cancel, run:
        pretrained = pretrain(run, on_stage=on_stage, cancel=cancel)
    if pretrained.is_stopped:
        typer.secho(f"Stopped. It goes on with: localsmith train resume {run.run_id}", fg="yellow", err=True)
        raise typer.Exit(INTERRUPTED)
    for line in words_of(pretrained.figures):
        typer.echo(line)
    typer.echo(f"The model is in {run.trained_dir}.")


def words_of(figures: Mapping[str, float]) -> list[str]:
    """Return what a pre-training run came to, in lines for people."""
    return [
        f"{figures['num_parameters']:,.0f} weights, a vocabulary of {figures['vocabulary_size']:,.0f}; "
        f"{figures['num_train_tokens']:,.0f} tokens to learn from, {figures['train_s']:.0f} s at "
        f"{figures['tokens_per_s']:.0f} tokens/s.",
        f"Held-out text: loss {figures['held_out_loss_before']:.3f} -> {figures['held_out_loss_after']:.3f}, "
        f"perplexity {figures['perplexity_before']:.1f} -> {figures['perplexity_after']:.1f}.",
    ]
