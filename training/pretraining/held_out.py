"""How well a model does on text that was held out, under its own objective.

Place in the data's way: held-out blocks -> `held_out_loss` before and after training, with the same noise ->
a run's figures.

Example:
    math.exp(held_out_loss(model, objective, blocks, seed=7))  # perplexity
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..objectives.objective import Objective

_BLOCKS_AT_ONCE = 16
# Blocks that are read at most: enough for a figure, few enough to be no stage of its own.
MAX_BLOCKS = 256


def held_out_loss(
    model: Any,
    objective: Objective,
    blocks: npt.NDArray[np.int32],
    seed: int,
    on_done: Callable[[int, int], None] | None = None,
) -> float:
    """Return the mean loss of a token that is to be said, in nats; its exponential is the perplexity.

    Of masked tokens and spans it is that of the hidden tokens alone, so the figures of two objectives can't
    be compared.

    Args:
        model: Of transformers.
        objective: What is asked of it.
        blocks: `(n_blocks, n_tokens)` int32; of more than `MAX_BLOCKS` the first.
        seed: Of the noise.
        on_done: Told how many blocks are done, of how many.
    """
    import torch

    from ..batches import IGNORED
    from ..objectives.collator import ObjectiveCollator, token_loss

    blocks = blocks[:MAX_BLOCKS]
    collate = ObjectiveCollator(objective, seed)
    device = next(model.parameters()).device
    total, num_tokens = 0.0, 0
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(blocks), _BLOCKS_AT_ONCE):
                part = blocks[start : start + _BLOCKS_AT_ONCE].tolist()
                batch = collate([{"block": block, "place": start + i} for i, block in enumerate(part)])
                inputs = {name: tensor.to(device) for name, tensor in batch.items()}
                labels = inputs.pop("labels")
                total += float(token_loss(model(**inputs), labels, num_items_in_batch=1))
                num_tokens += int((labels != IGNORED).sum())
                if on_done:
                    on_done(min(start + _BLOCKS_AT_ONCE, len(blocks)), len(blocks))
    finally:
        model.train(was_training)
    return total / num_tokens
