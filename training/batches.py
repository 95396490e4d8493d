"""Encoded rows to the tensors of a training step.

Place in the data's way: transformers' `Trainer` takes rows from `RowDataset`, `Collator` pads them on the
left, so that completions end together and the logits of the last positions are all that a step computes.
Imported only by a trainer that runs: it needs torch.

Example:
    batch = Collator(pad_token=0)([dataset[0], dataset[1]])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from .encoding import EncodedRow

IGNORED = -100
"""The label of a token that is not learned; PyTorch's cross entropy leaves it out."""


class RowDataset(Dataset[dict[str, Any]]):
    """Encoded rows as torch wants them, in the order in which they are to be seen.

    Args:
        rows: The rows.
        order: Indices of rows, for the whole run.
    """

    def __init__(self, rows: Sequence[EncodedRow], order: Sequence[int]) -> None:
        self._rows = rows
        self._order = order

    def __len__(self) -> int:
        """Return how many rows are to be seen."""
        return len(self._order)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return the row at a place of the order: `input_ids`, and where its completion begins."""
        row = self._rows[self._order[index]]
        return {"input_ids": row.tokens, "num_prompt": row.num_prompt}


class Collator:
    """Pads rows to one length.

    Args:
        pad_token: Stands before shorter rows; attention does not see it.
    """

    def __init__(self, pad_token: int) -> None:
        self._pad_token = pad_token

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return a batch.

        Returns:
            `input_ids`, `attention_mask`, `position_ids` of shape (rows, tokens) int64; `labels` (rows, kept)
            int64, those of the last `kept` positions, where `logits_to_keep` = kept says so to the model. The
            label of a position is the token after it; the last position has none.
        """
        # One position more than there are labels: `Trainer` does not count the labels of the first column.
        num_kept = 2 + max(len(row["input_ids"]) - row["num_prompt"] for row in rows)
        num_tokens = max(num_kept, *(len(row["input_ids"]) for row in rows))
        input_ids = torch.full((len(rows), num_tokens), self._pad_token, dtype=torch.long)
        attention_mask = torch.zeros_like(input_ids)
        labels = torch.full((len(rows), num_kept), IGNORED, dtype=torch.long)
        for i, row in enumerate(rows):
            tokens = torch.tensor(row["input_ids"], dtype=torch.long)
            completion = tokens[row["num_prompt"] :]
            input_ids[i, -len(tokens) :] = tokens
            attention_mask[i, -len(tokens) :] = 1
            labels[i, num_kept - 1 - len(completion) : num_kept - 1] = completion
        position_ids = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "position_ids": position_ids,
            "labels": labels,
            "logits_to_keep": num_kept,
        }


def completion_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """Return the mean cross entropy of the completions' tokens, in float32.

    Args:
        outputs: The model's, with logits (rows, kept, vocabulary).
        labels: (rows, kept) int64, already shifted.
        num_items_in_batch: Tokens with a label in all the batches of an optimizer step, so that accumulation
            gives the loss of one large batch; None for those of this batch.
    """
    num_labels = (labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
    total = torch.nn.functional.cross_entropy(
        outputs.logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / num_labels
