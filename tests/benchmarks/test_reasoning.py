"""The scoreboard says what was measured, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from benchmarks.reasoning.report import Measured

REQUIRED = (
    "gsm8k_direct",
    "gsm8k_cot",
    "gsm8k_cot_sc8",
    "gsm8k_pal",
    "gsm8k_pal_vote5",
    "gsmhard_cot",
    "gsmhard_pal",
    "hotpotqa_react_f1",
)
BIG, SMALL = "qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b"
SANDBOX = ("sandbox_warm_median_ms", "sandbox_cold_s")


def measured(
    value: float = 0.6, *, metric: str = "accuracy", tokens: float = 300.0, model: str = BIG
) -> Measured:
    from benchmarks.reasoning.report import Measured

    figures = {
        metric: value,
        f"{metric}_low": max(0.0, value - 0.1),
        f"{metric}_high": value + 0.1,
        "tokens_mean": tokens,
        "tokens_mean_low": tokens - 9,
        "tokens_mean_high": tokens + 9,
        "prompt_tokens_mean": 500.0,
        "cached_tokens_mean": 400.0,
        "completion_tokens_mean": tokens - 100,
        "seconds_per_question": 7.5,
        "no_answer_share": 0.02,
    }
    return Measured(model, 100, "2026-11-28", "a machine", "a command", figures, {"k": 5})


def tool_calls(num_bad: int = 0) -> Measured:
    figures = {f"react_malformed_calls{end}": float(num_bad) for end in ("", "_low", "_high")}
    return replace(measured(), model=SMALL, figures=figures | {"react_calls": 310.0})


def sandbox(warm_ms: float = 25.0) -> Measured:
    figures = {name + end: warm_ms for name in ("sandbox_warm_median_ms",) for end in ("", "_low", "_high")}
    figures |= {f"sandbox_cold_s{end}": 0.5 for end in ("", "_low", "_high")}
    return replace(measured(), model="", figures=figures)


def test_every_required_entry_is_measured_unless_told_otherwise() -> None:
    from benchmarks.reasoning.entries import ENTRIES, TARGETS
    from benchmarks.reasoning.report import names_of

    names = names_of("")
    assert set(REQUIRED) <= set(names) and names[-2:] == ["tool_calls", "sandbox"]
    assert names_of("gsm8k_cot,sandbox_cold_s,sandbox_warm_median_ms") == ["gsm8k_cot", "sandbox"]
    assert names_of("react_malformed_calls") == ["tool_calls"]
    assert set(names_of("all")) == {*ENTRIES, "tool_calls", "sandbox"}
    with pytest.raises(ValueError, match="gsm8k_magic"):
        names_of("gsm8k_magic")
    assert {target.name.removesuffix("_tokens") for target in TARGETS} <= {
        *ENTRIES,
        "react_malformed_calls",
        *SANDBOX,
    }


def test_results_are_read_back_as_written_with_intervals_tokens_and_seconds(tmp_path: Path) -> None:
    from benchmarks.reasoning.report import read, write

    path = tmp_path / "reasoning.json"
    assert read(path) == {}
    entries = {"gsm8k_cot": measured(0.58), "tool_calls": tool_calls(), "sandbox": sandbox()}
    figures = write(entries, "python -m benchmarks.reasoning", path)
    assert read(path) == entries
    assert json.loads(path.read_text())["figures"] == pytest.approx(figures)
    assert [figures[f"gsm8k_cot{end}"] for end in ("", "_low", "_high")] == pytest.approx([0.58, 0.48, 0.68])
    assert (figures["gsm8k_cot_tokens"], figures["gsm8k_cot_seconds"], figures["gsm8k_cot_n"]) == (
        300,
        7.5,
        100,
    )
    assert (figures["react_malformed_calls"], figures["react_calls"]) == (0, 310)
    assert figures["sandbox_warm_median_ms_low"] == 25


def test_another_models_figures_are_not_mixed_in() -> None:
    from benchmarks.reasoning.report import merged

    earlier = {
        "gsm8k_cot": measured(),
        "tool_calls": tool_calls(),
        "sandbox": sandbox(),
        "gone": measured(),
    }
    same = merged(earlier, {"gsm8k_pal": measured(0.7)}, BIG)
    assert list(same) == ["gsm8k_cot", "gsm8k_pal", "tool_calls", "sandbox"]
    again = merged(earlier, {"gsm8k_cot": measured(0.5)}, BIG)
    assert again["gsm8k_cot"].figures["accuracy"] == 0.5
    other = merged(earlier, {"gsm8k_pal": measured(0.7, model=SMALL)}, SMALL)
    assert list(other) == ["gsm8k_pal", "tool_calls", "sandbox"]


@pytest.mark.parametrize(
    ("name", "entries", "is_missed"),
    [
        ("gsm8k_cot", {"gsm8k_cot": 0.55}, False),
        ("gsm8k_cot", {"gsm8k_cot": 0.54}, True),
        ("gsm8k_cot_sc8", {"gsm8k_cot": 0.6, "gsm8k_cot_sc8": 0.6}, True),
        ("gsm8k_cot_sc8", {"gsm8k_cot": 0.6, "gsm8k_cot_sc8": 0.61}, False),
        ("gsm8k_cot_sc8", {"gsm8k_cot_sc8": 0.61}, None),
        ("gsmhard_pal", {"gsmhard_cot": 0.2, "gsmhard_pal": 0.31}, False),
        ("gsmhard_pal", {"gsmhard_cot": 0.2, "gsmhard_pal": 0.29}, True),
        ("gsm8k_auto", {"gsm8k_auto": 0.66, "gsm8k_cot": 0.6, "gsm8k_pal_vote5": 0.69}, True),
        ("gsm8k_auto", {"gsm8k_auto": 0.68, "gsm8k_cot": 0.6, "gsm8k_pal_vote5": 0.69}, False),
        ("gsm8k_auto_tokens", {"gsm8k_auto": 0.6, "gsm8k_pal_vote5": 0.6}, True),
    ],
)
def test_a_target_is_missed_by_the_figures_it_hangs_on(
    name: str, entries: dict[str, float], is_missed: bool | None
) -> None:
    from benchmarks.reasoning.entries import TARGETS
    from benchmarks.reasoning.report import flat_figures, misses

    figures = flat_figures({key: measured(value) for key, value in entries.items()})
    target = next(target for target in TARGETS if target.name == name)
    assert target.is_missed(figures) is is_missed
    assert any(line.startswith(name + " ") for line in misses(figures)) is bool(is_missed)


def test_the_page_says_what_is_missed_and_what_is_not_measured(tmp_path: Path) -> None:
    from benchmarks.reasoning.page import NOT_MEASURED, PAGE, scoreboard_text

    page = replace(PAGE, path=tmp_path / "page.md")
    page.path.write_text(PAGE.path.read_text(encoding="utf-8"), encoding="utf-8")
    entries = {"gsm8k_cot": measured(0.5), "svamp_cot": measured(0.9), "sandbox": sandbox(60.0)}
    page.write(scoreboard_text(entries))
    lines = {
        line.split("`")[1]: line for line in page.path.read_text().splitlines() if line.startswith("| `")
    }
    assert "0.500 (0.400 to 0.600)" in lines["gsm8k_cot"] and "**missed**" in lines["gsm8k_cot"]
    assert NOT_MEASURED in lines["gsm8k_pal"] and "missed" not in lines["gsm8k_pal"]
    assert "60.0" in lines["sandbox_warm_median_ms"] and "**missed**" in lines["sandbox_warm_median_ms"]
    assert "reached" in lines["sandbox_cold_s"]
    assert "svamp_cot" in lines and "strategyqa_cot" not in lines
    assert page.around() == PAGE.around()
    assert {*REQUIRED, "react_malformed_calls"} <= set(lines)
    page.path.write_text("a page of something else")
    with pytest.raises(ValueError, match="marks"):
        page.write(scoreboard_text(entries))


def test_the_page_in_the_repository_is_that_of_the_results() -> None:
    from benchmarks.reasoning.page import PAGE, scoreboard_text
    from benchmarks.reasoning.report import RESULTS, read

    assert scoreboard_text(read(RESULTS)) in PAGE.path.read_text(encoding="utf-8"), (
        "run `python -m benchmarks.reasoning --page`"
    )


def test_a_picture_is_drawn_of_what_there_is_and_none_of_nothing(tmp_path: Path) -> None:
    from benchmarks.reasoning.report import draw

    path = tmp_path / "reasoning.png"
    draw({"sandbox": sandbox()}, path)
    assert not path.exists()
    draw({"gsm8k_cot": measured(0.5), "gsm8k_pal": measured(0.7)}, path)
    assert path.read_bytes().startswith(b"\x89PNG")
