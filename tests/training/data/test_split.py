"""No held-out row was nearly trained on, now or in any later version."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from localsmith.core.types import Message
from localsmith.training.data.contamination import contamination
from localsmith.training.data.rows import TrainingRow
from localsmith.training.data.shingles import jaccard, row_shingles
from localsmith.training.data.sources import FileSource, import_source
from localsmith.training.data.split import Split, clusters, prompt_key, split
from localsmith.training.data.task_template import load_template

DATA = Path(__file__).parents[2] / "data" / "training"


def row(prompt: str, completion: str = "yes", group: str = "") -> TrainingRow:
    return TrainingRow((Message("user", prompt), Message("assistant", completion)), "t", group=group)


def halved(rows: Sequence[TrainingRow], seed: int = 7) -> Split:
    return split(rows, held_out_share=0.5, seed=seed)


def text(base: int, change: int | None) -> str:
    """A text of 100 words of its own; a change of one word leaves 95 of 105 5-grams, a Jaccard of 0.9."""
    words = [f"b{base}w{i}" for i in range(100)]
    if change is not None:
        words[change] = "changed"
    return " ".join(words)


ROWS = st.lists(
    st.builds(
        row,
        st.builds(text, st.integers(0, 5), st.none() | st.integers(0, 99)),
        st.sampled_from(["yes", "no"]),
        st.sampled_from(["", "", "g1", "g2"]),
    ),
    max_size=14,
)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(0, 5))
def test_near_rows_are_on_one_side(rows: list[TrainingRow], seed: int) -> None:
    parts = halved(rows, seed)
    assert sorted(map(id, (*parts.train, *parts.held_out))) == sorted(map(id, rows))
    for one, other in itertools.product(parts.train, parts.held_out):
        assert jaccard(row_shingles(one), row_shingles(other)) < 0.8
        assert prompt_key(one) != prompt_key(other)
        assert not one.group or one.group != other.group


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS, st.randoms(), st.integers(0, 5))
def test_a_row_once_trained_on_is_never_held_out(
    old: list[TrainingRow], new: list[TrainingRow], random: object, seed: int
) -> None:
    """Wherever new rows stand; and an old held-out row changes sides only together with its cluster."""
    before = halved(old, seed)
    rows = [*old, *new]
    random.shuffle(rows)  # type: ignore[attr-defined]
    after = halved(rows, seed)
    assert not set(before.train) & set(after.held_out)
    roots = dict(zip(map(id, rows), clusters(rows), strict=True))
    joined = {roots[id(added)] for added in new}
    for item in before.held_out:
        if roots[id(item)] not in joined:
            assert item in after.held_out


@settings(max_examples=30, deadline=None)
@given(ROWS, st.randoms())
def test_order_does_not_matter(rows: list[TrainingRow], random: object) -> None:
    other = list(rows)
    random.shuffle(other)  # type: ignore[attr-defined]
    assert set(halved(rows).held_out) == set(halved(other).held_out)


def test_about_the_share_is_held_out_and_another_seed_holds_out_others() -> None:
    rows = [row(text(i, None), str(i)) for i in range(400)]
    parts = split(rows, held_out_share=0.1, seed=7)
    assert 20 <= len(parts.held_out) <= 60  # 40 expected, standard deviation 6
    assert (parts.num_clusters, parts.largest_cluster) == (400, 1)
    assert split(rows, held_out_share=0.1, seed=8).held_out != parts.held_out
    assert split(rows, held_out_share=0.0, seed=7).held_out == ()


def test_clusters_reach_over_any_number_of_links() -> None:
    steps = [row(" ".join(f"w{i}" for i in range(start, start + 100))) for start in range(0, 100, 5)]
    assert jaccard(row_shingles(steps[0]), row_shingles(steps[-1])) < 0.1
    assert clusters(steps) == [0] * 20
    assert clusters([*steps[:1], row("something else"), *steps[1:]])[1] == 1


def test_the_same_question_with_another_answer_stays_with_it() -> None:
    first = row("What is the capital of Peru?", "Lima")
    assert clusters([first, row("what is the capital of peru", "It is Lima, I think.")]) == [0, 0]


def test_wordings_of_one_real_record_are_never_parted() -> None:
    template = load_template("summarization")
    rows = import_source(FileSource(DATA / "dialogsum.jsonl", template=template, wording="all"), 7).rows
    parts = halved(rows)
    assert parts.held_out
    assert not {item.group for item in parts.train} & {item.group for item in parts.held_out}


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_that_leaves_nothing_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="held_out_share"):
        split([], held_out_share=share, seed=7)


def test_a_split_is_not_contaminated_but_a_copied_row_is_found() -> None:
    rows = import_source(FileSource(DATA / "dialogsum.jsonl"), 7).rows
    parts = halved(rows)
    assert contamination(parts.held_out, parts.train) == []
    copied = parts.held_out[0]
    reworded = row(copied.own_prompt, "A summary in other words.")
    found = contamination([copied], [*parts.train, reworded])
    assert [(overlap.held_out, overlap.train) for overlap in found] == [(copied, reworded)]
    assert found[0].is_same_prompt
    assert found[0].jaccard == jaccard(row_shingles(copied), row_shingles(reworded))


def test_real_near_duplicates_are_contamination() -> None:
    rows = import_source(FileSource(DATA / "dialogsum.jsonl"), 7).rows
    near = {"dialogsum.jsonl:15", "dialogsum.jsonl:16"}
    found = contamination(
        [item for item in rows if item.source in near], [item for item in rows if item.source not in near]
    )
    assert [overlap.train.source for overlap in found] == ["dialogsum.jsonl:14", "dialogsum.jsonl:13"]
