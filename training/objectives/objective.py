"""The seam of pre-training: an objective makes of a block of tokens what a model reads and what it is to say.

Place in the data's way: a block of tokens -> `Objective.example` -> `ObjectiveCollator` makes batches of
examples. What an objective draws hangs on the block and the seed alone, so that a run that was killed sees
the same noise again.

Example:
    example = CausalObjective().example([5, 6, 7], seed=7)
    example.labels  # [6, 7, -100]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

ObjectiveName: TypeAlias = Literal["causal", "masked", "denoising", "span-corruption"]


@dataclass(frozen=True, slots=True)
class Example:
    """A block as a model learns from it.

    Attributes:
        input_ids: What the model reads; an encoder-decoder's encoder.
        labels: What it is to say at each place of its output, `batches.IGNORED` where nothing is learned.
        decoder_input_ids: What an encoder-decoder's decoder reads, as long as `labels`; else None.
    """

    input_ids: Sequence[int]
    labels: Sequence[int]
    decoder_input_ids: Sequence[int] | None = None


class Objective(Protocol):
    """What is learned from plain text."""

    @property
    def name(self) -> ObjectiveName:
        """Its name, as people type it."""

    def example(self, block: Sequence[int], seed: int) -> Example:
        """Return what is learned from a block; blocks of one length give examples of one length.

        Args:
            block: Tokens of a text.
            seed: Decides all that is drawn, 0 to 2**63 - 1.

        Raises:
            ValueError: Nothing can be learned from this block.
        """
        ...
