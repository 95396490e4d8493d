"""The arithmetic of the engine's benchmark: order, medians, ratios, time left, targets, merging."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

SPEEDS = st.lists(st.floats(0.1, 1000), min_size=5, max_size=9)


def test_every_contender_goes_first_equally_often() -> None:
    from benchmarks.engine.rounds import order

    firsts = [order(["a", "b", "c"], index)[0] for index in range(6)]
    assert firsts == ["a", "b", "c"] * 2
    assert all(sorted(order(["a", "b", "c"], index)) == ["a", "b", "c"] for index in range(6))


@given(SPEEDS)
def test_a_ratio_is_that_of_the_medians_and_its_quartiles_enclose_equal_rounds(speeds: list[float]) -> None:
    from benchmarks.engine.rounds import Spread, ratio

    doubled = ratio([2 * speed for speed in speeds], speeds)
    assert (doubled.median, doubled.q1, doubled.q3) == pytest.approx((2, 2, 2))
    spread = Spread.of(speeds)
    assert spread.median == pytest.approx(median(speeds))
    assert spread.q1 <= spread.median <= spread.q3


def test_rounds_interleave_and_say_how_long_the_rest_takes() -> None:
    from benchmarks.engine.rounds import Rounds

    ran: list[tuple[str, int]] = []
    lines: list[str] = []

    def contender(name: str):  # noqa: ANN202 - a closure for this test
        def run(index: int) -> dict[str, float]:
            ran.append((name, index))
            return {"value": float(index)}

        return run

    rounds = Rounds(2, {"w": ["a", "b"]}, lines.append)
    raw = rounds.run("w", {"a": contender("a"), "b": contender("b")}, "s")
    assert ran == [("a", 0), ("b", 0), ("b", 1), ("a", 1)]
    assert [run["value"] for run in raw["a"]] == [0.0, 1.0]
    assert all(run["foreign_cores"] >= 0 for run in raw["a"] + raw["b"])
    assert len(lines) == 4
    assert "left" in lines[0]


def test_time_left_counts_kinds_that_have_not_run_as_the_others() -> None:
    from benchmarks.engine.rounds import Eta

    eta = Eta({("w", "a"): 3, ("w", "b"): 2})
    assert eta.left_s() == 0
    eta.ran(("w", "a"), 10)
    assert eta.left_s() == 2 * 10 + 2 * 10
    eta.ran(("w", "b"), 1)
    assert eta.left_s() == 2 * 10 + 1 * 1


def test_targets_are_missed_from_the_right_side() -> None:
    from benchmarks.engine.report import TARGETS, misses

    met = {name: target.value for name, target in TARGETS.items()}
    assert misses(met) == []
    for name, target in TARGETS.items():
        worse = met | {name: target.value * (1.01 if target.is_upper else 0.99)}
        assert len(misses(worse)) == 1
        assert name in misses(worse)[0]


def details(workloads: dict[str, object], sha256: str = "a") -> dict[str, object]:
    return {"model": {"sha256": sha256}, "workloads": workloads}


def test_a_run_of_one_workload_keeps_the_others_of_the_same_model_only() -> None:
    from benchmarks.engine.report import merged

    earlier = {"figures": {"busy_x": 1.0, "react_y": 2.0}, "details": details({"busy": 1, "react": 2})}
    new = merged(earlier, {"react_y": 3.0}, details({"react": 4}))
    assert new["figures"] == {"busy_x": 1.0, "react_y": 3.0}
    assert new["details"]["workloads"] == {"busy": 1, "react": 4}
    other = merged(earlier, {"react_y": 3.0}, details({"react": 4}, "b"))
    assert other["figures"] == {"react_y": 3.0}


def test_the_figures_of_the_workloads_are_those_the_targets_and_the_plot_ask_for(tmp_path: Path) -> None:
    from benchmarks.engine import report
    from benchmarks.engine.react import react_figures
    from benchmarks.engine.setup import LLAMA_CPP_PYTHON_SERVER, LLAMA_IN_TURN, LLAMA_SERVER, OURS
    from benchmarks.engine.stall import stall_figures
    from benchmarks.engine.workloads import CACHED, FRESH, busy_figures, clients8_figures, samples8_figures

    def runs(*values: float, **more: object) -> list[dict[str, object]]:
        return [{"value": value, **more} for value in values]

    spent = {"decode_s": 9.0, "busy_s": 10.0, "seconds": 10.0, "completion_tokens": [50, 50]}
    waits = {"first_token_s": [1.0, 2.0]}
    figures = clients8_figures(
        {
            OURS: runs(40, 42, 44, **waits),
            LLAMA_CPP_PYTHON_SERVER: runs(20, 21, 22, **waits),
            LLAMA_SERVER: runs(40, 42, 44, **waits),
        }
    )
    figures |= samples8_figures({OURS: runs(10, 11, 12), LLAMA_IN_TURN: runs(50, 55, 60)})
    figures |= react_figures({CACHED: runs(1, 1, 1, share_computed=0.1), FRESH: runs(6, 6, 6)})
    figures |= busy_figures({OURS: runs(0.98, 0.98, 0.98, **spent)})
    pauses = {"median": 1.7, "p99": 1.9, "longest": 2.1, "alone_p95": 1.1, "reading_s": 60.0}
    figures |= stall_figures({OURS: runs(1.8, 1.8, 1.9, **pauses)})
    assert figures["clients8_vs_llama_cpp_python_server"] == pytest.approx(2)
    assert figures["clients8_vs_llama_server"] == pytest.approx(1)
    assert figures["samples8_vs_llama_in_turn"] == pytest.approx(5)
    assert figures["react_first_token_speedup"] == pytest.approx(6)
    assert set(report.TARGETS) <= set(figures)
    assert report.misses(figures) == []
    assert report.table(figures).count(" ok") == len(report.TARGETS)
    report.draw(figures, "a test", tmp_path / "engine.png")
    assert (tmp_path / "engine.png").read_bytes().startswith(b"\x89PNG")


def test_each_step_but_the_first_is_compared_in_turn() -> None:
    from benchmarks.engine.react import compared_step

    assert [compared_step(index, 6) for index in range(6)] == [1, 2, 3, 4, 5, 1]


def test_no_text_is_handed_out_twice() -> None:
    from benchmarks.engine.prompts import Paragraphs

    text = Paragraphs(["one two three", "four five six"])
    taken = [text.take(3) for _ in range(6)]
    assert taken[:2] == ["one two three", "four five six"]
    assert len(set(taken)) == 6


def test_our_own_work_is_not_counted_as_that_of_other_programs() -> None:
    import time

    from benchmarks.engine.conditions import ForeignLoad, own_cpu_s

    before = own_cpu_s()
    with ForeignLoad() as load:
        until = time.process_time() + 0.3  # processor time: the machine may be busy
        while time.process_time() < until:
            pass
    assert own_cpu_s() - before == pytest.approx(0.3, abs=0.15)
    assert 0 <= load.cores < 64


def test_results_are_written_with_their_rounds_and_only_when_they_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import argparse
    import json

    from benchmarks.engine import __main__ as command
    from benchmarks.engine.setup import Setup, Sizes

    monkeypatch.setattr(command, "RESULTS", tmp_path)
    gguf = tmp_path / "m.gguf"
    gguf.write_bytes(b"GGUF")
    raw = {"busy": {"rounds": {"localsmith": [{"value": 0.5, "foreign_cores": 0.0}] * 5}}}
    details = command._details(Setup(gguf, "m", "abc", n_threads=2), Sizes(), raw)
    figures = {"busy_share_in_decode_and_sampling": 0.5}
    arguments = argparse.Namespace(quick=True, rounds=5)
    assert command._report(arguments, figures, details) == 0
    assert not (tmp_path / "engine.json").exists()
    arguments.quick = False
    assert command._report(arguments, figures, details) == 1, "the target is missed"
    written = json.loads((tmp_path / "engine.json").read_text())
    assert written["figures"] == figures
    assert written["details"]["workloads"] == raw
    assert written["details"]["model"]["sha256"] == "abc"
    assert (tmp_path / "engine.png").exists()
