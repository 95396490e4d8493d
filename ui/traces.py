"""The Traces page: every run, found again; one of them looked into; two of them compared.

Place in the data's way: `TraceStore` -> list -> `trace_view.py` or `trace_compare.py`. Which run is shown
stands in the address (`trace_link.py`), so that an answer in the chat, a reload and a bookmark lead to it.
"""

from __future__ import annotations

import time
from pathlib import Path

import streamlit as st

from ..core.settings import TraceSettings
from ..core.trace_rows import Trace, TraceInfo
from ..core.traces import TraceStore
from . import words
from .frontdoor import FrontDoor
from .text import escaped, plain
from .trace_compare import show_comparison
from .trace_link import COMPARE, TRACE
from .trace_view import facts_of, show_trace, title_of

PAGE_SIZE = 25
NUM_RECENT = 30
_ROW_CHARS = 90
_TIMES = {"Any time": None, "Last hour": 3600.0, "Last day": 86_400.0, "Last 7 days": 7 * 86_400.0}


def render(front: FrontDoor) -> None:
    """Draw the page."""
    st.html(Path(__file__).with_name("traces.css"))
    store = _store(front.settings.traces_path, front.settings.traces)
    trace_id = st.query_params.get(TRACE, "")
    if not trace_id:
        _list(store)
        return
    st.button(
        "All runs", icon=":material/arrow_back:", type="tertiary", key="all-runs", on_click=_go, args=("",)
    )
    trace = store.get(trace_id)
    if trace is None:
        st.info("This run is not kept, or not any more.")
        return
    other_id = st.query_params.get(COMPARE, "")
    other = store.get(other_id) if other_id else None
    if other is not None:
        _comparison(trace, other)
        return
    if other_id:
        st.info("The other run is not kept any more.")
    show_trace(trace)
    _below(store, trace)


@st.cache_resource(show_spinner=False, max_entries=1)
def _store(path: Path, _settings: TraceSettings) -> TraceStore:
    return TraceStore(path, _settings)


def _go(trace_id: str, compare_id: str = "") -> None:
    st.query_params.from_dict(
        {key: value for key, value in ((TRACE, trace_id), (COMPARE, compare_id)) if value}
    )


def _list(store: TraceStore) -> None:
    st.html('<h1 class="ls-title ls-left">Traces</h1>')
    text, strategy, since_s = filters = _filters(store)
    since = None if since_s is None else time.time() - since_s
    # The key changes with the filters: another search begins at its first page.
    key = f"page-of-traces-{hash(filters)}"
    page = int(st.session_state.get(key, 1))
    found = store.list(
        text=text, strategy=strategy, since=since, limit=PAGE_SIZE, offset=(page - 1) * PAGE_SIZE
    )
    if page > 1 and not found.traces:  # the page went with the runs that were forgotten
        st.session_state[key] = 1
        found = store.list(text=text, strategy=strategy, since=since, limit=PAGE_SIZE)
    num_pages = max(1, -(-found.total // PAGE_SIZE))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{words.count(found.total, 'run')}**", width="stretch")
        if num_pages > 1:
            st.number_input(f"Page of {num_pages:,}", 1, num_pages, key=key, width=160)
    if not found.total:
        st.caption("No run is kept yet." if filters == ("", "", None) else "No run fits.")
    for info in found.traces:
        _row(info)


def _filters(store: TraceStore) -> tuple[str, str, float | None]:
    left, middle, right = st.columns([2, 1, 1])
    with left:
        text = st.text_input(
            "Find", placeholder="Words of the question, the answer or the error", key="find-trace",
            icon=":material/search:", label_visibility="collapsed",
        )  # fmt: skip
    counts = store.strategies()
    with middle:
        strategy = st.selectbox(
            "Strategy", ["", *counts], key="strategy-of-traces", label_visibility="collapsed",
            format_func=lambda name: f"{name} ({counts[name]:,})" if name else "All strategies",
        )  # fmt: skip
    with right:
        chosen = st.selectbox("Time", list(_TIMES), key="time-of-traces", label_visibility="collapsed")
    return text.strip(), strategy, _TIMES[chosen]


def _row(info: TraceInfo) -> None:
    with st.container(key=f"run-{info.id}", gap=None):
        st.button(
            plain(title_of(info, _ROW_CHARS)), key=f"trace-{info.id}", type="tertiary", on_click=_go,
            args=(info.id,),
        )  # fmt: skip
        st.html(f'<div class="ls-run"><i class="ls-ended-{info.status}"></i>{escaped(facts_of(info))}</div>')


def _comparison(first: Trace, second: Trace) -> None:
    with st.container(horizontal=True):
        for mark, trace in (("A", first), ("B", second)):
            st.button(f"Run {mark} alone", key=f"only-{mark}", on_click=_go, args=(trace.info.id,))
        st.button("Swap", key="swap", on_click=_go, args=(second.info.id, first.info.id))
    show_comparison(first, second)


def _below(store: TraceStore, trace: Trace) -> None:
    """Draw what can be done with a run: compare it, look again, forget it."""
    same = store.same_question(trace)
    known = {trace.info.id, *(info.id for info in same)}
    recent = [info for info in store.list(limit=NUM_RECENT).traces if info.id not in known]
    others = {info.id: info for info in (*same, *recent)}
    key = f"compare-{trace.info.id}"

    def compare() -> None:
        if st.session_state[key]:
            _go(trace.info.id, st.session_state[key])

    if others:
        st.selectbox(
            "Compare with", list(others), index=None, key=key, on_change=compare,
            format_func=lambda other: _choice(others[other], other in known),
            placeholder="Choose another run, the same question first",
        )  # fmt: skip
    with st.container(horizontal=True):
        if trace.info.status == "running":
            st.button("Look again", key="look-again", icon=":material/refresh:")
        if st.button("Forget this run", key="ask-to-forget", icon=":material/delete:", type="tertiary"):
            _ask_to_forget(store, trace.info.id)


@st.dialog("Forget this run")
def _ask_to_forget(store: TraceStore, trace_id: str) -> None:
    st.markdown("It is removed for good, its prompts and its answer with it.")
    if st.button("Forget", type="primary", key="forget-trace"):
        store.forget([trace_id])
        _go("")
        st.rerun()


def _choice(info: TraceInfo, is_same: bool) -> str:
    asked = "same question" if is_same else title_of(info, 50)
    return f"{asked} · {facts_of(info)}"
