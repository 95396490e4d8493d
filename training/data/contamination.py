"""Finds what a test file and the training data have in common, which makes its figures too good.

Place in the data's way: a held-out or test file, and the rows trained on -> each row that is given away. A
split of one data set has none; two files from different places may.

Example:
    for overlap in contamination(test_rows, version.train_rows()):
        overlap.held_out.source, overlap.train.source, overlap.jaccard
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .near_duplicates import THRESHOLD, NearDuplicates
from .rows import TrainingRow
from .shingles import jaccard, row_shingles
from .split import prompt_key


@dataclass(frozen=True, slots=True)
class Overlap:
    """A held-out row that is nearly in the training data.

    Attributes:
        held_out: The held-out row.
        train: The training row.
        jaccard: Exact Jaccard similarity of their word 5-grams, 0 to 1.
        is_same_prompt: Whether both ask the same, word by word.
    """

    held_out: TrainingRow
    train: TrainingRow
    jaccard: float
    is_same_prompt: bool


def contamination(
    held_out: Sequence[TrainingRow], train: Sequence[TrainingRow], threshold: float = THRESHOLD
) -> list[Overlap]:
    """Return the held-out rows that the training data give away, each with the training row nearest to it.

    Args:
        held_out: For example the rows of a test file.
        train: Rows that were or will be trained on.
        threshold: Jaccard similarity from which a row gives another away; the same prompt always does.
    """
    index = NearDuplicates(threshold)
    by_prompt: dict[str, TrainingRow] = {}
    for row in train:
        index.add(row)
        by_prompt.setdefault(prompt_key(row), row)
    found = []
    for row in held_out:
        nearest = max(index.matches(row), key=lambda match: match.jaccard, default=None)
        same = by_prompt.get(prompt_key(row))
        if nearest:
            is_same = prompt_key(nearest.row) == prompt_key(row)
            found.append(Overlap(row, nearest.row, nearest.jaccard, is_same))
        elif same:
            found.append(
                Overlap(row, same, jaccard(row_shingles(row), row_shingles(same)), is_same_prompt=True)
            )
    return found
