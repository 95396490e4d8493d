from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.agents.reasoning.votes import Vote, in_words, is_decided, tally, weight_of


def test_the_most_frequent_answer_wins_and_samples_without_one_do_not_vote() -> None:
    votes = tally(["26", "18", None, "18"])
    assert votes == (Vote("18", 2, 2.0), Vote("26", 1, 1.0))
    assert in_words(votes, 4) == "18 (2 of 4), 26 (1 of 4)"


def test_ties_are_broken_by_weight_and_then_by_who_came_first() -> None:
    assert tally(["a", "b"], [0.2, 0.6])[0].answer == "b"
    assert tally(["a", "b"], [0.5, 0.5])[0].answer == "a"


def test_weights_outvote_counts_only_where_asked() -> None:
    answers, weights = ["a", "a", "b"], [0.1, 0.2, 0.9]
    assert tally(answers, weights)[0].answer == "a"
    assert tally(answers, weights, is_weighted=True)[0].answer == "b"


def test_a_weight_is_the_probability_per_token() -> None:
    assert weight_of(0.0) == weight_of(None) == 1.0
    assert weight_of(-1.0) == pytest.approx(0.36788, abs=1e-5)


def test_weights_that_fit_no_answer_are_refused() -> None:
    with pytest.raises(ValueError, match="2 answers have 1"):
        tally(["a", "b"], [1.0])
    with pytest.raises(ValueError, match=r"1\.5"):
        tally(["a"], [1.5])


answers_strategy = st.lists(st.sampled_from(["a", "b", "c", None]), max_size=5)


@given(answers_strategy, st.integers(0, 3))
def test_a_decided_vote_is_changed_by_nothing_that_may_still_come(
    answers: list[str | None], num_left: int
) -> None:
    votes = tally(answers)
    rest = itertools.product(["a", "b", "c", "d", None], repeat=num_left)
    winners = {(tally([*answers, *more]) or (None,))[0] for more in rest}
    names = {vote.answer if vote else None for vote in winners}
    if is_decided(votes, num_left) and votes:
        assert names == {votes[0].answer}


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1)), min_size=1, max_size=5),
    st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 1)), max_size=3),
)
def test_a_decided_weighted_vote_stays_decided(
    seen: list[tuple[str, float]], more: list[tuple[str, float]]
) -> None:
    def weighed(pairs: list[tuple[str, float]]) -> tuple[Vote, ...]:
        return tally([a for a, _ in pairs], [w for _, w in pairs], is_weighted=True)

    votes = weighed(seen)
    if is_decided(votes, len(more), is_weighted=True):
        assert weighed([*seen, *more])[0].answer == votes[0].answer


def test_a_majority_ends_the_vote_before_all_have_spoken() -> None:
    assert is_decided(tally(["a"] * 5), num_left=3)
    assert not is_decided(tally(["a"] * 4), num_left=4)
    assert not is_decided((), num_left=1)
    assert is_decided((), num_left=0)
