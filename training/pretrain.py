"""Pre-training: texts, a class of model, an objective; out comes a model that has read nothing else.

Place in the data's way: `RunFolder` and `PretrainConfig` -> texts read and split -> vocabulary learned ->
blocks -> transformers' `Trainer` -> model and tokenizer lie in `run.trained_dir`, from where `uses` and
`export` take them. Killed at any moment, the same call goes on from the last whole checkpoint.

Example:
    with RunFolder.create(runs_dir, PRETRAIN, config.to_json()) as run:
        pretrained = pretrain(run)
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..core.errors import TrainingError
from .bases import require_transformers
from .estimate.allocator import give_freed_memory_back
from .objectives.objective import Objective
from .pretraining.architectures import load_model, new_model, new_objective
from .pretraining.blocks import pack
from .pretraining.config import Architecture, PretrainConfig
from .pretraining.held_out import held_out_loss
from .pretraining.texts import read_texts, split_texts
from .pretraining.vocabulary import train_tokenizer
from .row_order import row_order
from .runs.checkpoints import newest, remove_unfinished
from .runs.kinds import PRETRAIN
from .runs.run_folder import RunFolder
from .trainer_run import (
    curve_figures,
    run_trainer,
    save_whole,
    seed_all,
    shared_arguments,
    without_printing,
)

if TYPE_CHECKING:
    from transformers import Trainer

    from .comparison import OnStage
    from .watcher import TrainingProgress


@dataclass(frozen=True, slots=True)
class Pretrained:
    """What a run came to.

    Attributes:
        architecture: The class of the model.
        model: The model.
        tokenizer: Its vocabulary.
        is_stopped: Whether a person stopped it before its end; then nothing lies in `run.trained_dir`.
        figures: Loss and perplexity on held-out text before and after, loss of the last steps, tokens a
            second, seconds, counts.
    """

    architecture: Architecture
    model: Any
    tokenizer: Any
    is_stopped: bool
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Blocks:
    train: npt.NDArray[np.int32]
    held_out: npt.NDArray[np.int32]


def pretrain(
    run: RunFolder, *, on_stage: OnStage | None = None, cancel: threading.Event | None = None
) -> Pretrained:
    """Train a model from scratch as the run's config says, or go on training.

    Args:
        run: The run, held by this process.
        on_stage: Told how far each stage is.
        cancel: Set to stop after the step at hand; the run can be resumed. None for never.

    Raises:
        DatasetError: A file can't be read or has changed, or the texts do not fill a block.
        TrainingError: The loss is no number any more, there is not enough memory, or the extra `train` is
            not installed.
        StorageError: The disk is full; the last whole checkpoint is kept.
    """
    require_transformers()
    from .watcher import Watcher

    config = PretrainConfig.from_json(run.config)
    tell = _noting(run, on_stage)
    give_freed_memory_back()
    tokenizer, blocks = _prepared(config, tell)
    seed_all(config.seed)
    model = new_model(config.architecture, config.size, tokenizer, config.max_tokens)
    objective = new_objective(config.objective or "causal", tokenizer)
    before = _held_out(config, model, objective, blocks, tell, "before")
    remove_unfinished(run.checkpoints_dir)
    checkpoint = newest(run.checkpoints_dir)
    run.metrics.drop_after(checkpoint.step if checkpoint else 0)
    watcher = Watcher(run, _shower(tell), cancel)
    trainer = _trainer(run, config, model, objective, blocks.train, watcher)
    begun = time.monotonic()
    run_trainer(trainer, run, checkpoint)
    figures = curve_figures(run, time.monotonic() - begun) | before
    if watcher.is_cancelled and trainer.state.global_step < trainer.state.max_steps:
        run.stop()
        return Pretrained(config.architecture, model, tokenizer, True, figures)
    figures |= _held_out(config, model, objective, blocks, tell, "after")
    figures |= {
        "num_parameters": model.num_parameters(),
        "vocabulary_size": len(tokenizer),
        "num_train_tokens": blocks.train.size,
        "num_held_out_tokens": blocks.held_out.size,
    }
    save_whole(run, lambda folder: (model.save_pretrained(folder), tokenizer.save_pretrained(folder)))
    run.finish(figures)
    return Pretrained(config.architecture, model, tokenizer, False, figures)


def load_pretrained(run: RunFolder) -> Pretrained:
    """Return what a finished run trained.

    Raises:
        TrainingError: It is a run of another kind, or has not been finished.
        ModelLoadError: Its files are damaged.
    """
    if run.kind != PRETRAIN:
        raise TrainingError(f"{run.run_id} is a run of the kind {run.kind}, not {PRETRAIN}.")
    if not run.trained_dir.is_dir():
        raise TrainingError(
            f"The run {run.run_id} has not been finished.",
            f"Go on with it: localsmith train resume {run.run_id}",
        )
    require_transformers()
    config = PretrainConfig.from_json(run.config)
    model, tokenizer = load_model(config.architecture, run.trained_dir)
    return Pretrained(config.architecture, model, tokenizer, False, dict(run.state.figures or {}))


def _noting(run: RunFolder, on_stage: OnStage | None) -> OnStage:
    """Return what keeps each stage in the run's folder before it tells the caller."""

    def tell(stage: str, done: int, total: int, words: str) -> None:
        run.stages.note(stage, done, total, words)
        if on_stage:
            on_stage(stage, done, total, words)

    return tell


