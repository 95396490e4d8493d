"""How far the model and the embedder are, without standing in anyone's way.

Place in the data's way: `FrontDoor.loading` -> a line above the conversation that goes when all is ready.
"""

from __future__ import annotations

import time

import streamlit as st

from ..core.contracts import PartState
from . import words
from .frontdoor import FrontDoor
from .text import escaped, plain

TICK_S = 0.5
_SINCE = "loading_since"
_NAMES = {"model": "language model", "embedder": "search model"}


def show(front: FrontDoor) -> None:
    """Show what is still loading or has failed; once all is ready, at most a word on a replacement."""
    states = front.loading
    for state in states:
        if state.state == "ready" and state.detail:  # what becomes of the model that was promoted
            st.info(plain(state.detail), icon=":material/swap_horiz:")
    if all(state.state == "ready" for state in states):
        st.session_state.pop(_SINCE, None)
        return
    failed = [state for state in states if state.state == "failed"]
    if failed:
        _failures(front, failed)
    if any(state.state not in ("ready", "failed") for state in states):
        st.session_state.setdefault(_SINCE, time.monotonic())
        _progress(front, len(failed))


def _failures(front: FrontDoor, failed: list[PartState]) -> None:
    for state in failed:
        message, hint = words.of_error(state.error) if state.error else (state.detail or "It failed.", "")
        name = _NAMES.get(state.name, state.name)
        st.error(
            f"**The {plain(name)} could not be loaded.** {plain(message)} {plain(hint)}",
            icon=":material/error:",
        )
    st.button("Try loading again", icon=":material/refresh:", key="retry-loading", on_click=front.warm_up)


@st.fragment(run_every=TICK_S)
def _progress(front: FrontDoor, num_failed: int) -> None:
    states = front.loading
    loading = [state for state in states if state.state not in ("ready", "failed")]
    if not loading or sum(state.state == "failed" for state in states) != num_failed:
        st.rerun()
    elapsed = words.duration(time.monotonic() - st.session_state.get(_SINCE, time.monotonic()))
    st.html('<div class="ls-loading">' + "".join(_line(state, elapsed) for state in loading) + "</div>")


def _line(state: PartState, elapsed: str) -> str:
    words_ = f"Loading the {_NAMES.get(state.name, state.name)}"
    if state.detail:
        words_ += f" · {state.detail}"
    if state.progress is not None:
        words_ += f" · {state.progress:.0%}"
    width = f' style="width:{min(max(state.progress, 0), 1):.1%}"' if state.progress is not None else ""
    css = "ls-progress" if state.progress is not None else "ls-progress ls-unknown"
    return (
        f'<div class="ls-status" role="status"><span class="ls-dot"></span><span>{escaped(words_)}</span>'
        f'<span class="ls-elapsed">{elapsed}</span></div><div class="{css}"><div{width}></div></div>'
    )
