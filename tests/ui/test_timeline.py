"""Timeline and comparison as values: nothing foreign gets through, nothing is lost or drawn outside."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st
from localsmith.core.trace_rows import flat
from localsmith.core.types import Answer, Step, Usage
from localsmith.ui.timeline import MAX_ROWS, span_s, timeline
from localsmith.ui.trace_compare import aligned
from localsmith.ui.trace_link import trace_url

HOSTILE = '"><script>alert(1)</script><img src=http://192.0.2.1/x onerror=alert(1)>'


class Tags(HTMLParser):
    """Which elements and attributes a text makes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.words += data


def run(*steps: Step, duration_s: float = 2.0) -> Answer:
    return Answer("", "answered", steps=steps, duration_s=duration_s)


def test_a_bar_stands_where_its_step_was() -> None:
    inner = Step("sample", "One", 0.5, Usage(10, 5, 2, 0.1, 0.25, 0.25), 1.0)
    drawn = timeline(
        run(Step("search", "Found", 0.5, None, 0.0), Step("plan", "Two", 1.5, None, 0.5, steps=(inner,)))
    )
    places = re.findall(r"left:([\d.]+)%;width:([\d.]+)%", drawn)
    assert [(float(left), float(width)) for left, width in places] == [(0, 25), (25, 75), (50, 25)]
    assert "ls-kind-sample" in drawn and "10 read (50% cached), 2 written" in drawn
    assert 'class="ls-tl-read" style="width:50.0%"' in drawn


def test_two_runs_over_the_same_time_can_be_compared() -> None:
    drawn = timeline(run(Step("search", "Found", 1.0), duration_s=1.0), total_s=4.0)
    assert "left:0.000%;width:25.000%" in drawn


@settings(deadline=None)
@given(
    begun_s=st.floats(-1e12, 1e12),
    duration_s=st.floats(-1e12, 1e12),
)
def test_no_bar_leaves_the_picture(begun_s: float, duration_s: float) -> None:
    drawn = timeline(run(Step("tool", "x", duration_s, None, begun_s)))
    [(left, width)] = re.findall(r"left:([\d.]+)%;width:([\d.]+)%", drawn)
    assert float(left) + float(width) <= 100.002


@settings(deadline=None)
@given(text=st.text() | st.just(HOSTILE))
def test_a_steps_words_are_shown_and_never_obeyed(text: str) -> None:
    found = Tags(timeline(run(Step("tool", text, 1.0, is_error=True))))
    assert found.names <= {"div", "span", "small", "i", "b", "p"}
    assert found.attributes <= {"class", "style", "role", "title", "aria-label", "aria-hidden"}


def test_a_steps_words_are_shown() -> None:
    assert HOSTILE in Tags(timeline(run(Step("tool", HOSTILE, 1.0)))).words


def test_a_run_of_very_many_steps_stays_bearable() -> None:
    drawn = timeline(run(*(Step("tool", "x", 0.1, None, 0.1 * n) for n in range(5000))))
    assert drawn.count("ls-tl-bar") == MAX_ROWS
    assert "4,600 more steps" in drawn


def test_a_run_without_steps_or_time_can_be_drawn() -> None:
    assert "0 steps" in timeline(run(duration_s=0.0))
    assert span_s(run(duration_s=0.0)) > 0


def kinds(*names: str) -> list[tuple[int, Step]]:
    return [(0, Step(name, str(n), 0.1)) for n, name in enumerate(names)]  # type: ignore[arg-type]


def test_steps_of_the_same_kind_stand_beside_each_other() -> None:
    pairs = aligned(kinds("search", "budget", "generate"), kinds("rewrite", "search", "generate", "check"))
    assert [(a and a[1].kind, b and b[1].kind) for a, b in pairs] == [
        (None, "rewrite"), ("search", "search"), ("budget", None), ("generate", "generate"), (None, "check"),
    ]  # fmt: skip


@settings(deadline=None)
@given(
    first=st.lists(st.sampled_from(["search", "tool", "generate"]), max_size=12),
    second=st.lists(st.sampled_from(["search", "tool", "generate"]), max_size=12),
)
def test_every_step_stands_in_the_comparison_once_and_in_order(first: list[str], second: list[str]) -> None:
    a, b = kinds(*first), kinds(*second)
    pairs = aligned(a, b)
    assert [left for left, _ in pairs if left] == a
    assert [right for _, right in pairs if right] == b
    assert all(left[1].kind == right[1].kind for left, right in pairs if left and right)


def test_the_tree_is_read_from_the_outside_in() -> None:
    tree = (Step("plan", "a", 1, steps=(Step("tool", "b", 1), Step("tool", "c", 1))), Step("vote", "d", 1))
    assert [(depth, step.summary) for depth, step in flat(tree)] == [(0, "a"), (1, "b"), (1, "c"), (0, "d")]


def test_the_address_of_a_trace_holds_it_whole() -> None:
    assert trace_url("a b&c", "d") == "/traces?trace=a+b%26c&compare=d"
    assert trace_url("a", base="http://127.0.0.1:8501/") == "http://127.0.0.1:8501/traces?trace=a"
