"""A file that is not the trained model is told from one that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.training.export.layout import Array
from localsmith.training.export.token_models import GgufTokenModel, HfTokenModel
from localsmith.training.export.verify import LIMITS, Limits, share_until_difference, sum_of_losses, verify
from scipy.special import log_softmax

from .tiny_gguf import TOKENS, tiny_lora

TOKEN_LISTS = st.lists(st.integers(0, 5), min_size=1, max_size=12)
ANY = Limits(0.0, float("inf"))


class Table:
    """A model whose next token depends on the last one alone."""

    def __init__(self, rows: Array) -> None:
        self._rows = rows

    def logits(self, tokens: Sequence[int]) -> Array:
        return self._rows[list(tokens)]

    def greedy(self, tokens: Sequence[int], num_tokens: int) -> list[int]:
        found = [*tokens]
        while len(found) < len(tokens) + num_tokens:
            found.append(int(self._rows[found[-1]].argmax()))
        return found[len(tokens) :]


def table(seed: int = 0, size: int = 50) -> Array:
    return np.random.default_rng(seed).normal(size=(size, size)).astype(np.float32) * 3


@given(ours=TOKEN_LISTS, theirs=TOKEN_LISTS)
def test_the_share_counts_what_is_equal_from_the_beginning(ours: list[int], theirs: list[int]) -> None:
    share = share_until_difference(ours, theirs)
    num_equal = round(share * len(ours))
    assert share == num_equal / len(ours)
    assert ours[:num_equal] == theirs[:num_equal]
    assert ours[num_equal : num_equal + 1] != theirs[num_equal : num_equal + 1] or num_equal == len(ours)


@given(seed=st.integers(0, 99), length=st.integers(2, 20), shift=st.floats(-1e4, 1e4))
def test_the_loss_is_that_of_scipy_wherever_the_logits_lie(seed: int, length: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(length, 30)) * 5 + shift).astype(np.float32)
    tokens = rng.integers(0, 30, length).tolist()
    expected = -log_softmax(logits[:-1].astype(np.float64), axis=1)[np.arange(length - 1), tokens[1:]].sum()
    assert sum_of_losses(logits, tokens) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_model_agrees_with_itself() -> None:
    model, shares = Table(table()), []
    found = verify(model, model, [[1], [2, 3]], [[1, 2, 3, 4]], Limits(1.0, 0.0), on_progress=shares.append)
    assert (found.value, found.whole_share, found.perplexity_percent) == (1.0, 1.0, 0.0)
    assert found.is_within_limits
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.mark.parametrize("quantization", LIMITS)
def test_another_model_is_found_out_by_every_limit(quantization: Any) -> None:
    texts = [np.random.default_rng(5).integers(0, 50, 40).tolist()]
    found = verify(Table(table(0)), Table(table(1)), [[i] for i in range(9)], texts, LIMITS[quantization])
    assert not found.is_within_limits
    assert f"{found.value:.0%}" in found.explanation
    assert f"{found.perplexity_percent:+.2f} %" in found.explanation


def test_a_better_perplexity_is_another_model_too() -> None:
    rows = table()
    texts = [Table(rows).greedy([1], 30)]
    found = verify(Table(rows), Table(rows * 2), [[1]], texts, Limits(1.0, 5.0))
    assert found.value == 1.0
    assert found.perplexity_percent < -5
    assert not found.is_within_limits


def test_numbers_that_are_none_pass_no_limit() -> None:
    broken = table()
    broken[3, 3] = np.nan
    found = verify(Table(table()), Table(broken), [[1]], [[3, 3, 3]], ANY)
    assert not found.is_within_limits


@pytest.mark.parametrize("quantization", LIMITS)
def test_a_file_without_what_was_trained_is_found_out(
    quantization: Any, gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any]
) -> None:
    trained = HfTokenModel(tiny_lora(gguf_model("llama")))
    with GgufTokenModel(gguf_base("llama")) as untrained:
        found = verify(trained, untrained, [TOKENS], [TOKENS], LIMITS[quantization])
    assert not found.is_within_limits


def test_what_comes_behind_the_end_is_not_compared() -> None:
    ours, theirs = np.zeros((6, 6), np.float32), np.zeros((6, 6), np.float32)
    for rows, path in ((ours, [1, 2, 3, 4]), (theirs, [1, 2, 3, 5])):
        for token, following in zip(path, path[1:], strict=False):
            rows[token, following] = 9
    models = Table(ours), Table(theirs)
    assert verify(*models, [[1]], [[1, 2]], ANY, num_tokens=3).value == pytest.approx(2 / 3)
    assert verify(*models, [[1]], [[1, 2]], ANY, num_tokens=3, is_end=lambda token: token == 3).value == 1.0


@pytest.mark.parametrize(
    ("agreement", "percent"), [(1.2, 1.0), (-0.1, 1.0), (0.5, -1.0), (0.5, float("nan"))]
)
def test_limits_that_make_no_sense_are_refused(agreement: float, percent: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        Limits(agreement, percent)


def test_nothing_to_compare_is_no_agreement() -> None:
    model = Table(table())
    with pytest.raises(ValueError, match="not 0 and 1"):
        verify(model, model, [], [[1, 2]], ANY)
    with pytest.raises(ValueError, match="fewer than two"):
        verify(model, model, [[1]], [[1]], ANY)


def test_both_sides_continue_as_their_own_logits_say(
    gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any]
) -> None:
    """The steps with kept keys and values give what reading everything anew gives."""
    with GgufTokenModel(gguf_base("llama")) as gguf:
        for model in (gguf, HfTokenModel(gguf_model("llama"))):
            tokens = list(TOKENS)
            for _ in range(5):
                tokens.append(int(model.logits(tokens)[-1].argmax()))
            assert model.greedy(TOKENS, 5) == tokens[len(TOKENS) :]


def test_a_model_that_is_being_trained_is_so_afterwards(gguf_model: Callable[[str], Any]) -> None:
    trained = tiny_lora(gguf_model("llama"), lora_dropout=0.5).train()
    model = HfTokenModel(trained)
    np.testing.assert_array_equal(model.logits(TOKENS), model.logits(TOKENS))  # no dropout
    assert trained.training


def test_a_text_longer_than_a_batch_is_read_whole(gguf_base: Callable[[str], Path]) -> None:
    with GgufTokenModel(gguf_base("llama")) as model:
        tokens = (TOKENS * 12)[:600]
        whole, first = model.logits(tokens), model.logits(tokens[:100])
    assert whole.shape == (600, 260)
    np.testing.assert_allclose(whole[:100], first, atol=0.02 * first.std())
