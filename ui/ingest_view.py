"""A batch of documents being added, as a page shows it.

Place in the data's way: `IngestRun` -> Streamlit elements, on the Documents page and above the chat.
"""

from __future__ import annotations

import streamlit as st

from . import words
from .ingests import IngestRun, Ingests, IngestView, Row
from .text import escaped, plain

TICK_S = 0.4
ROWS_SHOWN = 40

_ICONS = {
    "waiting": "·",
    "reading": "…",
    "indexing": "…",
    "added": "✓",
    "duplicate": "=",
    "failed": "✕",
    "cancelled": "–",
}
_STATES = {
    "waiting": "waiting",
    "reading": "reading",
    "indexing": "indexing",
    "added": "added",
    "duplicate": "already here",
    "failed": "not added",
    "cancelled": "cancelled",
}


@st.fragment(run_every=TICK_S)
def show_running(run: IngestRun) -> None:
    """Show a batch that is running; looks again every `TICK_S` seconds."""
    view = run.view()
    if view.has_ended:
        st.rerun()
    with st.container(border=True, key=f"ingest-{id(run)}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
            st.html(_overall(run, view), width="stretch")
            st.button(
                "Cancel", key=f"cancel-{id(run)}", icon=":material/stop_circle:", on_click=run.cancel.set,
                disabled=view.is_cancelling,
            )  # fmt: skip
        st.html(_rows(run, view))


def show_ended(ingests: Ingests, run: IngestRun) -> bool:
    """Show what became of a batch, until it is dismissed.

    Returns:
        Whether the person wants to ask about its documents.
    """
    view = run.view()
    wants_to_ask = False
    with st.container(border=True, key=f"ingest-{id(run)}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
            st.markdown(f"**{plain(_summary(run, view))}**", width="stretch")
            if any(row.state in ("added", "duplicate") for row in view.rows):
                wants_to_ask = st.button(
                    "Ask about these", key=f"ask-{id(run)}", type="primary", icon=":material/chat:",
                    help=f"Starts a conversation over the collection “{plain(run.collection)}”.",
                )  # fmt: skip
            st.button(
                "Dismiss", key=f"dismiss-{id(run)}", type="tertiary", on_click=ingests.dismiss, args=(run,)
            )
        if view.error:
            st.error(plain(view.error), icon=":material/error:")
        st.html(_rows(run, view))
    return wants_to_ask


def _overall(run: IngestRun, view: IngestView) -> str:
    finished = sum(row.state in ("added", "duplicate", "failed") for row in view.rows)
    text = f"{run.title}: {finished} of {words.count(len(view.rows), 'file')}"
    if view.is_cancelling:
        text = "Cancelling: the file in work is let go, what was added stays"
    elif view.rows and all(row.state == "waiting" for row in view.rows):
        text += " · waiting for the search model"
    elif view.eta_s is not None and view.eta_s >= 1:
        text += f" · about {words.duration(round(view.eta_s))} left"
    return (
        f'<div class="ls-status" role="status"><span class="ls-dot"></span><span>{escaped(text)}</span>'
        f'<span class="ls-elapsed">{words.duration(view.elapsed_s)}</span></div>'
        f'<div class="ls-progress"><div style="width:{view.share:.1%}"></div></div>'
    )


def _summary(run: IngestRun, view: IngestView) -> str:
    kinds = [
        ("added", run.done_word),
        ("duplicate", "already here"),
        ("failed", "not added"),
        ("cancelled", "cancelled"),
    ]
    parts = []
    for state, text in kinds:
        number = sum(row.state == state for row in view.rows)
        if number:
            parts.append(f"{number:,} {text}")
    return (", ".join(parts) or "Nothing to do") + f" in {words.duration(view.elapsed_s)}"


def _rows(run: IngestRun, view: IngestView) -> str:
    # What is being worked on and what went wrong matters most where not all fit.
    order = {
        "failed": 0,
        "reading": 1,
        "indexing": 1,
        "added": 3,
        "duplicate": 3,
        "cancelled": 3,
        "waiting": 4,
    }
    rows = list(view.rows)
    hidden = len(rows) - ROWS_SHOWN
    if hidden > 0:
        rows = sorted(rows, key=lambda row: order[row.state])[:ROWS_SHOWN]
    body = "".join(_row(run, row) for row in rows)
    more = f'<p class="ls-note">and {words.count(hidden, "other file")}</p>' if hidden > 0 else ""
    return f'<table class="ls-files"><tbody>{body}</tbody></table>{more}'


def _row(run: IngestRun, row: Row) -> str:
    word = run.done_word if row.state == "added" else _STATES[row.state]
    state = word + (f" {row.share:.0%}" if row.state == "indexing" else "")
    note = f'<div class="ls-cut">{escaped(row.note)}</div>' if row.note else ""
    return (
        f'<tr class="ls-{row.state}"><td>{_ICONS[row.state]}</td><td>{escaped(row.name)}{note}</td>'
        f"<td>{escaped(state)}</td></tr>"
    )
