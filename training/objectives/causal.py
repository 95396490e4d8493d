"""Next-token prediction: at each place the token that follows, with what stands before it in sight.

Place in the data's way: a block -> its own tokens, one place on, as labels -> a decoder.

Source: Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training", section 3.1,
equation 1.

Example:
    >>> CausalObjective().example([5, 6, 7], seed=7).labels
    [6, 7, -100]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ..batches import IGNORED
from .objective import Example, ObjectiveName


class CausalObjective:
    """Learns the token after each token; nothing is drawn."""

    name: ClassVar[ObjectiveName] = "causal"

    def example(self, block: Sequence[int], seed: int) -> Example:
        """Return the block, labelled with the tokens that follow; see `Objective.example`."""
        if len(block) < 2:
            raise ValueError(f"A block needs at least 2 tokens to have a next one, not {len(block)}.")
        return Example(list(block), [*block[1:], IGNORED])
