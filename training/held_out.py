"""How well a model does on rows that it was not trained on: its loss there, and its completions' words.

Place in the data's way: held-out rows -> base and trained model, each by the same two functions -> the
figures that the gate of `promote` reads.

Example:
    overlap_on(rows, EngineWriter(engine, max_tokens=128))["rouge_l"]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..evaluation.overlap import overlap_figures, rouge
from .data.rows import TrainingRow
from .encoding import EncodedRow
from .writers import OnWritten, Writer

_ROWS_AT_ONCE = 4


def losses_on(rows: Sequence[EncodedRow], model: Any, on_done: OnWritten | None = None) -> list[float]:
    """Return the summed loss of each row's completion, in the rows' order.

    Their sum over all completions' tokens is the mean loss; the exponential of that is the perplexity.

    Args:
        rows: Rows in the model's tokens.
        model: A model of transformers, with the parts that a method added.
        on_done: Told how many rows are done, of how many.
    """
    import torch

    from .batches import IGNORED, Collator

    collate = Collator(pad_token=0)
    device = next(model.parameters()).device
    by_length = sorted(range(len(rows)), key=lambda place: len(rows[place].tokens))
    losses = [0.0] * len(rows)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                places = by_length[start : start + _ROWS_AT_ONCE]
                part = [rows[place] for place in places]
                batch = collate([{"input_ids": row.tokens, "num_prompt": row.num_prompt} for row in part])
                labels = batch.pop("labels").to(device)  # (rows, kept)
                inputs = {k: v.to(device) if hasattr(v, "to") else v for k, v in batch.items()}
                logits = model(**inputs).logits.float()  # (rows, kept, vocabulary)
                each = torch.nn.functional.cross_entropy(
                    logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
                )
                for place, loss in zip(places, each.view_as(labels).sum(dim=1).tolist(), strict=True):
                    losses[place] = loss
                if on_done:
                    on_done(min(start + _ROWS_AT_ONCE, len(rows)), len(rows))
    finally:
        model.train(was_training)
    return losses


def overlap_on(
    rows: Sequence[TrainingRow], writer: Writer, on_written: OnWritten | None = None
) -> dict[str, float]:
    """Return ROUGE and BLEU of a writer's completions; see `evaluation.overlap.overlap_figures`.

    Raises:
        ValueError: There are no rows.
    """
    texts = writer.write([row.prompt for row in rows], on_written)
    return overlap_figures(texts, [(row.completion, *row.reference) for row in rows])


def rouge_l_of_rows(rows: Sequence[TrainingRow], texts: Sequence[str]) -> list[float]:
    """Return the ROUGE-L of each row's text in points, as `overlap_on` has its mean.

    Raises:
        ValueError: There is not one text a row.
    """
    pairs = zip(rows, texts, strict=True)
    return [100 * rouge(text, (row.completion, *row.reference)).rouge_l for row, text in pairs]
