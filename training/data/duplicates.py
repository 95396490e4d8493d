"""Drops rows that say the same again.

Place in the data's way: two stages of the quality filter. The first row of each kind stays; rows of one
group, forms of one record, are not duplicates of each other.

Example:
    kept, reports = filtered(rows, [ExactDuplicateRule(), NearDuplicateRule()])
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .filter import Judgement
from .near_duplicates import THRESHOLD, NearDuplicates
from .rows import TrainingRow


class ExactDuplicateRule:
    """Drops a row whose task and messages occurred before."""

    name = "exact duplicates"

    def judge(self, rows: Iterable[TrainingRow]) -> Iterator[Judgement]:
        """Judge each row by those before it."""
        seen: set[str] = set()
        for row in rows:
            yield Judgement(None, "said before in the same words") if row.id in seen else Judgement(row)
            seen.add(row.id)


class NearDuplicateRule:
    """Drops a row nearly the same as one that was kept."""

    name = "near-duplicates"

    def __init__(self, threshold: float = THRESHOLD) -> None:
        """Keep the threshold.

        Args:
            threshold: Least Jaccard similarity of a near-duplicate, 0.7 to 1.

        Raises:
            ValueError: `threshold` is out of this range.
        """
        NearDuplicates(threshold)
        self._threshold = threshold

    def judge(self, rows: Iterable[TrainingRow]) -> Iterator[Judgement]:
        """Judge each row by those kept before it."""
        kept = NearDuplicates(self._threshold)
        for row in rows:
            if any(not row.group or match.row.group != row.group for match in kept.matches(row)):
                yield Judgement(None, f"at least {self._threshold * 100:.0f} % the same as a row before it")
            else:
                kept.add(row)
                yield Judgement(row)
