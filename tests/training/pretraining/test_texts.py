"""Texts, vocabulary and blocks: nothing is lost, nothing is held out and learned at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from localsmith.training.pretraining.blocks import pack
from localsmith.training.pretraining.config import Architecture, text_file
from localsmith.training.pretraining.texts import read_texts, split_texts
from localsmith.training.pretraining.vocabulary import encode_plain, train_tokenizer

from .conftest import ARCHITECTURES, TEXT


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Any]:
    text = TEXT.read_text(encoding="utf-8")
    return {name: train_tokenizer([text], name, 512) for name in ARCHITECTURES}


@given(
    st.lists(st.text("ab \n", min_size=1, max_size=50), min_size=1, max_size=12),
    st.floats(0.02, 0.9),
    st.integers(0, 1000),
)
def test_each_character_is_either_learned_or_held_out(texts: list[str], share: float, seed: int) -> None:
    train, held_out = split_texts(texts, share, seed)
    assert sorted("".join([*train, *held_out])) == sorted("".join(texts))
    total = sum(map(len, texts))
    # At most one text is cut, before the border at most by its last line.
    assert sum(map(len, held_out)) >= round(total * share) - 1
    assert len(train) + len(held_out) <= len(texts) + 1
    assert split_texts(texts, share, seed) == (train, held_out)


def test_rows_give_the_fields_that_were_named_and_no_text_comes_twice(tmp_path: Path) -> None:
    rows = [
        {"title": "T", "paragraphs": ["One.", "Two."], "note": 3},
        {"paragraphs": ["Three."]},
        {"paragraphs": ["Three."]},
        {"title": "Alone"},
        {"other": "x"},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_texts([text_file(file)], ("title", "paragraphs"))
    assert found == ["T\n\nOne.\n\nTwo.", "Three.", "Alone"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_text_can_be_written_and_read_back(
    tokenizers: dict[str, Any], architecture: Architecture
) -> None:
    tokenizer = tokenizers[architecture]
    for text in ("Norwich City", "naïve — 日本語 🙂\n\ttabs", "[MASK] <pad> </s> <|endoftext|> <extra_id_0>"):
        (tokens,) = encode_plain(tokenizer, [text])
        assert tokenizer.decode(tokens) == text
        assert not set(tokens) & set(tokenizer.all_special_ids)
    assert len(tokenizer) <= 512


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_same_texts_give_the_same_vocabulary(architecture: Architecture) -> None:
    text = TEXT.read_text(encoding="utf-8")
    first, second = (train_tokenizer([text], architecture, 400).get_vocab() for _ in range(2))
    assert first == second


@settings(max_examples=30, deadline=None)
@given(
    texts=st.lists(st.text("abc ", min_size=30, max_size=90), min_size=2, max_size=6),
    max_tokens=st.integers(16, 24),
)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_blocks_hold_the_texts_in_order_up_to_the_last_full_one(
    tokenizers: dict[str, Any], architecture: Architecture, texts: list[str], max_tokens: int
) -> None:
    tokenizer = tokenizers[architecture]
    blocks = pack(
        ["start of it all, more than one block of text", *texts], tokenizer, architecture, max_tokens
    )
    assert blocks.shape[1] == max_tokens
    if architecture == "encoder":
        assert set(blocks[:, 0]) == {tokenizer.cls_token_id}
        assert set(blocks[:, -1]) == {tokenizer.sep_token_id}
        blocks = blocks[:, 1:-1]
    between = {"encoder": "[SEP]", "decoder": "<|endoftext|>", "encoder-decoder": "\n\n"}[architecture]
    whole = between.join(["start of it all, more than one block of text", *texts]) + between
    assert whole.startswith(tokenizer.decode(np.concatenate(blocks).tolist()))
    num_tokens = sum(len(tokens) for tokens in encode_plain(tokenizer, ["start of it all", *texts]))
    assert blocks.size > num_tokens - max_tokens - 16
