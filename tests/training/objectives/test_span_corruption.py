"""Span corruption: how much is taken out, how gaps are marked, and that nothing is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from localsmith.training.objectives.span_corruption import (
    SpanCorruptionObjective,
    corrupt,
    draw_spans,
    sentinels_of,
)

LENGTHS = st.integers(2, 400)
SEEDS = st.integers(0, 2**63 - 1)


def restored(inputs: list[int], target: list[int], sentinels: list[int]) -> list[int]:
    """Put each span back where its sentinel stands."""
    spans: dict[int, list[int]] = {}
    for token in target:
        if token in sentinels:
            spans[token] = []
        else:
            spans[next(reversed(spans))].append(token)
    return [part for token in inputs for part in (spans[token] if token in sentinels else [token])]


def test_the_example_of_the_paper() -> None:
    """Raffel et al. 2020, figure 2: "Thank you <X> me to your party <Y> week"."""
    words = "Thank you for inviting me to your party last week".split()
    block, (x, y, z) = list(range(len(words))), (102, 101, 100)
    inputs, target = corrupt(block, [(2, 4), (8, 9)], [x, y, z])
    assert inputs == [0, 1, x, 4, 5, 6, 7, y, 9]
    assert target == [x, 2, 3, y, 8, z]


@settings(max_examples=100, deadline=None)
@given(num_tokens=LENGTHS, seed=SEEDS)
def test_the_share_is_exact_and_spans_neither_touch_nor_leave_the_block(num_tokens: int, seed: int) -> None:
    spans = draw_spans(num_tokens, np.random.default_rng(seed))
    noise = sum(end - start for start, end in spans)
    assert noise == min(max(round(num_tokens * 0.15), 1), num_tokens - 1)
    assert len(spans) == min(max(round(noise / 3), 1), num_tokens - noise)
    ends = [0, *(end for _, end in spans)]
    assert all(before < start < end for before, (start, end) in zip(ends, spans, strict=False))
    assert ends[-1] <= num_tokens


@settings(max_examples=60, deadline=None)
@given(length=LENGTHS, seed=SEEDS)
def test_input_and_target_give_the_block_back(tokenizers: dict[str, Any], length: int, seed: int) -> None:
    tokenizer = tokenizers["encoder-decoder"]
    sentinels, end = sentinels_of(tokenizer), tokenizer.eos_token_id
    block = np.random.default_rng(seed).integers(10, 400, length).tolist()
    objective = SpanCorruptionObjective(tokenizer)
    example = objective.example(block, seed)
    inputs, target = list(example.input_ids), list(example.labels)
    assert inputs.pop() == target.pop() == end
    assert restored(inputs, target, sentinels) == block
    # Sentinels: each once, counted down from the highest, the same in both, one more to close the target.
    used = [token for token in target if token in sentinels]
    assert used == sentinels[: len(used)]
    assert [token for token in inputs if token in sentinels] == used[:-1]
    assert target[-1] == used[-1]
    assert used == sorted(set(used), reverse=True)
    # The decoder reads its target one place late.
    assert example.decoder_input_ids is not None
    assert list(example.decoder_input_ids) == [tokenizer.pad_token_id, *target]
    assert objective.example(block, seed) == example


def test_examples_of_one_length_have_one_length(tokenizers: dict[str, Any]) -> None:
    objective = SpanCorruptionObjective(tokenizers["encoder-decoder"])
    examples = [objective.example(range(100, 228), seed) for seed in range(20)]
    assert len({(len(example.input_ids), len(example.labels)) for example in examples}) == 1
    assert len({tuple(example.input_ids) for example in examples}) == 20


def test_every_place_but_the_first_is_taken_out_alike() -> None:
    """A block never begins with a gap; near its middle each place is taken out in 15 of 100 draws."""
    hits = np.zeros(100)
    for seed in range(1500):
        for start, end in draw_spans(100, np.random.default_rng(seed)):
            hits[start:end] += 1
    assert hits[0] == 0
    assert hits[20:80].mean() / 1500 == pytest.approx(0.15, abs=0.02)


def test_the_first_sentinel_is_the_highest_token(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["encoder-decoder"]
    sentinels = sentinels_of(tokenizer)
    assert sentinels == list(range(len(tokenizer) - 1, len(tokenizer) - 101, -1))
    assert tokenizer.convert_ids_to_tokens(sentinels[:2]) == ["<extra_id_0>", "<extra_id_1>"]


def test_what_can_not_work_is_refused(tokenizers: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="2 spans need 3 sentinels"):
        corrupt([1, 2, 3, 4], [(1, 2), (3, 4)], [9, 8])
    with pytest.raises(ValueError, match="at least 2 tokens"):
        draw_spans(1, np.random.default_rng(7))
    with pytest.raises(ValueError, match="no sentinels"):
        SpanCorruptionObjective(tokenizers["encoder"])
    with pytest.raises(ValueError, match="share"):
        SpanCorruptionObjective(tokenizers["encoder-decoder"], share=1.0)
