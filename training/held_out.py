"""How well a model does on rows that it was not trained on: its loss there, and its completions' words.

Place in the data's way: held-out rows -> base and trained model, each by the same two functions -> the
figures that the gate of `promote` reads.

Example:
    overlap_on(rows, EngineWriter(engine, max_tokens=128))["rouge_l"]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..evaluation.overlap import overlap_figures
from .data.rows import TrainingRow
from .encoding import EncodedRow
from .writers import OnWritten, Writer

_ROWS_AT_ONCE = 4


def loss_on(rows: Sequence[EncodedRow], model: Any, on_done: OnWritten | None = None) -> float:
    """Return the mean loss of the completions' tokens; its exponential is the perplexity.

    Args:
        rows: Rows in the model's tokens, at least one.
        model: A model of transformers, with the parts that a method added.
        on_done: Told how many rows are done, of how many.

    Raises:
        ValueError: There are no rows.
    """
    import torch

    from .batches import Collator, completion_loss

    if not rows:
        raise ValueError("There are no rows to compute a loss on.")
    collate = Collator(pad_token=0)
    device = next(model.parameters()).device
    ordered = sorted(rows, key=lambda row: len(row.tokens))
    total, num_tokens = 0.0, 0
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(ordered), _ROWS_AT_ONCE):
                part = ordered[start : start + _ROWS_AT_ONCE]
                batch = collate([{"input_ids": row.tokens, "num_prompt": row.num_prompt} for row in part])
                labels = batch.pop("labels").to(device)
                inputs = {k: v.to(device) if hasattr(v, "to") else v for k, v in batch.items()}
                total += float(completion_loss(model(**inputs), labels, num_items_in_batch=1))
                num_tokens += sum(row.num_completion for row in part)
                if on_done:
                    on_done(min(start + _ROWS_AT_ONCE, len(rows)), len(rows))
    finally:
        model.train(was_training)
    return total / num_tokens


def overlap_on(
    rows: Sequence[TrainingRow], writer: Writer, on_written: OnWritten | None = None
) -> dict[str, float]:
    """Return ROUGE and BLEU of a writer's completions; see `evaluation.overlap.overlap_figures`.

    Raises:
        ValueError: There are no rows.
    """
    texts = writer.write([row.prompt for row in rows], on_written)
    return overlap_figures(texts, [(row.completion, *row.reference) for row in rows])
