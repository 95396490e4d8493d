"""The default model follows from measured speed, memory and what the person said."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.core.errors import ModelNotFoundError
from localsmith.core.settings import load_settings
from localsmith.models.catalog.catalog import catalog_entry
from localsmith.models.catalog.selection import (
    READING_EXPONENT,
    REFERENCE_PROMPT_TOKENS,
    choose_chat_model,
    predict_speed,
)
from localsmith.models.catalog.speed import Speed, SpeedStore

LARGE, SMALL = "qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b"
MEMORY_BYTES = 16 * 10**9
# Parameters without the token embedding, from the model cards.
RATIO = (1.31 / 0.36) ** READING_EXPONENT


def test_before_anything_is_measured_the_small_one_is_tried() -> None:
    assert choose_chat_model(load_settings(), {}, (), MEMORY_BYTES).name == SMALL


def test_a_slow_machine_never_downloads_the_large_model_in_vain() -> None:
    choice = choose_chat_model(load_settings(), {SMALL: Speed(80, 35)}, (SMALL,), MEMORY_BYTES)
    assert choice.name == SMALL
    assert not choice.is_predicted
    assert "reads 80 tokens/s" in choice.reason and "3.6 times" in choice.reason and "19 s" in choice.reason


def test_a_fast_machine_gets_the_large_model_on_a_prediction_that_says_so() -> None:
    choice = choose_chat_model(load_settings(), {SMALL: Speed(400, 60)}, (SMALL,), MEMORY_BYTES)
    assert (choice.name, choice.is_predicted) == (LARGE, True)


def test_a_measurement_replaces_the_prediction() -> None:
    speeds = {SMALL: Speed(400, 60), LARGE: Speed(40, 20)}
    choice = choose_chat_model(load_settings(), speeds, (SMALL, LARGE), MEMORY_BYTES)
    assert (choice.name, choice.is_predicted) == (SMALL, False)


@given(small=st.floats(1, 5000), large=st.floats(1, 5000), budget=st.floats(1, 120))
def test_the_large_model_is_chosen_exactly_where_it_comes_in_time(
    small: float, large: float, budget: float
) -> None:
    settings = load_settings(answer={"seconds_to_first_token": budget})
    speeds = {SMALL: Speed(small, 1), LARGE: Speed(large, 1)}
    choice = choose_chat_model(settings, speeds, (SMALL, LARGE), MEMORY_BYTES)
    assert (choice.name == LARGE) == (REFERENCE_PROMPT_TOKENS / large <= budget)


def test_a_machine_with_little_memory_keeps_to_the_small_one() -> None:
    choice = choose_chat_model(load_settings(), {SMALL: Speed(4000, 60)}, (SMALL,), 2 * 10**9)
    assert choice.name == SMALL


def test_what_the_person_said_wins() -> None:
    fast = {SMALL: Speed(4000, 60), LARGE: Speed(4000, 60)}
    here = (SMALL, LARGE, "my-own")
    named = load_settings(model={"name": SMALL})
    assert choose_chat_model(named, fast, here, MEMORY_BYTES, in_use=LARGE).name == SMALL
    assert choose_chat_model(load_settings(), fast, here, MEMORY_BYTES, in_use="my-own").name == "my-own"
    assert choose_chat_model(load_settings(), fast, here, MEMORY_BYTES, in_use="gone").name == LARGE
    with pytest.raises(ModelNotFoundError):
        choose_chat_model(load_settings(model={"name": "no-such"}), fast, here, MEMORY_BYTES)


def test_prediction_follows_the_parameters_and_stays_in_the_family() -> None:
    predicted = predict_speed(catalog_entry(LARGE), {SMALL: Speed(364, 100)})
    assert predicted is not None
    speed, source = predicted
    assert source.name == SMALL
    assert speed.prompt_tokens_per_s == pytest.approx(364 / RATIO)
    assert speed.decode_tokens_per_s == pytest.approx(100 * 491_400_064 / 1_117_320_768)
    assert predict_speed(catalog_entry(LARGE), {"smollm2-135m": Speed(900, 90)}) is None


def test_speeds_are_kept_by_model_threads_and_machine(tmp_path: Path) -> None:
    path = tmp_path / "models" / "speed.json"
    SpeedStore(path, host="a").put("f" * 64, 2, Speed(10.0, 2.0))
    SpeedStore(path, host="a").put("e" * 64, 2, Speed(20.0, 4.0))
    assert SpeedStore(path, host="a").get("f" * 64, 2) == Speed(10.0, 2.0)
    assert SpeedStore(path, host="a").get("f" * 64, 4) is None
    assert SpeedStore(path, host="b").get("f" * 64, 2) is None
    path.write_text("{ damaged")
    assert SpeedStore(path, host="a").get("f" * 64, 2) is None
