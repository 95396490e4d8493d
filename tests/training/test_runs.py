"""Runs on disk: names, states, locks, metrics that a kill cut off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.core.errors import TrainingError
from localsmith.training.runs.metrics import MetricsFile
from localsmith.training.runs.run_folder import RunFolder, list_runs, open_run


def test_a_run_is_found_again_with_its_config(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, "sft", {"base": "small"}, "first")
    assert open_run(tmp_path, "first").config == {"base": "small"}
    assert [run.run_id for run in list_runs(tmp_path)] == ["first"]


def test_a_name_that_is_taken_says_how_to_go_on(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, "sft", {}, "mine")
    with pytest.raises(TrainingError, match="already") as caught:
        RunFolder.create(tmp_path, "sft", {}, "mine")
    assert "resume mine" in caught.value.hint


@given(st.text(max_size=30))
def test_no_name_leads_out_of_the_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    runs = tmp_path_factory.mktemp("runs")
    try:
        run = RunFolder.create(runs, "sft", {}, name)
    except TrainingError:
        with pytest.raises(TrainingError):
            open_run(runs, name)
        return
    assert run.path.parent == runs


def test_a_run_is_held_by_one_process_only(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "sft", {}, "mine") as run:
        run.progress(3, 10)
        assert open_run(tmp_path, "mine").state.status == "running"
        with pytest.raises(TrainingError, match="another process"), open_run(tmp_path, "mine"):
            pass
    assert open_run(tmp_path, "mine").state.status == "interrupted"


def test_what_ended_a_run_is_its_state(tmp_path: Path) -> None:
    with pytest.raises(TrainingError), RunFolder.create(tmp_path, "sft", {}, "bad") as run:
        run.progress(3, 10)
        raise TrainingError("The loss is nan.")
    state = open_run(tmp_path, "bad").state
    assert (state.status, state.error, state.step) == ("failed", "The loss is nan.", 3)
    with RunFolder.create(tmp_path, "sft", {}, "good") as run:
        run.finish({"last_loss": 1.5})
    assert open_run(tmp_path, "good").state.figures == {"last_loss": 1.5}


def test_a_damaged_config_names_the_run_and_harms_no_other(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, "sft", {}, "whole")
    RunFolder.create(tmp_path, "sft", {}, "broken")
    (tmp_path / "broken" / "run.json").write_text("{")
    with pytest.raises(TrainingError, match="broken is damaged"):
        open_run(tmp_path, "broken")
    assert [run.run_id for run in list_runs(tmp_path)] == ["whole"]


@given(st.integers(0, 200))
def test_a_line_cut_off_anywhere_leaves_the_others(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("metrics") / "metrics.jsonl"
    metrics = MetricsFile(path)
    for step in (1, 2, 3):
        metrics.append(step, {"loss": 1.0 / step})
    whole = path.read_bytes()
    path.write_bytes(whole[: max(0, len(whole) - cut)])
    kept = metrics.series("loss")
    assert kept == [(step, 1.0 / step) for step in range(1, len(kept) + 1)]


def test_steps_that_a_resume_does_again_are_dropped(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    for step in range(1, 6):
        metrics.append(step, {"loss": float(step)})
    metrics.drop_after(3)
    metrics.append(4, {"loss": 40.0})
    assert metrics.series("loss") == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 40.0)]


def test_a_state_that_can_not_be_read_counts_as_interrupted(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "sft", {}, "mine")
    (run.path / "state.json").write_text(json.dumps({"unknown": 1}))
    assert run.state.status == "interrupted"
