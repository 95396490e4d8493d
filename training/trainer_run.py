"""What every run of transformers' `Trainer` shares: its arguments, its errors in our words, its figures.

Place in the data's way: a recipe (`sft`, `pretrain`) builds a `Trainer` with `shared_arguments` ->
`run_trainer` trains from the last whole checkpoint -> `save_whole` keeps the model, `curve_figures` says
how it went.

Example:
    arguments = TrainingArguments(**shared_arguments(run, config, num_steps), learning_rate=1e-3)
    run_trainer(Trainer(model=model, args=arguments, ...), run, newest(run.checkpoints_dir))
"""

from __future__ import annotations

import errno
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..core.errors import StorageError, TrainingError
from .parallel.ranks import Ranks, is_peer_lost
from .runs.checkpoints import Checkpoint, newest, remove_unfinished
from .runs.run_folder import RunFolder

if TYPE_CHECKING:
    from transformers import Trainer

_CHECKPOINTS_IN_A_RUN = 10
_KEPT_CHECKPOINTS = 2
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class OptimizerConfig(Protocol):
    """What a run's settings say about its optimizer steps, whatever is learned."""

    @property
    def batch_size(self) -> int:
        """Rows of an optimizer step."""

    @property
    def micro_batch_size(self) -> int:
        """Rows that are computed at once."""

    @property
    def schedule(self) -> str:
        """How the learning rate falls: "cosine", "linear" or "constant"."""

    @property
    def warmup_share(self) -> float:
        """Share of the steps in which it rises, 0 to 1."""

    @property
    def weight_decay(self) -> float:
        """Of AdamW."""

    @property
    def max_grad_norm(self) -> float:
        """Gradients are clipped to this norm; 0 for not at all."""

    @property
    def precision(self) -> str:
        """In which is computed: "fp32", "bf16" or "fp16"."""

    @property
    def device(self) -> str:
        """Where it is trained."""

    @property
    def save_every(self) -> int:
        """Optimizer steps between checkpoints; 0 for about ten in a run."""

    @property
    def seed(self) -> int:
        """Of all that is drawn."""


def shared_arguments(run: RunFolder, config: OptimizerConfig, num_steps: int) -> dict[str, Any]:
    """Return the arguments of `TrainingArguments` that do not hang on what is learned.

    Args:
        run: The run; its checkpoints go into its folder.
        config: Its settings.
        num_steps: Optimizer steps in all.
    """
    return {
        "output_dir": str(run.checkpoints_dir),
        "max_steps": num_steps,
        "per_device_train_batch_size": config.micro_batch_size,
        "gradient_accumulation_steps": config.batch_size // config.micro_batch_size,
        "lr_scheduler_type": config.schedule if config.schedule != "constant" else "constant_with_warmup",
        "warmup_steps": math.ceil(config.warmup_share * num_steps),
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "bf16": config.precision == "bf16",
        "fp16": config.precision == "fp16",
        "use_cpu": config.device == "cpu",
        "train_sampling_strategy": "sequential",  # the order is made beforehand, for a resume as well
        "logging_steps": 1,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # the watcher is to see them
        "save_steps": config.save_every or max(1, num_steps // _CHECKPOINTS_IN_A_RUN),
        "save_total_limit": _KEPT_CHECKPOINTS,
        "remove_unused_columns": False,
        "prediction_loss_only": True,
        "dataloader_pin_memory": False,
        "report_to": "none",
        "disable_tqdm": True,
        "seed": config.seed,
    }


def run_trainer(
    trainer: Trainer, run: RunFolder, checkpoint: Checkpoint | None, ranks: Ranks | None = None
) -> None:
    """Train to the end, from a checkpoint where there is one.

    Args:
        trainer: The trainer, with its callbacks.
        run: The run, held by this process or by the first of several.
        checkpoint: The last whole checkpoint; None to begin.
        ranks: The processes that train together; None for this one alone.

    Raises:
        TrainingError: There is not enough memory, the loss is no number any more, or another process is gone.
        StorageError: The disk is full or broken; the last whole checkpoint is kept.
    """
    from safetensors import SafetensorError
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
    except SafetensorError as exc:
        raise _full_disk(run) from exc
    except CheckpointException as exc:  # of the writer of shards, with what failed in which process
        raise _failed_shards(run, exc) from exc
    except OSError as exc:
        if exc.errno not in _FULL:
            raise StorageError(f"{run.path} can't be written: {exc}.") from exc
        raise _full_disk(run) from exc
    except RuntimeError as exc:  # torch's own writer and allocator, and the connections between processes
        if is_peer_lost(exc):
            raise _lost_peer(run) from exc
        if "out of memory" in str(exc) or "can't allocate memory" in str(exc):
            raise TrainingError(
                f"There is not enough memory: {exc}",
                hint="Lower micro_batch_size, compute activations again (--checkpointing), or choose lora.",
            ) from exc
        if "write" in str(exc) or "No space left" in str(exc):
            raise _full_disk(run) from exc
        raise
    finally:
        if ranks is None or ranks.is_first:
            remove_unfinished(run.checkpoints_dir)


def without_printing(trainer: Trainer) -> Trainer:
    """Return the trainer without the callbacks that print and draw bars of their own."""
    from transformers import PrinterCallback, ProgressCallback

    for printing in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printing)
    return trainer


