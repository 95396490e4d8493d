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

import errno
import math
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.errors import StorageError, TrainingError
from .bases import Base, load_trainable, load_vocabulary
from .config import SftConfig
from .data.rows import TrainingRow
from .encoding import EncodedRow, Encoder, OnEncoded
from .estimate.allocator import give_freed_memory_back
from .estimate.sft_plan import sft_plan
from .estimate.shape import read_shape
from .estimate.verdict import check_fits, this_cpu, this_gpu
from .methods.method import Method, ParameterCount, count_parameters
from .methods.registry import method_of
from .row_order import row_order
from .runs.checkpoints import Checkpoint, newest, remove_unfinished
from .runs.run_folder import RunFolder

if TYPE_CHECKING:
    from transformers import Trainer, TrainingArguments

    from .watcher import OnProgress

_CHECKPOINTS_IN_A_RUN = 10
_KEPT_CHECKPOINTS = 2


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run came to.

    Attributes:
        model: The trained model, with the method's parts in it.
        method: The method.
        parameters: How many were trained.
        is_stopped: Whether a person stopped it before its end; then nothing lies in `run.trained_dir`.
        figures: Loss of the last steps, tokens a second, seconds, peak memory.
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
    cancel: threading.Event | None = None,
) -> Trained:
    """Train, or go on training.

    Args:
        run: The run's folder, held by this process.
        config: Its settings.
        base: The model to start from.
        rows: What is to be learned.
        on_encoded: Told while rows are encoded.
        on_progress: Told after every optimizer step.
        cancel: Set to stop after the step at hand; the run can be resumed. None for never.

    Raises:
        DatasetError: A row can't be used.
        TrainingError: There is not enough memory, the method does not fit the base, or the loss is no number
            any more.
        StorageError: The disk is full; the last whole checkpoint is kept.
    """
    from .watcher import Watcher

    give_freed_memory_back()
    method = method_of(config.method, config.method_options)
    encoded = encode(config, base, rows, on_encoded)
    _check_memory(config, base, encoded)
    _seed(config.seed)
    model = method.prepare(load_trainable(base, config.precision))
    parameters = count_parameters(model)
    remove_unfinished(run.checkpoints_dir)
    checkpoint = newest(run.checkpoints_dir)
    run.metrics.drop_after(checkpoint.step if checkpoint else 0)
    watcher = Watcher(run, on_progress, cancel)
    trainer = _trainer(run, config, method, model, encoded, watcher)
    begun = time.monotonic()
    _run_trainer(trainer, run, checkpoint)
    figures = _figures(run, time.monotonic() - begun)
    if watcher.is_cancelled and trainer.state.global_step < trainer.state.max_steps:
        run.stop()
        return Trained(model, method, parameters, True, figures)
    _save(run, method, model)
    return Trained(model, method, parameters, False, figures)


def encode(
    config: SftConfig, base: Base, rows: Sequence[TrainingRow], on_encoded: OnEncoded | None = None
) -> list[EncodedRow]:
    """Return the rows in the base's tokens; see `Encoder.encode_all`."""
    vocabulary = load_vocabulary(base, config.template)
    return Encoder(vocabulary, config.max_tokens, config.long_rows).encode_all(rows, on_encoded)


def _check_memory(config: SftConfig, base: Base, rows: Sequence[EncodedRow]) -> None:
    """Refuse a run that would not fit, and say what would; see `check_fits`."""
    is_on_gpu = _is_on_gpu(config)
    shape = read_shape(base.path)
    longest = sorted(rows, key=lambda row: len(row.tokens))[-config.micro_batch_size :]
    num_labels = len(longest) * (2 + max(row.num_completion for row in longest))
    plan = sft_plan(
        config,
        shape,
        "cuda" if is_on_gpu else "cpu",
        max_tokens=len(longest[-1].tokens),
        num_label_tokens=num_labels,
    )
    check_fits(shape, plan, this_gpu() if is_on_gpu else this_cpu())


