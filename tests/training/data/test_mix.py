"""Mixing follows T5's formulas and a seed, and nothing else."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from localsmith.core.types import Message
from localsmith.training.data.mix import MixRecipe, mixed, rates
from localsmith.training.data.rows import TrainingRow

SIZES = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 40), min_size=1)
RECIPES = st.builds(
    MixRecipe,
    cap=st.none() | st.integers(1, 50),
    temperature=st.floats(1, 100),
    num_rows=st.none() | st.integers(1, 200),
)


def rows_of(sizes: dict[str, int]) -> list[TrainingRow]:
    return [
        TrainingRow((Message("user", f"{task} {i}"), Message("assistant", "x")), task, f"{task}:{i}")
        for task, size in sizes.items()
        for i in range(size)
    ]


def test_examples_proportional_mixing_with_a_cap() -> None:
    """r_m = min(e_m, K) / sum of min(e_n, K), by hand for e = 100, 1000, 10 and K = 200."""
    found = rates({"a": 100, "b": 1000, "c": 10}, MixRecipe(cap=200))
    assert found == pytest.approx({"a": 100 / 310, "b": 200 / 310, "c": 10 / 310})


def test_temperature_takes_the_root_and_renormalises() -> None:
    found = rates({"a": 100, "b": 400}, MixRecipe(temperature=2))
    assert found == pytest.approx({"a": 10 / 30, "b": 20 / 30})
    assert rates({"a": 1, "b": 10**6}, MixRecipe(temperature=10**6))["a"] == pytest.approx(0.5, abs=1e-4)


def test_a_weight_counts_the_rows_of_a_task_more_often_and_leaves_the_others() -> None:
    rows = rows_of({"a": 10, "b": 30, "c": 40})
    chosen, shares = mixed(rows, MixRecipe(caps={"b": 20}, weights={"a": 2.0, "c": 0.5}), 7)
    assert {share.task: share.num_after for share in shares} == {"a": 20, "b": 20, "c": 20}
    assert {share.task: share.num_repeats for share in shares} == {"a": 10, "b": 0, "c": 0}
    assert Counter(row.task for row in chosen) == {"a": 20, "b": 20, "c": 20}
    assert rates({"a": 10, "b": 10}, MixRecipe(weights={"a": 3.0}, num_rows=8)) == {"a": 0.75, "b": 0.25}


def test_a_weight_of_a_task_that_no_row_is_of_is_refused() -> None:
    with pytest.raises(ValueError, match="no row is of the task 'summaries'; there are 'a'"):
        mixed(rows_of({"a": 3}), MixRecipe(weights={"summaries": 2.0}), 7)


@settings(max_examples=100, deadline=None)
@given(SIZES, RECIPES, st.integers(0, 9))
def test_the_mixture_adds_up_and_repeats_no_more_than_it_must(
    sizes: dict[str, int], recipe: MixRecipe, seed: int
) -> None:
    rows = rows_of(sizes)
    chosen, shares = mixed(rows, recipe, seed)
    total = recipe.num_rows or sum(min(size, recipe.cap or size) for size in sizes.values())
    assert len(chosen) == sum(share.num_after for share in shares) == total
    assert {share.task: share.num_before for share in shares} == sizes
    by_task = Counter(row.task for row in chosen)
    for share in shares:
        assert by_task[share.task] == share.num_after
        assert abs(share.num_after - total * rates(sizes, recipe)[share.task]) < 1
        times = Counter(row.id for row in chosen if row.task == share.task)
        assert sum(number - 1 for number in times.values()) == share.num_repeats
        if times and (share.num_repeats or len(times) == sizes[share.task]):
            assert max(times.values()) - min(times.values()) <= 1


@settings(max_examples=50, deadline=None)
@given(SIZES, RECIPES, st.randoms())
def test_the_same_rows_in_any_order_give_the_same_mixture(
    sizes: dict[str, int], recipe: MixRecipe, random: object
) -> None:
    rows = rows_of(sizes)
    other = list(rows)
    random.shuffle(other)  # type: ignore[attr-defined]
    assert mixed(rows, recipe, 7) == mixed(other, recipe, 7)


def test_another_seed_gives_another_choice_and_order() -> None:
    rows = rows_of({"a": 40})
    one, other = (mixed(rows, MixRecipe(cap=20), seed)[0] for seed in (1, 2))
    assert set(one) != set(other)
    assert mixed(rows, MixRecipe(), 1)[0] != rows


@pytest.mark.parametrize(
    "values", [{"cap": 0}, {"temperature": 0.5}, {"temperature": float("nan")}, {"num_rows": 0}]
)
def test_what_is_no_mixture_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(values))} must be at least 1"):
        MixRecipe(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"caps": {"a": 0}}, "the cap of a must be at least 1, not 0"),
        ({"weights": {"a": 0.0}}, "the weight of a must be above 0"),
        ({"weights": {"a": float("inf")}}, "the weight of a must be above 0"),
    ],
)
def test_a_cap_or_weight_of_a_task_that_is_none_is_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MixRecipe(**values)  # type: ignore[arg-type]
