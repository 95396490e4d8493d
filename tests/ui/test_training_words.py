"""Training runs in words and pictures, without a browser."""

from __future__ import annotations

import dataclasses

import pytest
from localsmith.ui import memory_picture, training_words
from localsmith.ui.training_plots import losses_plot, smoothed, thinned

from localsmith.training_check import MemoryFacts
from localsmith.training_view import RunView

VIEW = RunView(
    run_id="mine",
    kind="sft",
    base="tiny",
    method="lora",
    created_at=0.0,
    phase="running",
    stage="training",
    stage_words="loss 2.310",
    stage_done=12,
    stage_total=240,
    eta_s=93.0,
    step=12,
    num_steps=240,
    error="",
    hint="",
    said="",
    figures={},
    config={},
)


def test_what_a_run_is_doing_has_step_and_time_left() -> None:
    assert training_words.doing(VIEW) == "Training: step 12 of 240 · about 1 min 33 s left"
    html = training_words.status_line(VIEW, "<mine>")
    assert "&lt;mine&gt;" in html and "loss 2.310" in html and "width:5.0%" in html


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"phase": "starting", "stage": ""}, "Starting: the libraries are loaded"),
        ({"phase": "stopping"}, "Stopping after the step at hand; what was trained is kept"),
        ({"stage": "encoding", "stage_done": 9, "stage_total": 9}, "Loading the base"),
        ({"stage": "encoding", "stage_total": 99, "eta_s": None}, "Counting tokens: 12 of 99"),
        ({"stage": "export: verifying", "eta_s": 5.0}, "Export: verifying · about 5.0 s left"),
        ({"stage": "something new", "stage_total": 0, "eta_s": None}, "Something new"),
    ],
)
def test_every_stage_is_said_in_words(changes: dict[str, object], said: str) -> None:
    assert training_words.doing(dataclasses.replace(VIEW, **changes)) == said  # type: ignore[arg-type]


def test_what_ended_early_says_how_to_go_on_and_where_it_stands() -> None:
    for phase in ("interrupted", "stopped", "failed"):
        text = training_words.what_next(dataclasses.replace(VIEW, phase=phase))  # type: ignore[arg-type]
        assert text.endswith("It stands at step 12 of 240.")
    assert training_words.what_next(dataclasses.replace(VIEW, phase="finished")) == ""


def test_a_lower_loss_and_a_higher_rouge_are_better() -> None:
    figures = {
        "rouge_l_before": 21.0,
        "rouge_l_after": 29.5,
        "held_out_loss_before": 2.0,
        "held_out_loss_after": 2.5,
        "words_mean_before": 8.0,
        "words_mean_after": 9.0,
    }
    html = training_words.figures_table(figures)
    assert '<td class="ls-better">+8.5</td>' in html
    assert '<td class="ls-worse">+0.500</td>' in html
    assert '<td class="">+1.0</td>' in html
    assert training_words.figures_table({"first_loss": 2.0}) == ""


def test_the_memory_picture_shows_every_part_and_where_memory_ends() -> None:
    parts = (("weights", 600), ("gradients", 200), ("<new>", 200))
    fits = MemoryFacts(parts, "turn", 1000, 4000, "this machine", False)
    html = memory_picture.bar(fits)
    assert "flex-grow:600" in html and "flex-grow:3000" in html and "&lt;new&gt;" in html
    assert "ls-mem-limit" not in html and "fits" in memory_picture.legend(fits)
    too_large = dataclasses.replace(fits, free_bytes=250)
    assert "left:25.0%" in memory_picture.bar(too_large)
    assert "does not fit" in memory_picture.legend(too_large)


def test_curves_are_smoothed_thinned_and_told_apart() -> None:
    series = [(step, float(step % 2)) for step in range(1, 2001)]
    assert [step for step, _ in smoothed(series)] == [step for step, _ in series]
    assert all(abs(value - 0.5) < 0.05 for _, value in smoothed(series)[100:-100])
    assert len(thinned(series)) <= 400 and thinned(series)[-1] == series[-1]
    assert thinned(series[:3]) == series[:3] and thinned([]) == []
    colours = losses_plot({"a": series, "b": series})["encoding"]["color"]["scale"]
    assert colours["domain"] == ["a", "b"] and len(set(colours["range"])) == 2
