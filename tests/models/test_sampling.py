"""From logits to tokens, on llama.cpp's own samplers and logits that are known."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from localsmith.core.types import SamplingParams
from localsmith.models.llama.library import llama_api
from localsmith.models.llama.sampler import CandidateChain
from localsmith.models.sampling import Sampler

N_VOCAB = 500


class Source:
    """A vocabulary of numbers; llama.cpp's chain, no grammar."""

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        return [ord(char) for char in text]

    def piece(self, token: int) -> bytes:
        return f"{token} ".encode()

    def chain(self, params: SamplingParams) -> CandidateChain:
        return CandidateChain(llama_api(), params)

    def grammar(self, text: str) -> Any:
        raise ValueError(f"no grammar here: {text}")


def logits_of(seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(0, 3, N_VOCAB).astype(np.float32)


def draw(params: SamplingParams, num: int = 20, seed: int = 0) -> list[int]:
    sampler = Sampler(params, Source())
    try:
        return [sampler.sample(logits_of(seed + i)).token for i in range(num)]
    finally:
        sampler.close()


def test_greedy_takes_the_likeliest() -> None:
    assert draw(SamplingParams()) == [int(logits_of(i).argmax()) for i in range(20)]


@example(seed=2**32 - 1, temperature=1.0)  # llama.cpp's word for "any seed"
@given(seed=st.integers(-(2**63), 2**63), temperature=st.floats(0.1, 2))
@settings(max_examples=20, deadline=None)
def test_the_same_seed_draws_the_same_whatever_other_samplers_do(seed: int, temperature: float) -> None:
    params = SamplingParams(temperature=temperature, seed=seed)
    alone = draw(params)
    one, other = Sampler(params, Source()), Sampler(SamplingParams(temperature=1.0, seed=seed + 1), Source())
    mixed = []
    for i in range(20):
        other.sample(logits_of(1000 + i))
        mixed.append(one.sample(logits_of(i)).token)
    one.close()
    other.close()
    assert mixed == alone


@pytest.mark.parametrize("top_k", [1, 3, 40])
def test_top_k_draws_among_the_k_likeliest(top_k: int) -> None:
    params = SamplingParams(temperature=1.5, top_k=top_k, top_p=1.0, min_p=0.0)
    for i, token in enumerate(draw(params, num=60)):
        assert token in np.argsort(-logits_of(i))[:top_k]


def test_candidates_left_out_change_no_draw() -> None:
    # Tokens far below the best are not handed to llama.cpp; with all of them it draws the same.
    params = SamplingParams(temperature=1.2, top_k=30, top_p=0.9, min_p=0.02, seed=9)
    chain = CandidateChain(llama_api(), params)
    whole = [chain.draw(np.arange(N_VOCAB, dtype=np.int32), logits_of(i)) for i in range(40)]
    chain.close()
    assert draw(params, num=40) == whole


def test_draws_follow_the_distribution() -> None:
    logits = np.full(N_VOCAB, -50, np.float32)
    logits[[3, 5]] = math.log(0.75), math.log(0.25)
    sampler = Sampler(SamplingParams(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=1), Source())
    counts = Counter(sampler.sample(logits.copy()).token for _ in range(2000))
    sampler.close()
    assert set(counts) == {3, 5}
    assert 0.70 < counts[3] / 2000 < 0.80  # 0.75 with a standard error of 0.01


def test_a_bias_forbids_and_forces_tokens() -> None:
    best = int(logits_of(0).argmax())
    assert draw(SamplingParams(logit_bias=((best, -100.0),)), num=1) != [best]
    assert draw(SamplingParams(logit_bias=((7, 100.0),)), num=5) == [7] * 5


def test_penalties_are_those_of_the_papers() -> None:
    logits = np.zeros(N_VOCAB, np.float32)
    logits[[1, 2, 3]] = 4.0, 3.9, 3.0

    def run(params: SamplingParams, num: int) -> list[int]:
        sampler = Sampler(params, Source())
        return [sampler.sample(logits.copy()).token for _ in range(num)]

    assert run(SamplingParams(), 3) == [1, 1, 1]
    # CTRL: 4.0 / 1.5 = 2.67 < 3.9, then 3.9 / 1.5 = 2.6 < 3.0, then 3.0 / 1.5 = 2.0 < 2.67
    assert run(SamplingParams(repeat_penalty=1.5), 4) == [1, 2, 3, 1]
    # presence takes 0.5 once: 3.5 < 3.9, then 3.4 < 3.5, and never again
    assert run(SamplingParams(presence_penalty=0.5), 4) == [1, 2, 1, 1]
    # frequency takes 0.5 a time: 3.5 < 3.9; 3.4 < 3.5; 3.0 < 3.4; 2.9 = 3.0 - 0.1 loses to 3.0 of token 1
    assert run(SamplingParams(frequency_penalty=0.5), 5) == [1, 2, 1, 2, 1]


def test_log_probabilities_are_those_of_the_softmax() -> None:
    logits = logits_of(4)
    expected = logits.astype(np.float64) - np.log(np.exp(logits.astype(np.float64)).sum())
    sampler = Sampler(SamplingParams(num_logprobs=4, logit_bias=((11, 100.0),)), Source())
    reported = sampler.sample(logits.copy()).logprob
    assert reported is not None
    assert reported.token == b"11 "
    assert reported.logprob == pytest.approx(expected[11], abs=1e-5)
    order = np.argsort(-logits)[:4]
    assert [item.token for item in reported.top] == [f"{token} ".encode() for token in order]
    assert [item.logprob for item in reported.top] == pytest.approx(list(expected[order]), abs=1e-5)


def test_an_invalid_grammar_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="no grammar here"):
        Sampler(SamplingParams(grammar="root ::="), Source())
