"""One answer on the chat page: words, sources, what it cost, and what people say about it.

Place in the data's way: `Turn` (finished) or `AnswerRun` (being made) -> Streamlit elements.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from ..core.conversations import Turn
from ..core.feedback import Rating
from ..core.types import Answer, Citation
from . import budget_picture, steps, words
from .copy_button import copy_button
from .frontdoor import FrontDoor
from .runs import AnswerRun, RunView
from .sources import open_source, place
from .text import escaped, plain, safe_markdown, with_markers
from .trace_link import show_trace_link

TICK_S = 0.25
_NAME_CHARS = 36


def show_answer(
    front: FrontDoor, turn: Turn, said: tuple[Rating, str], on_again: Callable[[Turn], None]
) -> None:
    """Show a finished answer with all that belongs to it.

    Args:
        front: The front door.
        turn: A turn with an answer.
        said: Rating and correction given so far.
        on_again: Called with the turn when another answer is wanted.
    """
    answer = turn.answer
    assert answer is not None
    steps.show_done(answer.steps)
    if answer.text:
        st.markdown(with_markers(answer.text, answer.citations))
    if answer.stop_reason == "cancelled":
        st.caption("Stopped." if answer.text else "Stopped before the first word.")
    elif answer.stop_reason in ("time_limit", "step_limit"):
        st.caption("Ended at the limit set for answers; it may be incomplete.")
    elif answer.stop_reason == "answered" and answer.passages and not answer.citations:
        st.caption(
            ":material/help: No passage was found that supports this answer. Check it before you use it."
        )
    _sources(turn.id, answer)
    st.html(_meta(answer))
    with st.container(horizontal=True, gap="small", vertical_alignment="center", key=f"actions-{turn.id}"):
        if answer.text:
            copy_button(answer.text, key=f"copy-{turn.answer_id}")
        st.button(
            "Regenerate", key=f"again-{turn.id}", type="tertiary", icon=":material/refresh:",
            on_click=on_again, args=(turn,),
        )  # fmt: skip
        _details(answer)
        _thumbs(front, turn, said)
    _correction(front, turn, said)


def _sources(turn_id: str, answer: Answer) -> None:
    by_number: dict[int, list[Citation]] = {}
    for citation in answer.citations:
        by_number.setdefault(citation.number, []).append(citation)
    if not by_number:
        return
    with st.container(horizontal=True, gap="small", key=f"sources-{turn_id}"):
        for number, citations in by_number.items():
            is_supported = all(citation.is_supported for citation in citations)
            first = citations[0]
            doubt, tip = _doubt(citations)
            st.button(
                f"\\[{number}\\] {plain(_short(place(first)))}{doubt}",
                key=f"source-{turn_id}-{number}",
                icon=":material/article:" if is_supported else ":material/help:",
                help=tip,
                on_click=open_source,
                args=(turn_id, number),
            )


def _doubt(citations: list[Citation]) -> tuple[str, str]:
    """Return what stands behind a source's name where the check has doubts, and its tooltip."""
    doubted = [citation for citation in citations if not citation.is_supported]
    if not doubted:
        return "", "Open the passage"
    if all(citation.similarity is not None for citation in doubted):
        return " · in other words", "The passage nearest in meaning; it uses other words. Open it."
    return " · not supported", "The passage does not seem to say this. Open it."


def _short(name: str) -> str:
    if len(name) <= _NAME_CHARS:
        return name
    # The page stands at the end and must stay readable.
    return f"{name[: _NAME_CHARS // 2]}…{name[-_NAME_CHARS // 2 :]}"


def _meta(answer: Answer) -> str:
    usage = answer.usage
    took, waited = words.duration(answer.duration_s), words.duration(answer.time_to_first_text_s)
    parts = [f"took {took}"]
    if answer.time_to_first_text_s and waited != took:
        parts.append(f"first word after {waited}")
    if usage.decode_s and usage.completion_tokens:
        parts.append(f"{usage.completion_tokens / usage.decode_s:.0f} tokens/s")
    if answer.model:
        parts.append(answer.model)
    picture = ""
    if answer.budget is not None:
        report = answer.budget
        cut = sum(part.num_cut for part in report.parts)
        picture = f'<span class="ls-mini">{budget_picture.bar(report)}</span>'
        parts.append(f"{report.prompt_tokens:,} of {report.n_ctx:,} tokens" + (f", {cut} cut" if cut else ""))
    return f'<div class="ls-meta">{picture}<span>{escaped(" · ".join(parts))}</span></div>'


