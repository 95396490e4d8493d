"""The way to a trace: its address on the Traces page, and the link under an answer.

Place in the data's way: an answer's `trace_id` -> `show_trace_link` in the chat -> the Traces page, which
reads the trace from the address (`?trace=<id>`, and `&compare=<id>` for a second run beside it).

Example:
    >>> trace_url("4f5a")
    '/traces?trace=4f5a'
"""

from __future__ import annotations

from urllib.parse import urlencode

import streamlit as st

PATH = "traces"
TRACE = "trace"
COMPARE = "compare"


def trace_url(trace_id: str, compare_id: str = "", *, base: str = "") -> str:
    """Return the address of a trace.

    Args:
        trace_id: The trace; an answer's `trace_id`.
        compare_id: A second one to show beside it; "" for none.
        base: Address of the chat, as http://127.0.0.1:8501; "" for one within it.
    """
    parameters = {TRACE: trace_id} | ({COMPARE: compare_id} if compare_id else {})
    return f"{base.rstrip('/')}/{PATH}?{urlencode(parameters)}"


def show_trace_link(trace_id: str, label: str = "Trace") -> None:
    """Draw a link to a trace that does not load the chat anew; nothing where there is no trace."""
    pages = st.session_state.get("pages", {})
    if trace_id and PATH in pages:
        st.page_link(
            pages[PATH],
            label=label,
            icon=":material/timeline:",
            query_params={TRACE: trace_id},
            help="What was done for this answer, step by step",
        )
