"""Progress where there is no terminal: few lines, each with how far it is and the time left."""

from __future__ import annotations

import io

from rich.console import Console

from localsmith.stage_progress import StageLines, duration, stages


def test_a_stage_says_a_line_in_ten_seconds_at_most_with_the_time_left() -> None:
    now = 0.0
    written: list[tuple[float, str]] = []
    lines = StageLines(lambda line: written.append((now, line)), clock=lambda: now)
    for step in range(1, 401):
        now += 0.25
        lines.show("training", step, 400, "loss 1.2")
    times = [time for time, _ in written]
    assert len(times) == 10 and times[0] <= 1.5
    assert all(later - earlier >= 10 for earlier, later in zip(times, times[1:], strict=False))
    assert written[4][1] == "Training: 165 of 400, about 59 s left, loss 1.2"


def test_stages_have_lines_of_their_own_and_short_ones_none() -> None:
    now = 0.0
    written: list[str] = []
    lines = StageLines(written.append, clock=lambda: now)
    for stage in ("reading", "encoding"):
        for done in (0, 1):
            lines.show(stage, done, 1, "")
    assert written == []
    now = 5.0
    for stage in ("reading", "encoding"):
        lines.show(stage, 3, 0, "more")
    assert written == ["Reading: 3, more", "Encoding: 3, more"]


def test_a_console_that_is_no_terminal_gets_no_bars() -> None:
    output = io.StringIO()
    with stages(Console(file=output)) as on_stage:
        for done in range(100):
            on_stage("training", done, 100, "")
    assert output.getvalue() == ""
    with stages(Console(file=output, force_terminal=True, width=100)) as on_stage:
        on_stage("training", 50, 100, "loss 1.2")
    assert "Training" in output.getvalue() and "50/100" in output.getvalue()


def test_times_have_two_figures() -> None:
    assert [duration(s) for s in (0.4, 61, 100, 3599, 3600, 90_000, 10**9)] == [
        "0 s",
        "61 s",
        "1 min",
        "59 min",
        "1 h 0 min",
        "1 d 1 h",
        "11,574 days",
    ]
