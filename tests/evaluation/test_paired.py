"""The noise of a change is that of the rows' own differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.evaluation.paired import chance_of, paired_error

VALUES = st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=2, max_size=20)


@given(VALUES)
def test_of_rows_that_count_alike_it_is_the_standard_error_of_their_differences(
    values: list[tuple[float, float]],
) -> None:
    before, after = (list(side) for side in zip(*values, strict=True))
    differences = np.subtract(after, before)
    error = differences.std(ddof=1) / np.sqrt(len(values))
    assert paired_error(before, after) == pytest.approx(error, abs=1e-9)


def test_with_sizes_it_is_what_drawing_other_rows_would_show() -> None:
    """Against the bootstrap of the ratio of sums, over 4000 draws of 200 rows."""
    rng = np.random.default_rng(1)
    sizes = rng.integers(5, 60, 200)
    before = sizes * rng.normal(2.0, 0.5, 200)
    after = before + sizes * rng.normal(0.01, 0.2, 200)
    picks = rng.integers(0, 200, (4000, 200))
    changes = (after - before)[picks].sum(axis=1) / sizes[picks].sum(axis=1)
    found = paired_error(before.tolist(), after.tolist(), sizes.tolist())
    assert found == pytest.approx(changes.std(), rel=0.05)


def test_of_one_row_none_can_be_told_and_a_common_shift_is_no_noise() -> None:
    assert paired_error([1.0], [2.0]) == 0.0
    assert paired_error([1.0, 5.0, 3.0], [1.5, 5.5, 3.5]) == 0.0
    assert paired_error([2.0, 8.0], [3.0, 12.0], [2, 8]) == 0.0, "by one half a token in both"


def test_a_model_as_good_as_its_base_is_called_worse_once_in_twenty() -> None:
    rng = np.random.default_rng(2)
    num_worse = 0
    for _ in range(1000):
        before, after = rng.normal(0, 1, 50), rng.normal(0, 1, 50)
        rise = float((after - before).mean())
        num_worse += rise > chance_of(paired_error(before.tolist(), after.tolist()))
    assert num_worse == pytest.approx(50, abs=20)
