"""The steps of a run as they end, and after: plans, thoughts, programs with their output, calls, votes.

Place in the data's way: `RunView.steps` or `Answer.steps` -> HTML in which everything that a model, a
document or a tool wrote is text and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import streamlit as st

from ..agents.telling import is_telling
from ..core.types import Step
from . import words
from .text import escaped

MAX_CHARS = 4000
_NAMES = {
    "plan": "Plan",
    "generate": "Thought",
    "rewrite": "Rewritten",
    "sample": "Sample",
    "vote": "Vote",
    "program": "Program",
    "tool": "Tool",
    "remember": "Memory",
}
# What went in is worth reading for these; for the others it is the whole prompt, which the trace shows.
_WITH_INPUT = frozenset({"program", "tool"})
_VOTE = re.compile(r"(?P<answer>[^,]+?) \((?P<count>\d+) of (?P<total>\d+)\)(?:, |$)")


def show_live(steps: Sequence[Step]) -> None:
    """Show what has been done so far, open, an element a step: what stands is not drawn again."""
    for step in filter(is_telling, steps):
        st.html(_step(step, is_open=True))


def show_done(steps: Sequence[Step]) -> None:
    """Show how an answer came about, folded; nothing where it was written in one go."""
    told = [step for step in steps if is_telling(step)]
    if not told:
        return
    if len(told) == 1 and not _body(told[0]):
        st.html(_step(told[0], is_open=False))
        return
    with st.expander(f"How it was worked out · {words.count(len(told), 'step')}"):
        st.html("".join(_step(step, is_open=False) for step in told))


def _step(step: Step, *, is_open: bool) -> str:
    head = (
        f"<b>{_NAMES.get(step.kind, step.kind.capitalize())}</b> <span>{escaped(step.summary)}</span>"
        f'<span class="ls-elapsed">{words.duration(step.duration_s)}</span>'
    )
    css = "ls-step ls-failed" if step.is_error else "ls-step"
    body = _body(step)
    if not body:
        return f'<div class="{css}"><div class="ls-step-head">{head}</div></div>'
    opened = " open" if is_open and step.kind != "sample" else ""
    return f'<details class="{css}"{opened}><summary class="ls-step-head">{head}</summary>{body}</details>'


def _body(step: Step) -> str:
    if step.kind == "vote":
        return _ballot(step.summary)
    parts = []
    if step.kind in _WITH_INPUT and step.prompt.strip():
        parts.append(f"<pre>{escaped(_cut(step.prompt))}</pre>")
    if step.kind in (*_WITH_INPUT, "sample") and step.output.strip():
        parts.append(f'<pre class="ls-output">{escaped(_cut(step.output))}</pre>')
    return "".join([*parts, *(_step(inner, is_open=False) for inner in step.steps)])


def _ballot(summary: str) -> str:
    """Return the votes as bars, where the summary lists them."""
    rows = []
    for vote in _VOTE.finditer(summary):
        share = int(vote["count"]) / max(int(vote["total"]), 1)
        rows.append(
            f'<div class="ls-vote"><span>{escaped(vote["answer"])}</span>'
            f'<i><i style="width:{min(share, 1):.0%}"></i></i><span>{vote["count"]}</span></div>'
        )
    return "".join(rows)


def _cut(text: str) -> str:
    text = text.strip("\n")
    return text if len(text) <= MAX_CHARS else text[:MAX_CHARS] + "\n…"
