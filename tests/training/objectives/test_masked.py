"""Masked tokens: which are chosen, what becomes of them, and what is never touched."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from localsmith.training.batches import IGNORED
from localsmith.training.objectives.masked import DenoisingObjective, MaskedObjective

BLOCKS = st.lists(st.integers(0, 599), min_size=1, max_size=60)
SEEDS = st.integers(0, 2**63 - 1)


@settings(max_examples=60, deadline=None)
@given(block=BLOCKS, seed=SEEDS)
def test_only_chosen_tokens_change_and_only_they_have_labels(
    tokenizers: dict[str, Any], block: list[int], seed: int
) -> None:
    tokenizer = tokenizers["encoder"]
    special = set(tokenizer.all_special_ids)
    plain = tokenizer.convert_tokens_to_ids("e")
    block = [*block, plain]
    objective = MaskedObjective(tokenizer)
    example = objective.example(block, seed)
    assert len(example.input_ids) == len(example.labels) == len(block)
    for token, shown, label in zip(block, example.input_ids, example.labels, strict=True):
        if label == IGNORED:
            assert shown == token
        else:
            assert label == token
            assert token not in special
    assert any(label != IGNORED for label in example.labels)
    # What was hidden can be put back: nothing is lost.
    restored = [
        label if label != IGNORED else shown
        for shown, label in zip(example.input_ids, example.labels, strict=True)
    ]
    assert restored == block
    assert objective.example(block, seed) == example


def test_fifteen_percent_are_chosen_and_of_these_eighty_ten_and_ten_percent(
    tokenizers: dict[str, Any],
) -> None:
    tokenizer = tokenizers["encoder"]
    objective = MaskedObjective(tokenizer)
    block = [tokenizer.cls_token_id, *range(100, 500), tokenizer.sep_token_id]
    counts = {"chosen": 0, "mask": 0, "same": 0, "random": 0}
    num_blocks = 200
    for seed in range(num_blocks):
        example = objective.example(block, seed)
        for token, shown, label in zip(block, example.input_ids, example.labels, strict=True):
            if label != IGNORED:
                counts["chosen"] += 1
                is_mask = shown == tokenizer.mask_token_id
                counts["mask" if is_mask else "same" if shown == token else "random"] += 1
    # 80,000 tokens, 12,000 chosen: four standard deviations are 0.5 and 1.5 percent.
    assert counts["chosen"] / (400 * num_blocks) == pytest.approx(0.15, abs=0.006)
    for kind, share in (("mask", 0.8), ("random", 0.1), ("same", 0.1)):
        assert counts[kind] / counts["chosen"] == pytest.approx(share, abs=0.015), kind


def test_another_seed_chooses_other_tokens(tokenizers: dict[str, Any]) -> None:
    objective = MaskedObjective(tokenizers["encoder"])
    assert len({tuple(objective.example(range(100, 200), seed).labels) for seed in range(5)}) == 5


def test_a_block_of_control_tokens_alone_is_refused(tokenizers: dict[str, Any]) -> None:
    tokenizer = tokenizers["encoder"]
    with pytest.raises(ValueError, match="no token that could be masked"):
        MaskedObjective(tokenizer).example([tokenizer.cls_token_id, tokenizer.sep_token_id], 7)


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_a_share_out_of_range_is_refused(tokenizers: dict[str, Any], share: float) -> None:
    with pytest.raises(ValueError, match=str(share)):
        MaskedObjective(tokenizers["encoder"], share)


@settings(max_examples=30, deadline=None)
@given(block=st.lists(st.integers(10, 400), min_size=2, max_size=60), seed=SEEDS)
def test_denoising_writes_the_block_itself(tokenizers: dict[str, Any], block: list[int], seed: int) -> None:
    tokenizer = tokenizers["encoder-decoder"]
    example = DenoisingObjective(tokenizer).example(block, seed)
    assert list(example.labels) == [*block, tokenizer.eos_token_id]
    assert example.decoder_input_ids is not None
    assert list(example.decoder_input_ids) == [tokenizer.pad_token_id, *block]
    assert len(example.input_ids) == len(block) + 1
