"""Two runs side by side: times, tokens, answers, and step by step where they differ.

Place in the data's way: two `Trace`s -> Streamlit elements of the Traces page.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from itertools import zip_longest

import streamlit as st

from ..core.trace_rows import Trace, flat
from ..core.types import Step
from . import budget_picture, words
from .text import escaped
from .timeline import name_of, span_s, timeline
from .trace_view import facts_of, show_answer_text, status_of, title_of

Placed = tuple[int, Step]
Pair = tuple[Placed | None, Placed | None]


def show_comparison(first: Trace, second: Trace) -> None:
    """Show two runs side by side."""
    st.html('<h1 class="ls-title ls-left">Two runs compared</h1>' + _totals(first, second))
    total_s = max(span_s(first.answer), span_s(second.answer))
    for mark, trace in (("A", first), ("B", second)):
        st.html(
            f'<h6 class="ls-run-mark">{mark} · {escaped(title_of(trace.info))}</h6>'
            f'<div class="ls-meta"><span>{escaped(facts_of(trace.info))}</span></div>'
            f"{timeline(trace.answer, total_s)}"
        )
    st.markdown("**Step by step**")
    st.html(_step_table(first, second))
    budgets = [trace.answer.budget for trace in (first, second)]
    if any(budget is not None for budget in budgets):
        st.markdown("**How the context window was spent**")
        for column, budget in zip(st.columns(2, gap="medium"), budgets, strict=True):
            with column:
                if budget is None:
                    st.caption("No budget was kept.")
                else:
                    st.html(budget_picture.bar(budget) + budget_picture.legend(budget))
    st.markdown("**Answers**")
    for column, trace in zip(st.columns(2, gap="medium"), (first, second), strict=True):
        with column, st.container(border=True):
            show_answer_text(trace.answer)


def aligned(first: Sequence[Placed], second: Sequence[Placed]) -> list[Pair]:
    """Return the steps of both runs in order, those of the same kind and depth beside each other.

    Args:
        first: (depth, step) of the first run, as `flat` yields them.
        second: The same of the second.
    """
    pairs: list[Pair] = []
    keys = [[(depth, step.kind) for depth, step in steps] for steps in (first, second)]
    matcher = difflib.SequenceMatcher(None, keys[0], keys[1], autojunk=False)
    for what, begin_a, end_a, begin_b, end_b in matcher.get_opcodes():
        if what == "equal":
            pairs += list(zip_longest(first[begin_a:end_a], second[begin_b:end_b]))
        else:
            pairs += [(placed, None) for placed in first[begin_a:end_a]]
            pairs += [(None, placed) for placed in second[begin_b:end_b]]
    return pairs


def _totals(first: Trace, second: Trace) -> str:
    one, other = first.info, second.info
    waits = first.answer.time_to_first_text_s, second.answer.time_to_first_text_s
    rows = [
        _words("Strategy", one.strategy, other.strategy),
        _words("Ended", status_of(one), status_of(other)),
        _words("Model", one.model, other.model),
        _numbers("Took", one.duration_s, other.duration_s, words.duration),
        _numbers("First word after", *waits, words.duration),
        _numbers("Tokens read", one.prompt_tokens, other.prompt_tokens, _whole),
        _numbers("of them cached", one.cached_tokens, other.cached_tokens, _whole),
        _numbers("Tokens written", one.completion_tokens, other.completion_tokens, _whole),
        _numbers("Steps", one.num_steps, other.num_steps, _whole),
    ]
    head = "<thead><tr><th></th><th>A</th><th>B</th><th>B less A</th></tr></thead>"
    return f'<table class="ls-compare">{head}<tbody>{"".join(rows)}</tbody></table>'


def _words(name: str, first: str, second: str) -> str:
    mark = "" if first == second else "differs"
    return _cells(name, first or "–", second or "–", mark)


def _numbers(name: str, first: float, second: float, told: Callable[[float], str]) -> str:
    return _cells(name, told(first), told(second), _difference(first, second, told))


def _difference(first: float, second: float, told: Callable[[float], str]) -> str:
    if told(first) == told(second):
        return "="
    sign = "+" if second > first else "−"
    share = f" ({(second - first) / first:+.0%})" if first else ""
    return f"{sign}{told(abs(second - first))}{share}"


def _whole(number: float) -> str:
    return f"{number:,.0f}"


def _cells(*texts: str) -> str:
    return "<tr>" + "".join(f"<td>{escaped(text)}</td>" for text in texts) + "</tr>"


def _step_table(first: Trace, second: Trace) -> str:
    pairs = aligned(list(flat(first.answer.steps)), list(flat(second.answer.steps)))
    rows = "".join(
        f'<tr class="{"" if a and b else "ls-only"}">{_step_cell(a)}{_step_cell(b)}'
        f"<td>{escaped(_step_difference(a, b))}</td></tr>"
        for a, b in pairs
    )
    head = "<thead><tr><th>A</th><th>B</th><th>B less A</th></tr></thead>"
    return f'<table class="ls-compare ls-steps">{head}<tbody>{rows}</tbody></table>'


def _step_cell(placed: Placed | None) -> str:
    if placed is None:
        return "<td></td>"
    depth, step = placed
    failed = ' <b class="ls-tl-failed">failed</b>' if step.is_error else ""
    indent = f"{min(depth, 8) * 0.8:.1f}rem"
    return (
        f'<td><div style="padding-left:{indent}"><i class="ls-kind-{escaped(step.kind)}"></i>'
        f"{escaped(name_of(step))} {words.duration(step.duration_s)}{failed}"
        f"<small>{escaped(step.summary)}</small></div></td>"
    )


def _step_difference(first: Placed | None, second: Placed | None) -> str:
    if first is None or second is None:
        return "only in B" if first is None else "only in A"
    a, b = first[1], second[1]
    parts = [_difference(a.duration_s, b.duration_s, words.duration)]
    if a.usage is not None and b.usage is not None:
        for name, one, other in (
            ("read", a.usage.prompt_tokens, b.usage.prompt_tokens),
            ("cached", a.usage.cached_tokens, b.usage.cached_tokens),
            ("written", a.usage.completion_tokens, b.usage.completion_tokens),
        ):
            parts += [f"{other - one:+,} {name}"] if one != other else []
    if a.output and b.output:
        parts.append("same words" if a.output == b.output else "other words")
    return ", ".join(parts)
