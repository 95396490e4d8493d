from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.evaluation.metrics import (
    bootstrap,
    contains_answer,
    exact_match,
    f1,
    normalize,
    recall_at,
    wilson,
)

# Worked by hand from the official SQuAD 1.1 script's rules: lower case, no punctuation, no articles, single
# spaces; F1 = 2 * shared tokens / (predicted + gold tokens); the best gold answer counts.
REFERENCE = [
    # prediction, golds, exact match, F1
    ("Denver Broncos", ["Denver Broncos"], 1, 1.0),
    ("The Denver Broncos!", ["denver broncos"], 1, 1.0),
    ("the Broncos of Denver", ["Denver Broncos"], 0, 2 * 2 / (3 + 2)),
    ("Carolina Panthers", ["Denver Broncos"], 0, 0.0),
    ("in 1878", ["1878"], 0, 2 * 1 / (2 + 1)),
    ("8,646 sq mi", ["8,646 sq mi", "8646 square miles"], 1, 1.0),
    ("four four two", ["four two two"], 0, 2 * 2 / (3 + 3)),  # multisets: one "four", one "two" shared
    ("", ["x"], 0, 0.0),
    ("the", ["a"], 1, 1.0),  # both are empty after normalisation
    ("24-10", ["24–10", "2410"], 1, 1.0),  # only ASCII marks are taken out
    ("Levi's Stadium", ["Levis Stadium in Santa Clara"], 0, 2 * 2 / (2 + 5)),
]


@pytest.mark.parametrize(("prediction", "golds", "em", "score"), REFERENCE)
def test_exact_match_and_f1_are_those_of_the_official_script(
    prediction: str, golds: list[str], em: int, score: float
) -> None:
    assert exact_match(prediction, golds) == em
    assert f1(prediction, golds) == pytest.approx(score)


def test_normalisation_is_the_official_one() -> None:
    assert normalize("The  Tay-Bridge, an   old bridge.") == "taybridge old bridge"


@given(st.text(max_size=60), st.lists(st.text(max_size=60), min_size=1, max_size=3))
def test_an_exact_match_has_f1_one_and_scores_stay_in_range(prediction: str, golds: list[str]) -> None:
    assert 0 <= f1(prediction, golds) <= 1
    if exact_match(prediction, golds):
        assert f1(prediction, golds) == 1


def test_no_gold_answer_is_an_error() -> None:
    with pytest.raises(ValueError, match="gold"):
        f1("x", [])


def test_recall_counts_questions_whose_passage_stands_high_enough() -> None:
    ranks = [1, 2, 5, 6, None]
    assert recall_at(ranks, 1) == 1 / 5
    assert recall_at(ranks, 5) == 3 / 5


def test_an_answer_is_contained_on_word_borders_only() -> None:
    assert contains_answer("It was the Andrew Jackson.", ["Andrew Jackson"])
    assert not contains_answer("early-warning yearly", ["early"])


def test_the_bootstrap_interval_is_that_of_the_normal_approximation_for_a_large_sample() -> None:
    values = [1.0] * 300 + [0.0] * 700
    found = bootstrap(values)
    half = 1.96 * np.sqrt(0.3 * 0.7 / 1000)  # normal approximation of a proportion
    assert found.mean == pytest.approx(0.3)
    assert found.low == pytest.approx(0.3 - half, abs=0.005)
    assert found.high == pytest.approx(0.3 + half, abs=0.005)
    assert bootstrap(values) == found


# Source: Newcombe (1998), "Two-sided confidence intervals for the single proportion: comparison of seven
# methods", table I, method 3 (score, no continuity correction).
@pytest.mark.parametrize(
    ("num_right", "num", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_of_a_proportion_is_that_of_the_table(
    num_right: int, num: int, low: float, high: float
) -> None:
    interval = wilson(num_right, num)
    assert interval.mean == pytest.approx(num_right / num)
    assert (interval.low, interval.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(st.integers(0, 500), st.integers(0, 500))
def test_the_interval_of_a_proportion_holds_it_and_stays_a_proportion(num_right: int, num_wrong: int) -> None:
    interval = wilson(num_right, num_right + num_wrong)
    assert 0 <= interval.low <= interval.mean <= interval.high <= 1
    mirrored = wilson(num_wrong, num_right + num_wrong)
    assert interval.high == pytest.approx(1 - mirrored.low)


def test_more_successes_than_trials_are_refused() -> None:
    with pytest.raises(ValueError, match="3 of 2"):
        wilson(3, 2)
