"""Blocks to batches under an objective, and the loss on them.

Place in the data's way: `BlockDataset` hands transformers' `Trainer` blocks in the run's order ->
`ObjectiveCollator` makes examples of them, each with noise of its own place in the run -> `token_loss`.
Imported only by a trainer that runs: it needs torch.

Example:
    batch = ObjectiveCollator(objective, seed=7)([dataset[0], dataset[1]])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from ..batches import IGNORED, completion_loss
from .objective import Objective


class BlockDataset(Dataset[dict[str, Any]]):
    """Blocks in the order in which they are to be seen.

    Args:
        blocks: `(n_blocks, n_tokens)` int32.
        order: Indices of blocks, for the whole run.
    """

    def __init__(self, blocks: npt.NDArray[np.int32], order: Sequence[int]) -> None:
        self._blocks = blocks
        self._order = order

    def __len__(self) -> int:
        """Return how many blocks are to be seen."""
        return len(self._order)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return the block at a place of the order, and the place, from which its noise is drawn."""
        return {"block": self._blocks[self._order[index]].tolist(), "place": index}


class ObjectiveCollator:
    """Makes a batch of blocks of one length.

    Args:
        objective: What is learned.
        seed: Of the run; with a block's place it decides the block's noise, whatever was drawn before.
    """

    def __init__(self, objective: Objective, seed: int) -> None:
        self._objective = objective
        self._seed = seed

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return a batch.

        Returns:
            `input_ids` (rows, tokens) int64, for an encoder-decoder `decoder_input_ids` (rows, labels) int64,
            and `labels` (rows, 1 + labels) int64. The first column of `labels` is ignored: `Trainer` does not
            count it. The others stand for the places of the model's output.
        """
        examples = [
            self._objective.example(row["block"], noise_seed(self._seed, row["place"])) for row in rows
        ]
        batch = {
            "input_ids": torch.tensor([list(example.input_ids) for example in examples]),
            "labels": torch.tensor([[IGNORED, *example.labels] for example in examples]),
        }
        if examples[0].decoder_input_ids is not None:
            written = [list(example.decoder_input_ids or ()) for example in examples]
            batch["decoder_input_ids"] = torch.tensor(written)
        return batch


def noise_seed(seed: int, place: int) -> int:
    """Return the seed of one block's noise, 0 to 2**63 - 1, by the run's seed and the block's place in it."""
    state = np.random.SeedSequence((seed, place)).generate_state(1, np.uint64)
    return int(state[0]) >> 1


def token_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """Return the mean cross entropy of the tokens with a label, in float32; see `completion_loss`.

    Args:
        outputs: The model's, with logits (rows, labels, vocabulary).
        labels: (rows, 1 + labels) int64, as `ObjectiveCollator` makes them.
        num_items_in_batch: Tokens with a label in all the batches of an optimizer step; None for this batch.
    """
    return completion_loss(outputs, labels[:, 1:], num_items_in_batch)