def _is_on_gpu(config: SftConfig) -> bool:
    import torch

    return config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())


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
) -> Trainer:
    from transformers import PrinterCallback, ProgressCallback, Trainer

    from .batches import Collator, RowDataset, completion_loss

    num_steps = config.max_steps or math.ceil(config.epochs * len(encoded) / config.batch_size)
    order = row_order(
        [len(row.tokens) for row in encoded],
        num_wanted=num_steps * config.batch_size,
        batch_size=config.batch_size,
        seed=config.seed,
    )
    trainer = Trainer(
        model=model,
        args=_arguments(run, config, method, num_steps),
        train_dataset=RowDataset(encoded, order),
        data_collator=Collator(pad_token=0),
        compute_loss_func=completion_loss,
        callbacks=[watcher],
    )
    for printing in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printing)
    return trainer


def _arguments(run: RunFolder, config: SftConfig, method: Method, num_steps: int) -> TrainingArguments:
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(run.checkpoints_dir),
        max_steps=num_steps,
        per_device_train_batch_size=config.micro_batch_size,
        gradient_accumulation_steps=config.batch_size // config.micro_batch_size,
        activation_checkpointing=config.is_checkpointed,
        learning_rate=config.learning_rate or method.learning_rate,
        lr_scheduler_type=config.schedule if config.schedule != "constant" else "constant_with_warmup",
        warmup_steps=math.ceil(config.warmup_share * num_steps),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        bf16=config.precision == "bf16",
        fp16=config.precision == "fp16",
        use_cpu=config.device == "cpu",
        train_sampling_strategy="sequential",  # `row_order` has put them in order, for a resume as well
        include_num_input_tokens_seen="non_padding",
        logging_steps=1,
        logging_first_step=True,
        logging_nan_inf_filter=False,  # the watcher is to see them
        save_steps=config.save_every or max(1, num_steps // _CHECKPOINTS_IN_A_RUN),
        save_total_limit=_KEPT_CHECKPOINTS,
        remove_unused_columns=False,
        prediction_loss_only=True,
        dataloader_pin_memory=False,
        report_to="none",
        disable_tqdm=True,
        seed=config.seed,
    )


def _run_trainer(trainer: Trainer, run: RunFolder, checkpoint: Checkpoint | None) -> None:
    from safetensors import SafetensorError

    try:
        trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
    except SafetensorError as exc:
        raise _full_disk(run) from exc
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageError(f"{run.path} can't be written: {exc}.") from exc
        raise _full_disk(run) from exc
    except RuntimeError as exc:  # torch's own writer and allocator
        if "out of memory" in str(exc) or "can't allocate memory" in str(exc):
            raise TrainingError(
                f"There is not enough memory: {exc}",
                hint="Lower micro_batch_size, compute activations again (--checkpointing), or choose lora.",
            ) from exc
        if "write" in str(exc) or "No space left" in str(exc):
            raise _full_disk(run) from exc
        raise
    finally:
        remove_unfinished(run.checkpoints_dir)


def _full_disk(run: RunFolder) -> StorageError:
    kept = newest(run.checkpoints_dir)
    where = f"the checkpoint of step {kept.step} is kept" if kept else "no checkpoint had been written"
    return StorageError(
        f"The disk takes no more: the run {run.run_id} can't go on; {where}.",
        hint=f"Free some space, then: localsmith train resume {run.run_id}",
    )


def _save(run: RunFolder, method: Method, model: Any) -> None:
    """Keep what was trained, wholly or not at all."""
    unfinished = run.path / "trained.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        method.save(model, unfinished)
        unfinished.replace(run.trained_dir)
    except OSError as exc:
        raise StorageError(
            f"{run.trained_dir} can't be written: {exc.strerror}.", "Free some space."
        ) from exc


def _figures(run: RunFolder, seconds: float) -> dict[str, float]:
    losses = [loss for _, loss in run.metrics.series("loss")]
    speeds = [speed for _, speed in run.metrics.series("tokens_per_s")]
    tail = losses[-max(1, len(losses) // 10) :]
    return {
        "first_loss": losses[0] if losses else 0.0,
        "last_loss": sum(tail) / len(tail) if tail else 0.0,
        "tokens_per_s": sorted(speeds)[len(speeds) // 2] if speeds else 0.0,
        "train_s": seconds,
    }


def _seed(seed: int) -> None:
    from transformers import set_seed

    set_seed(seed)