def _prepared(config: PretrainConfig, tell: OnStage) -> tuple[Any, _Blocks]:
    """Return the vocabulary and the blocks; the same files and seed give the same."""
    tell("reading", 0, 3, "files")
    train, held_out = split_texts(read_texts(config.files, config.fields), config.held_out_share, config.seed)
    tell("reading", 1, 3, "learning a vocabulary")
    tokenizer = train_tokenizer(train, config.architecture, config.vocabulary_size)
    tell("reading", 2, 3, "texts to tokens")

    def blocks(texts: list[str], what: str) -> npt.NDArray[np.int32]:
        return pack(texts, tokenizer, config.architecture, config.max_tokens, what)

    packed = _Blocks(blocks(train, "text to train on"), blocks(held_out, "held-out text"))
    tell("reading", 3, 3, f"{packed.train.size} tokens to train on")
    return tokenizer, packed


def _held_out(
    config: PretrainConfig, model: Any, objective: Objective, blocks: _Blocks, tell: OnStage, when: str
) -> dict[str, float]:
    def show(done: int, total: int) -> None:
        tell(f"loss {when} training", done, total, "")

    loss = held_out_loss(model, objective, blocks.held_out, config.seed, show)
    return {f"held_out_loss_{when}": loss, f"perplexity_{when}": math.exp(loss)}


def _shower(tell: OnStage) -> Callable[[TrainingProgress], None]:
    def show(progress: TrainingProgress) -> None:
        words = f"loss {progress.loss:.3f}, {progress.tokens_per_s:.0f} tokens/s"
        tell("training", progress.step, progress.num_steps, words)

    return show


def _trainer(
    run: RunFolder,
    config: PretrainConfig,
    model: Any,
    objective: Objective,
    blocks: npt.NDArray[np.int32],
    watcher: Any,
) -> Trainer:
    from transformers import Trainer, TrainingArguments

    from .objectives.collator import BlockDataset, ObjectiveCollator, token_loss

    order = row_order(
        [config.max_tokens] * len(blocks),
        num_wanted=config.max_steps * config.batch_size,
        batch_size=1,  # blocks are of one length, so that none has to wait for its like
        seed=config.seed,
    )
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            **shared_arguments(run, config, config.max_steps),
            learning_rate=config.learning_rate,
            include_num_input_tokens_seen="all",
        ),
        train_dataset=BlockDataset(blocks, order),
        data_collator=ObjectiveCollator(objective, config.seed),
        compute_loss_func=token_loss,
        callbacks=[watcher],
    )
    return without_printing(trainer)
