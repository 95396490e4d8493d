"""One run on the Traces page: when what happened, what it cost, what it read and said.

Place in the data's way: `Trace` -> Streamlit elements. Prompts and outputs are sent to the browser for the
one step that is chosen.
"""

from __future__ import annotations

import time

import streamlit as st

from ..core.trace_rows import Trace, TraceInfo, flat
from ..core.types import Answer, Citation, Passage, Step
from . import budget_picture, words
from .text import escaped, highlighted, plain, safe_markdown, with_markers
from .timeline import cost, name_of, timeline

MAX_TITLE_CHARS = 160
MAX_TEXT_CHARS = 200_000

_STATUS = {
    "answered": "answered",
    "abstained": "not in the documents",
    "cancelled": "stopped",
    "step_limit": "ended at the limit of steps",
    "time_limit": "ended at the limit of time",
    "needs_approval": "waits for approval",
    "running": "running",
    "failed": "failed",
    "interrupted": "interrupted",
}


def status_of(info: TraceInfo) -> str:
    """Return how a run ended, in words for people."""
    return _STATUS.get(info.status, info.status)


def title_of(info: TraceInfo, max_chars: int = MAX_TITLE_CHARS) -> str:
    """Return the question on one line, shortened, or what stands for it."""
    question = " ".join(info.question.split()) or "Question not kept"
    return question if len(question) <= max_chars else question[: max_chars - 1].rstrip() + "…"


def when(seconds: float) -> str:
    """Return a time of day, with the date where it isn't today."""
    then, now = time.localtime(seconds), time.localtime()
    return time.strftime("today %H:%M:%S" if then[:3] == now[:3] else "%Y-%m-%d %H:%M:%S", then)


def facts_of(info: TraceInfo) -> str:
    """Return a run in one line: strategy, how it ended, time, tokens, when."""
    tokens = f"{info.prompt_tokens:,} read" if info.prompt_tokens else ""
    if info.cached_tokens:
        tokens += f" ({info.cached_tokens / max(info.prompt_tokens, 1):.0%} cached)"
    if info.completion_tokens:
        tokens += f", {info.completion_tokens:,} written"
    parts = [info.strategy, status_of(info), words.duration(info.duration_s), tokens, info.model]
    return " · ".join([*(part for part in parts if part), when(info.begun_at)])


def show_trace(trace: Trace) -> None:
    """Show a run."""
    info, answer = trace.info, trace.answer
    st.html(
        f'<h1 class="ls-title ls-left ls-trace-title">{escaped(title_of(info))}</h1>'
        f'<div class="ls-meta"><span>{escaped(facts_of(info))}</span></div>'
    )
    if info.status == "failed":
        st.error(f"{plain(info.error_type)}: {plain(info.error)}".rstrip(": "), icon=":material/error:")
    elif info.status == "interrupted":
        st.warning("The process that answered ended before the run did. These are the steps until then.")
    if answer.steps:
        st.html(timeline(answer))
        show_step(trace)
    elif info.status != "running":
        st.caption("No step was kept.")
    if answer.budget is not None:
        st.markdown("**How the context window was spent**")
        st.html(budget_picture.bar(answer.budget) + budget_picture.legend(answer.budget))
    if answer.text:
        st.markdown("**Answer**")
        st.markdown(with_markers(answer.text, answer.citations))
    _sources(answer)
    st.caption(f"Trace {plain(info.id)} · {words.size(info.size_bytes)} kept")


def show_step(trace: Trace) -> None:
    """Let a person choose a step, and show what it was given and what came back."""
    steps = [step for _, step in flat(trace.answer.steps)]
    number = st.selectbox(
        "Step",
        range(1, len(steps) + 1),
        index=None,
        format_func=lambda n: f"{n}. {name_of(steps[n - 1])}: {_line(steps[n - 1].summary)}",
        placeholder="Choose a step to read its prompt and output",
        label_visibility="collapsed",
        key=f"step-{trace.info.id}",
    )
    if number is not None:
        with st.container(border=True, key="step-texts"):
            _step(steps[number - 1])


def _line(text: str) -> str:
    words_ = " ".join(text.split())
    return words_ if len(words_) <= 100 else words_[:99] + "…"


def _step(step: Step) -> None:
    failed = " · failed" if step.is_error else ""
    st.markdown(plain(step.summary) or name_of(step))
    facts = [
        f"from {words.duration(step.begun_s)}",
        f"took {words.duration(step.duration_s)}",
        cost(step.usage),
    ]
    if step.usage is not None and step.usage.prefill_s + step.usage.decode_s:
        facts.append(
            f"reading {words.duration(step.usage.prefill_s)}, writing {words.duration(step.usage.decode_s)}"
        )
    st.caption(plain(" · ".join(fact for fact in facts if fact)) + failed)
    for title, text in (("Given", step.prompt), ("Came back", step.output)):
        if text:
            st.markdown(f"**{title}**")
            st.code(text[:MAX_TEXT_CHARS], language=None, wrap_lines=True)
            if len(text) > MAX_TEXT_CHARS:
                st.caption(f"The first {MAX_TEXT_CHARS:,} of {len(text):,} characters.")
    if not step.prompt and not step.output:
        st.caption("No texts were kept of this step.")


def _sources(answer: Answer) -> None:
    if not answer.passages:
        return
    st.markdown(f"**{words.count(len(answer.passages), 'passage')} read**")
    cited: dict[int, list[Citation]] = {}
    for citation in answer.citations:
        cited.setdefault(citation.number, []).append(citation)
    st.html(
        '<div class="ls-passages">'
        + "".join(
            _passage(number, passage, cited.get(number, []))
            for number, passage in enumerate(answer.passages, 1)
        )
        + "</div>"
    )


def _passage(number: int, passage: Passage, citations: list[Citation]) -> str:
    chunk = passage.chunk
    facts = [
        passage.document_name + (f", page {chunk.page}" if chunk.page is not None else ""),
        "" if passage.similarity is None else f"similarity {passage.similarity:.2f}",
        "" if passage.dense_rank is None else f"by meaning #{passage.dense_rank}",
        "" if passage.lexical_rank is None else f"by words #{passage.lexical_rank}",
    ]
    if citations:
        supported = all(citation.is_supported for citation in citations)
        facts.append("cited" if supported else "cited, not supported")
    quote = citations[0].quote if citations else ""
    return (
        f"<details><summary>[{number}] {escaped(' · '.join(fact for fact in facts if fact))}</summary>"
        f'<div class="ls-passage">{highlighted(chunk.text, quote)}</div></details>'
    )


def show_answer_text(answer: Answer) -> None:
    """Show an answer's words alone."""
    if answer.text:
        st.markdown(safe_markdown(answer.text))
    else:
        st.caption("No answer.")
