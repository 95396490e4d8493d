"""Next-token prediction: each place is labelled with the token behind it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.training.batches import IGNORED
from localsmith.training.objectives.causal import CausalObjective


@given(st.lists(st.integers(0, 999), min_size=2, max_size=40), st.integers(0, 2**63 - 1))
def test_labels_are_the_tokens_that_follow(block: list[int], seed: int) -> None:
    example = CausalObjective().example(block, seed)
    assert example.input_ids == block
    assert list(example.labels[:-1]) == block[1:]
    assert example.labels[-1] == IGNORED
    assert example.decoder_input_ids is None


def test_one_token_has_no_next() -> None:
    with pytest.raises(ValueError, match="at least 2 tokens"):
        CausalObjective().example([5], 7)