def _details(answer: Answer) -> None:
    with st.popover("Details", type="tertiary", icon=":material/donut_small:"):
        if answer.budget is not None:
            st.markdown("**How the context window was spent**")
            st.html(budget_picture.bar(answer.budget) + budget_picture.legend(answer.budget))
        if answer.steps:
            st.markdown("**What was done**")
            rows = "".join(
                f"<tr><td>{escaped(step.summary)}</td><td>{words.duration(step.duration_s)}</td></tr>"
                for step in answer.steps
            )
            st.html(f'<table class="ls-legend"><tbody>{rows}</tbody></table>')
        usage = answer.usage
        st.caption(
            f"{words.count(usage.prompt_tokens, 'prompt token')} ({usage.cached_tokens:,} from the cache), "
            f"{words.count(usage.completion_tokens, 'token')} written."
        )
        show_trace_link(answer.trace_id)


def _thumbs(front: FrontDoor, turn: Turn, said: tuple[Rating, str]) -> None:
    key = f"thumbs-{turn.answer_id}"

    def save() -> None:
        value = st.session_state.get(key)
        rating: Rating = 0 if value is None else (1 if value else -1)
        front.conversations.feedback.save(turn.answer_id, rating, said[1])

    st.feedback("thumbs", key=key, default={1: 1, -1: 0}.get(said[0]), on_change=save)


def _correction(front: FrontDoor, turn: Turn, said: tuple[Rating, str]) -> None:
    rating, correction = said
    if rating >= 0 and not correction:
        return
    key = f"right-{turn.answer_id}"

    def save() -> None:
        front.conversations.feedback.save(turn.answer_id, rating, st.session_state[key])
        st.toast("Saved.")

    with st.form(f"correction-{turn.answer_id}", border=False):
        st.text_area(
            "What would have been right?", value=correction, height=80, key=key,
            placeholder="Optional. Stays on this machine and can be used to improve the model.",
        )  # fmt: skip
        st.form_submit_button("Change correction" if correction else "Save correction", on_click=save)


@st.fragment(run_every=TICK_S)
def show_run(run: AnswerRun, on_stop: Callable[[str], None]) -> None:
    """Show an answer that is being made; looks again every `TICK_S` seconds, whatever tab it is in."""
    view = run.view()
    if view.state == "ended":
        # Once for the whole page: the stored answer takes this place and the ticking ends.
        st.rerun()
    steps.show_live(view.steps)
    if view.text:
        st.markdown(safe_markdown(view.text) + " ▍")
    with st.container(
        horizontal=True, gap="medium", vertical_alignment="center", key=f"running-{run.turn.id}"
    ):
        st.html(_status(view), width="stretch")
        st.button(
            "Stop", key=f"stop-{run.turn.id}", icon=":material/stop_circle:", on_click=on_stop,
            args=(run.turn.id,), disabled=view.state == "stopping",
        )  # fmt: skip


def _status(view: RunView) -> str:
    text, share = "Starting", None
    if view.state == "queued":
        text = f"Waiting for {view.progress.detail}" if view.progress else "Waiting"
    elif view.state == "stopping":
        text = "Stopping"
    elif view.progress is not None:
        text = words.stage(view.progress)
        if view.progress.done is not None and view.progress.total:
            share = min(view.progress.done / view.progress.total, 1.0)
    bar = ""
    if share is not None:
        bar = f'<div class="ls-progress"><div style="width:{share:.1%}"></div></div>'
    return (
        f'<div class="ls-status" role="status"><span class="ls-dot"></span><span>{escaped(text)}</span>'
        f'<span class="ls-elapsed">{words.duration(view.elapsed_s)}</span></div>{bar}'
    )