def save_whole(run: RunFolder, save: Callable[[Path], object]) -> None:
    """Keep what was trained in `run.trained_dir`, wholly or not at all.

    Args:
        run: The run.
        save: Writes the trained model into the folder that it is given.

    Raises:
        StorageError: The disk is full or broken.
    """
    from safetensors import SafetensorError

    unfinished = run.path / "trained.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        save(unfinished)
        # What a kill left between saving and finishing: it is made anew, and can't be replaced in one step.
        shutil.rmtree(run.trained_dir, ignore_errors=True)
        unfinished.replace(run.trained_dir)
    except SafetensorError as exc:
        raise StorageError(f"{run.trained_dir} can't be written: {exc}.", "Free some space.") from exc
    except OSError as exc:
        raise StorageError(
            f"{run.trained_dir} can't be written: {exc.strerror}.", "Free some space."
        ) from exc


def curve_figures(run: RunFolder, seconds: float) -> dict[str, float]:
    """Return loss at the first and over the last tenth of the steps, median speed, and the seconds given."""
    losses = [loss for _, loss in run.metrics.series("loss")]
    speeds = [speed for _, speed in run.metrics.series("tokens_per_s")]
    tail = losses[-max(1, len(losses) // 10) :]
    return {
        "first_loss": losses[0] if losses else 0.0,
        "last_loss": sum(tail) / len(tail) if tail else 0.0,
        "tokens_per_s": sorted(speeds)[len(speeds) // 2] if speeds else 0.0,
        "train_s": seconds,
    }


def seed_all(seed: int) -> None:
    """Seed Python, numpy and torch."""
    from transformers import set_seed

    set_seed(seed)


def _failed_shards(run: RunFolder, exc: Any) -> TrainingError | StorageError:
    causes = [cause for cause, _ in exc.failures.values()]
    if any(is_peer_lost(cause) for cause in causes):
        return _lost_peer(run)
    if any(getattr(cause, "errno", None) in _FULL or "write" in str(cause) for cause in causes):
        return _full_disk(run)
    said = "; ".join(f"{type(cause).__name__}: {cause}" for cause in causes)
    return StorageError(f"A checkpoint of the run {run.run_id} can't be written or read: {said}")


def _lost_peer(run: RunFolder) -> TrainingError:
    return TrainingError(
        "Another process of this run has ended, so it can't go on; the last whole checkpoint is kept.",
        hint=f"See what ended it (its output, the kernel's log), then: localsmith train resume {run.run_id}",
    )


def _full_disk(run: RunFolder) -> StorageError:
    kept = newest(run.checkpoints_dir)
    where = f"the checkpoint of step {kept.step} is kept" if kept else "no checkpoint had been written"
    return StorageError(
        f"The disk takes no more: the run {run.run_id} can't go on; {where}.",
        hint=f"Free some space, then: localsmith train resume {run.run_id}",
    )
