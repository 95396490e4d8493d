"""The order of rows: every row in its turn, batches of like length, the same for a seed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.training.row_order import row_order

LENGTHS = st.lists(st.integers(1, 2000), min_size=1, max_size=120)


@given(LENGTHS, st.integers(1, 9), st.integers(1, 60), st.integers(0, 99))
def test_no_row_is_seen_much_more_often_than_another(
    lengths: list[int], batch_size: int, num_batches: int, seed: int
) -> None:
    wanted = num_batches * batch_size
    order = row_order(lengths, num_wanted=wanted, batch_size=batch_size, seed=seed)
    assert len(order) == wanted
    counts = [order.count(row) for row in range(len(lengths))]
    assert max(counts) - min(counts) <= 2
    if len(lengths) % batch_size == 0 and wanted % len(lengths) == 0:
        assert set(counts) == {wanted // len(lengths)}


@given(LENGTHS, st.integers(1, 9), st.integers(1, 300), st.integers(1, 300))
def test_a_shorter_run_is_the_beginning_of_a_longer_one(
    lengths: list[int], batch_size: int, short: int, more: int
) -> None:
    begun = row_order(lengths, num_wanted=short, batch_size=batch_size, seed=7)
    assert row_order(lengths, num_wanted=short + more, batch_size=batch_size, seed=7)[:short] == begun


def test_rows_of_like_length_share_a_batch() -> None:
    lengths = [10, 1000] * 64
    order = row_order(lengths, num_wanted=128, batch_size=8, seed=7)
    batches = [order[i : i + 8] for i in range(0, 128, 8)]
    assert all(len({lengths[row] for row in batch}) == 1 for batch in batches)
    assert order != sorted(order)


def test_no_rows_are_an_error() -> None:
    with pytest.raises(ValueError, match="no rows"):
        row_order([], num_wanted=1, batch_size=1, seed=0)
