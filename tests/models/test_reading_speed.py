"""The speed that time budgets rest on follows what is seen, and stays within bounds."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.core.settings import ModelSettings
from localsmith.core.types import Message, SamplingParams
from localsmith.models.engine import Engine
from localsmith.models.reading_speed import MAX_CHANGE, MIN_STEP_TOKENS, ReadingSpeed

SPEEDS = st.floats(1, 10_000)


def test_what_was_measured_is_claimed_until_something_is_read() -> None:
    assert ReadingSpeed(80.0).tokens_per_s == pytest.approx(80.0)


@given(measured=SPEEDS, share=st.floats(0.3, 3.0), num_tokens=st.integers(MIN_STEP_TOKENS, 512))
def test_a_steady_speed_is_believed_after_a_few_prompts(
    measured: float, share: float, num_tokens: int
) -> None:
    speed = ReadingSpeed(measured)
    for _ in range(math.ceil(5000 / num_tokens)):
        speed.observe(num_tokens, num_tokens / (measured * share))
    assert speed.tokens_per_s == pytest.approx(measured * share, rel=0.05)


@given(measured=SPEEDS, steps=st.lists(st.tuples(st.integers(0, 512), st.floats(0, 1e6)), max_size=30))
def test_no_steps_take_it_out_of_bounds(measured: float, steps: list[tuple[int, float]]) -> None:
    speed = ReadingSpeed(measured)
    for num_tokens, seconds in steps:
        speed.observe(num_tokens, seconds)
        assert measured / MAX_CHANGE <= speed.tokens_per_s <= measured * MAX_CHANGE


def test_one_step_in_which_the_machine_slept_is_soon_forgotten() -> None:
    speed = ReadingSpeed(100.0)
    speed.observe(256, 3600.0)
    assert speed.tokens_per_s > 100 / MAX_CHANGE
    for _ in range(10):
        speed.observe(256, 2.56)
    assert speed.tokens_per_s == pytest.approx(100.0, rel=0.1)


def test_short_steps_say_nothing_and_what_is_not_measured_stays_so() -> None:
    speed = ReadingSpeed(100.0)
    speed.observe(MIN_STEP_TOKENS - 1, 10.0)
    assert speed.tokens_per_s == pytest.approx(100.0)
    unknown = ReadingSpeed(math.inf)
    unknown.observe(256, 2.0)
    assert unknown.tokens_per_s == math.inf


@pytest.mark.real_model
def test_an_engine_that_was_promised_too_fast_corrects_itself(small_model_path: Path) -> None:
    settings = ModelSettings(n_ctx=1024)
    engine = Engine(small_model_path, name="small", settings=settings, prompt_tokens_per_s=1e6)
    try:
        list(engine.submit([Message("user", "A fox met a bear. " * 100)], SamplingParams(max_tokens=1)))
        assert 1e6 / MAX_CHANGE <= engine.prompt_tokens_per_s < 0.9e6
    finally:
        engine.close()
