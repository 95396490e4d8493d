"""The few steps in which a pre-trained model learns its use: rows, a collator, transformers' `Trainer`.

Place in the data's way: `classification`, `span_tagging` and `summarization` make rows -> `fit` -> the
model is ready to be asked. A use takes seconds to minutes, so nothing of it is kept on disk.

Example:
    losses = fit(model, rows, collate, FitSettings(num_steps=200))
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ...core.errors import DatasetError, TrainingError
from ..pretrain import Pretrained
from ..pretraining.config import Architecture
from ..row_order import row_order

OnStep: TypeAlias = Callable[[int, int, float], None]
"""Called with (steps done, steps in all, loss of the step)."""
_WARMUP_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How a use is learned.

    Attributes:
        num_steps: Optimizer steps.
        batch_size: Rows of a step.
        learning_rate: Highest learning rate; it rises over the first tenth and falls to 0.
        seed: Of new weights and the order of rows.
    """

    num_steps: int = 200
    batch_size: int = 16
    learning_rate: float = 5e-4
    seed: int = 7


def fit(
    model: Any,
    rows: Sequence[dict[str, Any]],
    collate: Callable[[list[dict[str, Any]]], Any],
    settings: FitSettings,
    on_step: OnStep | None = None,
) -> list[float]:
    """Train every weight of a model on rows, and return the loss of each step.

    Args:
        model: Of transformers; it computes its own loss from `labels`. Trained in place.
        rows: With `input_ids` and labels.
        collate: Makes batches of them.
        settings: How.
        on_step: Told after every step.

    Raises:
        DatasetError: There are no rows.
        TrainingError: The loss is no number any more.
    """
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from ..trainer_run import without_printing

    if not rows:
        raise DatasetError("There is no row to learn from.", hint="Give at least one.")
    losses: list[float] = []

    class Listener(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if logs and "loss" in logs:
                loss = float(logs["loss"])
                if not math.isfinite(loss):
                    raise TrainingError(f"The loss of step {state.global_step} is {loss}.", "Lower the rate.")
                losses.append(loss)
                if on_step:
                    on_step(state.global_step, state.max_steps, loss)

    order = row_order(
        [len(row["input_ids"]) for row in rows],
        num_wanted=settings.num_steps * settings.batch_size,
        batch_size=min(settings.batch_size, len(rows)),
        seed=settings.seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=folder,
                max_steps=settings.num_steps,
                per_device_train_batch_size=settings.batch_size,
                learning_rate=settings.learning_rate,
                warmup_steps=math.ceil(_WARMUP_SHARE * settings.num_steps),
                train_sampling_strategy="sequential",
                use_cpu=not torch.cuda.is_available(),
                logging_steps=1,
                logging_nan_inf_filter=False,
                save_strategy="no",
                remove_unused_columns=False,
                dataloader_pin_memory=False,
                report_to="none",
                disable_tqdm=True,
                seed=settings.seed,
            ),
            train_dataset=[rows[i] for i in order],
            data_collator=collate,
            callbacks=[Listener()],
        )
        without_printing(trainer).train()
    model.eval()
    return losses


def require_architecture(pretrained: Pretrained, wanted: Architecture, use: str) -> None:
    """Refuse a model of another class.

    Raises:
        TrainingError: It is of another class.
    """
    if pretrained.architecture != wanted:
        raise TrainingError(
            f"{use} needs a model of the architecture {wanted}, not {pretrained.architecture}.",
            hint=f"Pre-train one: localsmith train pretrain --architecture {wanted}.",
        )
