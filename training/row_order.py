"""In which order rows are seen: shuffled anew each epoch, rows of like length in one batch.

Place in the data's way: the whole run's order is made before its first step, from the seed alone, so that a
run that was killed in its third epoch sees the same rows as one that was not.

Example:
    >>> order = row_order([5, 9, 5, 9], num_wanted=4, batch_size=2, seed=7)
    >>> sorted(order), {order[0], order[1]} in ({0, 2}, {1, 3})
    ([0, 1, 2, 3], True)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

# Batches among which rows are sorted by length: enough for like lengths, few enough to stay shuffled.
_BATCHES_SORTED = 32


def row_order(lengths: Sequence[int], *, num_wanted: int, batch_size: int, seed: int) -> list[int]:
    """Return which row comes when.

    Args:
        lengths: Tokens of each row.
        num_wanted: Rows to be seen, over all epochs; each row is seen once before one is seen again, but for
            those that would not fill a batch, which come first in the next epoch.
        batch_size: Rows of an optimizer step.
        seed: Decides the order.

    Returns:
        `num_wanted` indices of rows.

    Raises:
        ValueError: There are no rows.
    """
    if not lengths:
        raise ValueError("There are no rows to put in order.")
    rng = np.random.default_rng(seed)
    order: list[int] = []
    waiting: list[int] = []
    while len(order) < num_wanted:
        rows = [*waiting, *(int(i) for i in rng.permutation(len(lengths)))]
        num_full = len(rows) // batch_size * batch_size
        waiting = rows[num_full:]
        for batch in _batches(rows[:num_full], lengths, batch_size, rng):
            order += batch
    return order[:num_wanted]


def _batches(
    rows: Sequence[int], lengths: Sequence[int], batch_size: int, rng: np.random.Generator
) -> Iterator[list[int]]:
    size = _BATCHES_SORTED * batch_size
    for start in range(0, len(rows), size):
        block = sorted(rows[start : start + size], key=lambda row: lengths[row])
        batches = [block[i : i + batch_size] for i in range(0, len(block), batch_size)]
        for number in rng.permutation(len(batches)):
            yield batches[int(number)]
