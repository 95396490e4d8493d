"""Parts rows into those to train on and those held out, so that no held-out row was nearly trained on.

Place in the data's way: filtered rows -> clusters of rows that belong together -> a cluster as a whole on one
side. A row alone decides by its hash; a cluster is held out only if all its rows would be. So whatever rows
are added later, wherever they stand, a row once trained on is never held out after that; a held-out row goes
to the training side only when a row near it is there.

Example:
    parts = split(rows, held_out_share=0.1, seed=7)
    len(parts.train), len(parts.held_out)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from .filter import OnRows
from .near_duplicates import THRESHOLD, NearDuplicates
from .rows import TrainingRow, content_hash
from .shingles import words

_HASH_VALUES = 1 << 64
_ROWS_BETWEEN_CALLS = 100


@dataclass(frozen=True, slots=True)
class Split:
    """Rows on two sides, each in the order given.

    Attributes:
        train: Rows to learn from.
        held_out: Rows to measure with.
        num_clusters: Sets of rows that belong together, rows that stand alone included.
        largest_cluster: Rows in the largest.
    """

    train: tuple[TrainingRow, ...]
    held_out: tuple[TrainingRow, ...]
    num_clusters: int
    largest_cluster: int


def split(
    rows: Sequence[TrainingRow],
    *,
    held_out_share: float,
    seed: int,
    threshold: float = THRESHOLD,
    on_rows: OnRows | None = None,
) -> Split:
    """Part the rows; where many are alike, fewer than the share are held out.

    Args:
        rows: All rows.
        held_out_share: Chance of a row that stands alone to be held out, from 0, below 1.
        seed: Seed of the rows' hashes.
        threshold: Jaccard similarity from which two rows belong together.
        on_rows: Told how far it is.

    Raises:
        ValueError: The share or the threshold is out of range.
    """
    if not 0 <= held_out_share < 1:
        raise ValueError(f"held_out_share must be from 0 and below 1, not {held_out_share!r}")
    roots = clusters(rows, threshold, on_rows)
    sizes: dict[int, int] = {}
    trained: set[int] = set()
    for root, row in zip(roots, rows, strict=True):
        sizes[root] = sizes.get(root, 0) + 1
        if not _is_drawn(row, held_out_share, seed):
            trained.add(root)
    return Split(
        train=tuple(row for root, row in zip(roots, rows, strict=True) if root in trained),
        held_out=tuple(row for root, row in zip(roots, rows, strict=True) if root not in trained),
        num_clusters=len(sizes),
        largest_cluster=max(sizes.values(), default=0),
    )


def clusters(
    rows: Sequence[TrainingRow], threshold: float = THRESHOLD, on_rows: OnRows | None = None
) -> list[int]:
    """Return for each row the place of the first row that it belongs together with, over any number of links.

    Two rows are linked that are of one group, ask the same word by word, or are near-duplicates.
    """
    first = list(range(len(rows)))
    index = NearDuplicates(threshold)
    places: dict[str, int] = {}
    for place, row in enumerate(rows):
        for key in (prompt_key(row), *([f"group {row.group}"] if row.group else [])):
            _join(first, place, places.setdefault(key, place))
        for match in index.matches(row, partial(_are_apart, first, place)):
            _join(first, place, match.place)
        index.add(row)
        if on_rows and ((place + 1) % _ROWS_BETWEEN_CALLS == 0 or place + 1 == len(rows)):
            on_rows(place + 1, len(rows), "split")
    return [_root(first, place) for place in range(len(rows))]


def prompt_key(row: TrainingRow) -> str:
    """Return a hash of what the row asks, without case, punctuation and a template's words."""
    asked = row.own_prompt
    return content_hash(words(asked) or asked.strip())


def _is_drawn(row: TrainingRow, share: float, seed: int) -> bool:
    return int(content_hash([seed, row.group or row.id]), 16) < share * _HASH_VALUES


def _join(first: list[int], one: int, other: int) -> None:
    one, other = _root(first, one), _root(first, other)
    first[max(one, other)] = min(one, other)


def _are_apart(first: list[int], one: int, other: int) -> bool:
    return _root(first, one) != _root(first, other)


def _root(first: list[int], place: int) -> int:
    """Return the first place of a cluster, and shorten the way there for the next time."""
    while first[place] != place:
        first[place] = first[first[place]]
        place = first[place]
    return place
