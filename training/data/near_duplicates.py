"""Finds the rows that say nearly the same, among any number, without comparing every pair.

Place in the data's way: rows -> MinHash signatures in an LSH index -> candidates -> those whose exact Jaccard
similarity reaches the threshold. The filter drops what it finds, the split keeps it on one side, and the
contamination check reports it.

Source: Broder 1997 (MinHash); Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", 3.4 (banding). With
21 bands of 6 a pair at 0.8 is missed with probability (1 - 0.8^6)^21 = 0.0017, one at 0.9 with 1.2e-7.

Example:
    index = NearDuplicates()
    for row in rows:
        if not any(index.matches(row)):
            index.add(row)
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .rows import TrainingRow
from .shingles import jaccard, row_shingles

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

THRESHOLD = 0.8
_BANDS, _ROWS_PER_BAND = 21, 6
_NUM_HASHES = _BANDS * _ROWS_PER_BAND
# Four standard deviations of the estimate at 0.8: sqrt(0.8 * 0.2 / 126) = 0.036. Below it, words are not
# compared.
_ESTIMATE_SLACK = 0.15
_SEED = 1


@dataclass(frozen=True, slots=True)
class Match:
    """A row that was added before and is nearly the same.

    Attributes:
        place: Its place in the order of adding, from 0.
        row: The row.
        jaccard: Exact Jaccard similarity of both rows' word 5-grams.
    """

    place: int
    row: TrainingRow
    jaccard: float


class NearDuplicates:
    """Rows that can be asked for those nearly the same as another.

    Takes about 8 KB a row beside the row itself, most of it in the bands' tables: 8 GB for a million rows.
    """

    def __init__(self, threshold: float = THRESHOLD) -> None:
        """Start empty.

        Args:
            threshold: Least Jaccard similarity of a near-duplicate, from 0.7: the bands miss many below.

        Raises:
            ValueError: `threshold` is not from 0.7 to 1.
        """
        if not 0.7 <= threshold <= 1.0:
            raise ValueError(f"threshold must be from 0.7 to 1, not {threshold!r}")
        from datasketch import MinHash, MinHashLSH  # type: ignore[import-untyped]

        self._threshold = threshold
        self._empty: Any = MinHash(_NUM_HASHES, seed=_SEED, hashfunc=_hash)
        self._index: Any = MinHashLSH(num_perm=_NUM_HASHES, params=(_BANDS, _ROWS_PER_BAND))
        self._rows: list[TrainingRow] = []
        self._signatures: list[npt.NDArray[np.uint32]] = []
        self._last: tuple[TrainingRow, frozenset[str], Any] | None = None

    def __len__(self) -> int:
        """Return how many rows were added."""
        return len(self._rows)

    def add(self, row: TrainingRow) -> None:
        """Keep a row for later questions."""
        _, signature = self._signed(row)
        self._index.insert(len(self._rows), signature, check_duplication=False)
        self._rows.append(row)
        self._signatures.append(signature.hashvalues)

    def matches(
        self, row: TrainingRow, is_wanted: Callable[[int], bool] = lambda place: True
    ) -> Iterator[Match]:
        """Yield the rows added so far that are nearly the same, in the order of adding.

        Args:
            row: The row to ask for; it need not have been added.
            is_wanted: Asked with a place before the row there is compared; spares comparing thousands of rows
                alike once one of them was found.
        """
        own, signature = self._signed(row)
        for place in sorted(self._index.query(signature)):
            if not is_wanted(place):
                continue
            estimate = float((self._signatures[place] == signature.hashvalues).mean())
            if estimate >= self._threshold - _ESTIMATE_SLACK:
                exact = jaccard(own, row_shingles(self._rows[place]))
                if exact >= self._threshold:
                    yield Match(place, self._rows[place], exact)

    def _signed(self, row: TrainingRow) -> tuple[frozenset[str], Any]:
        """Return shingles and signature; those of the last row are kept, since `add` follows `matches`."""
        if self._last is None or self._last[0] is not row:
            own = row_shingles(row)
            signature = self._empty.copy()
            signature.update_batch(sorted(own))
            self._last = (row, own, signature)
        return self._last[1], self._last[2]


def _hash(shingle: str) -> int:
    return zlib.crc32(shingle.encode("utf-8"))
