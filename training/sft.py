"""Supervised fine-tuning: a base, rows of prompts and completions, a method; out comes a trained model.

Place in the data's way: `RunFolder` and `SftConfig` -> base loaded -> method prepared -> transformers'
`Trainer` -> what was trained lies in `run.trained_dir`, from where `export` takes it. Killed at any moment,
the same call goes on from the last whole checkpoint.

Source: the loss is over completions only, as in Ouyang et al. 2022, "Training language models to follow
instructions with human feedback", section 3.5.

Example:
    with RunFolder.create(runs_dir, "sft", config.to_json()) as run:
        trained = train(run, config, find_base(settings, config.base), version.train)
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.errors import TrainingError
from .bases import Base, load_trainable, load_vocabulary
from .config import SftConfig
from .data.rows import TrainingRow
from .encoding import EncodedRow, Encoder, OnEncoded
from .estimate.allocator import give_freed_memory_back
from .estimate.plan import TrainingPlan
from .estimate.sft_plan import sft_plan
from .estimate.shape import ModelShape, read_shape
from .estimate.verdict import Device, check_fits, this_device
from .methods.method import Method, ParameterCount, count_parameters
from .methods.registry import method_of
from .parallel.ranks import Flag, Ranks, joined, uses_gpu
from .parallel.sharing import check_shared, trainer_arguments, whole_model
from .row_order import row_order
from .runs.checkpoints import Checkpoint, newest, remove_unfinished
from .runs.run_folder import RunFolder
from .trainer_run import curve_figures, run_trainer, save_whole, seed_all, shared_arguments, without_printing

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments

    from .watcher import OnProgress


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run came to.

    Attributes:
        model: The trained model, with the method's parts in it; None in all processes but the first of
            several.
        method: The method.
        parameters: How many were trained.
        is_stopped: Whether a person stopped it before its end; then nothing lies in `run.trained_dir`.
        figures: Loss of the last steps, tokens a second, seconds, and `held_bytes`: weights, gradients and
            optimizer state in this process.
    """

    model: Any
    method: Method
    parameters: ParameterCount
    is_stopped: bool
    figures: dict[str, float]


def train(
    run: RunFolder,
    config: SftConfig,
    base: Base,
    rows: Sequence[TrainingRow],
    *,
    on_encoded: OnEncoded | None = None,
    on_progress: OnProgress | None = None,
    cancel: Flag | None = None,
) -> Trained:
    """Train, or go on training; alone, or as one of several processes that all call this.

    Args:
        run: The run's folder, held by this process, or by the first of several.
        config: Its settings.
        base: The model to start from.
        rows: What is to be learned.
        on_encoded: Told while rows are encoded.
        on_progress: Told after every optimizer step.
        cancel: Set to stop after the step at hand; the run can be resumed. None for never.

    Raises:
        DatasetError: A row can't be used.
        TrainingError: There is not enough memory, the method does not fit the base, the loss is no number any
            more, the batch can't be shared, or another process is gone.
        StorageError: The disk is full; the last whole checkpoint is kept.
    """
    give_freed_memory_back()
    with joined(config.parallel, uses_gpu(config.device)) as ranks:
        check_shared(config, ranks.num_processes)
        encoded = encode(config, base, rows, on_encoded if ranks.is_first else None)
        ranks.shared(lambda: check_fits(*memory_plan(config, base, encoded, ranks)))
        return _train_as(ranks, run, config, base, encoded, on_progress, cancel)


def _train_as(
    ranks: Ranks,
    run: RunFolder,
    config: SftConfig,
    base: Base,
    encoded: Sequence[EncodedRow],
    on_progress: OnProgress | None,
    cancel: Flag | None,
) -> Trained:
    """Train as one of the processes."""
    from .watcher import Watcher

    method = method_of(config.method, config.method_options)

    def prepared() -> Any:
        seed_all(config.seed)
        return method.prepare(load_trainable(base, config.precision))

    model = prepared()
    parameters = count_parameters(model)
    checkpoint = ranks.shared(lambda: _where_it_stands(run))
    watcher = Watcher(run, on_progress, cancel, ranks)
    trainer = _trainer(run, config, method, model, encoded, watcher, ranks)
    begun = time.monotonic()
    run_trainer(trainer, run, checkpoint, ranks)
    figures = curve_figures(run, time.monotonic() - begun) | {"held_bytes": watcher.held_bytes}
    if watcher.is_cancelled and trainer.state.global_step < trainer.state.max_steps:
        if ranks.is_first:
            run.stop()
        return Trained(model if config.parallel == "none" else None, method, parameters, True, figures)
    if config.parallel == "fsdp":
        model = whole_model(trainer.model, prepared, ranks, trainer.args.device)
    ranks.shared(lambda: save_whole(run, lambda folder: method.save(model, folder)))
    return Trained(model if ranks.is_first else None, method, parameters, False, figures)


