"""The figures of training come from several benchmarks; each replaces its own and no other's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from localsmith.core.errors import EvaluationError
from localsmith.core.types import Message
from localsmith.training.data.rows import TrainingRow


def test_each_part_replaces_its_own_figures_and_no_others(tmp_path: Path) -> None:
    from benchmarks.training.results import add_figures

    path = tmp_path / "training.json"
    add_figures("rounds", {"speed": 1.2, "memory": 0.4}, command="one", details={"steps": 3}, path=path)
    add_figures("shards", {"share": 0.5}, command="two", path=path)
    add_figures("rounds", {"speed": 1.3}, command="three", path=path)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["figures"] == {"share": 0.5, "speed": 1.3}
    assert content["command"] == "two; three"
    rounds = content["details"]["rounds"]
    assert (rounds["command"], rounds["figures"], rounds["details"]) == ("three", ["speed"], {})
    assert rounds["machine"] and rounds["date"]


def test_a_figure_that_is_no_number_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    from benchmarks.training.results import add_figures

    path = tmp_path / "training.json"
    add_figures("shards", {"share": 0.5}, command="two", path=path)
    before = path.read_text(encoding="utf-8")
    with pytest.raises(EvaluationError, match="speed"):
        add_figures("rounds", {"speed": float("nan")}, command="one", path=path)
    assert path.read_text(encoding="utf-8") == before


def test_the_file_in_the_repository_says_where_each_figure_is_from() -> None:
    from benchmarks.training.results import RESULTS

    content = json.loads(RESULTS.read_text(encoding="utf-8"))
    named = [name for part in content["details"].values() for name in part["figures"]]
    assert sorted(named) == sorted(content["figures"])
    required = {"tokens_per_s_vs_trl", "peak_memory_vs_trl", "fsdp_memory_per_rank_share"}
    required |= {"rouge_l_gain_points", "rouge_l_served_minus_trainer", "estimate_error_share_max"}
    assert required <= set(named)


def test_the_served_file_is_compared_with_the_trainers_model_row_by_row() -> None:
    from benchmarks.training.served import compared

    def row(summary: str) -> TrainingRow:
        return TrainingRow((Message("user", "Summarize."), Message("assistant", summary)))

    good, bad = "Ann buys a red pear.", "It rains."
    figures, texts = compared(
        [row(good), row(good)], trainer=[bad, good], by_engine={"served": [good, good], "f16": [bad, good]}
    )
    assert [one["served_rouge_l"] - one["trainer_rouge_l"] for one in texts] == [100.0, 0.0]
    assert (figures["rouge_l_served"], figures["rouge_l_trainer"]) == (100, 50)
    assert figures["rouge_l_served_minus_trainer"] == 50 and figures["served_same_text_share"] == 0.5
    assert figures["rouge_l_f16_minus_trainer"] == 0 and figures["f16_same_text_share"] == 1
    low, high = (figures[f"rouge_l_served_minus_trainer_{end}"] for end in ("low", "high"))
    assert low < 50 < high and figures["served_num_rows"] == 2
