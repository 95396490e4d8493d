"""How sure a difference is between two models that were measured on the same rows.

Place in the data's way: a figure of each row, before and after training -> the standard error of the change
-> how much worse a trained model may look by chance alone, which the gate of `promote` lets pass.

Example:
    >>> paired_error([1.0, 2.0], [1.5, 2.5]), round(paired_error([1.0, 2.0], [1.0, 2.2]), 3)
    (0.0, 0.1)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

CHANCE = 0.05
"""How often a model that is as good as its base may be called worse."""
_Z = NormalDist().inv_cdf(1 - CHANCE)


def paired_error(before: Sequence[float], after: Sequence[float], sizes: Sequence[int] = ()) -> float:
    """Return the standard error of the change of a mean, from the differences row by row.

    What makes one row harder than another is in both figures and falls out of their difference.

    Args:
        before: A figure of each row; a row's sum, where `sizes` are given.
        after: The same, of the other model.
        sizes: How much each row counts, as tokens, where the mean is over these; () for one each.

    Returns:
        The error, in the unit of the mean; 0 for fewer than two rows, of which none can be told.

    Raises:
        ValueError: The rows do not go together.

    Source:
        Miller 2024, "Adding Error Bars to Evals", section 4.2 (paired differences); with sizes the mean is a
        ratio of two sums, whose variance is that of Cochran 1977, "Sampling Techniques", chapter 6.
    """
    sizes = sizes or [1] * len(before)
    differences = [new - old for old, new in zip(before, after, strict=True)]
    if len(differences) < 2:
        return 0.0
    change = sum(differences) / sum(sizes)
    squares = sum((d - change * size) ** 2 for d, size in zip(differences, sizes, strict=True))
    return math.sqrt(squares * len(differences) / (len(differences) - 1)) / sum(sizes)


def chance_of(error: float) -> float:
    """Return how much worse a model as good as its base looks at most, in all but `CHANCE` of the cases."""
    return _Z * error