def _where_it_stands(run: RunFolder) -> Checkpoint | None:
    """Return the last whole checkpoint; what came after it is dropped."""
    remove_unfinished(run.checkpoints_dir)
    checkpoint = newest(run.checkpoints_dir)
    run.metrics.drop_after(checkpoint.step if checkpoint else 0)
    return checkpoint


def encode(
    config: SftConfig, base: Base, rows: Sequence[TrainingRow], on_encoded: OnEncoded | None = None
) -> list[EncodedRow]:
    """Return the rows in the base's tokens; see `Encoder.encode_all`."""
    vocabulary = load_vocabulary(base, config.template)
    return Encoder(vocabulary, config.max_tokens, config.long_rows).encode_all(rows, on_encoded)


def memory_plan(
    config: SftConfig, base: Base, rows: Sequence[EncodedRow], ranks: Ranks | None = None
) -> tuple[ModelShape, TrainingPlan, Device]:
    """Return what decides the memory of a run: its base's shape, its plan by its longest rows, its device.

    Args:
        config: The run's settings.
        base: Its base.
        rows: What is trained on, at least one.
        ranks: The processes that share the work; those of one machine share its memory. None for one.

    Raises:
        TrainingError: The shape can't be read, or the settings name a method that does not exist.
    """
    ranks = ranks or Ranks()
    device = this_device(config.device)
    if device.kind == "cpu":
        device = dataclasses.replace(device, free_bytes=device.free_bytes // ranks.num_local)
    shape = read_shape(base.path)
    longest = sorted(rows, key=lambda row: len(row.tokens))[-config.micro_batch_size :]
    num_labels = len(longest) * (2 + max(row.num_completion for row in longest))
    plan = sft_plan(
        config,
        shape,
        device.kind,
        max_tokens=len(longest[-1].tokens),
        num_label_tokens=num_labels,
        num_processes=ranks.num_processes,
    )
    return shape, plan, device


def load_trained(run: RunFolder, config: SftConfig, base: Base) -> tuple[Any, Method]:
    """Return the model that a finished run trained, with the method's parts in it, and the method.

    Raises:
        TrainingError: The run has not been finished.
    """
    if not run.trained_dir.is_dir():
        raise TrainingError(
            f"The run {run.run_id} has not been finished.",
            f"Go on with it: localsmith train resume {run.run_id}",
        )
    method = method_of(config.method, config.method_options)
    return method.load(load_trainable(base, config.precision), run.trained_dir), method


def _trainer(
    run: RunFolder,
    config: SftConfig,
    method: Method,
    model: Any,
    encoded: Sequence[EncodedRow],
    watcher: Any,
    ranks: Ranks,
) -> Trainer:
    from .batches import Collator, RowDataset, completion_loss
    from .parallel.sharded_trainer import ShardedTrainer

    num_steps = config.max_steps or math.ceil(config.epochs * len(encoded) / config.batch_size)
    order = row_order(
        [len(row.tokens) for row in encoded],
        num_wanted=num_steps * config.batch_size,
        batch_size=config.batch_size,
        seed=config.seed,
    )
    trainer = ShardedTrainer(
        model=model,
        args=_arguments(run, config, method, num_steps, ranks),
        train_dataset=RowDataset(encoded, order),
        data_collator=Collator(pad_token=0),
        compute_loss_func=completion_loss,
        callbacks=[watcher],
    )
    return without_printing(trainer)


def _arguments(
    run: RunFolder, config: SftConfig, method: Method, num_steps: int, ranks: Ranks
) -> TrainingArguments:
    from transformers import TrainingArguments

    of_this_process = trainer_arguments(config, ranks, uses_gpu(config.device))
    return TrainingArguments(
        **shared_arguments(run, config, num_steps) | of_this_process,
        activation_checkpointing=config.is_checkpointed,
        learning_rate=config.learning_rate or method.learning_rate,
        include_num_input_tokens_seen="non_padding",
    )
