"""The Training page: start a run, look at all of them, compare two, undo a deletion.

Place in the data's way: fields -> `training_form.py` -> a check (`training_preview.py`) -> a run, which goes
on in a process of its own -> `training_run.py` looks at it. Which run is shown stands in the address, so that
a reload and a bookmark lead to it.
"""

from __future__ import annotations

import time
from pathlib import Path

import streamlit as st

from ..core.extras import install_command
from ..training_choices import missing_packages
from ..training_view import RunView
from . import training_actions, training_form, training_preview, training_run, words
from .frontdoor import FrontDoor
from .text import escaped, plain
from .training_plots import show_losses
from .training_words import phase_of, status_line

NUM_SHOWN = 25
TICK_S = 1.0


def render(front: FrontDoor) -> None:
    """Draw the page."""
    st.html(Path(__file__).with_name("training.css"))
    run_id = st.query_params.get(training_actions.RUN, "")
    if run_id:
        training_run.show(front, run_id)
        return
    st.html('<h1 class="ls-title ls-left">Training</h1>')
    st.caption(
        "Makes the model that answers you better at your work, from examples or from what you rated in "
        "the chat. A run goes on when this page is closed. While one trains, answers in the chat come "
        "slower: both share this machine, and the chat goes first."
    )
    if missing := missing_packages():
        _say_what_is_missing(missing)
        return
    training_actions.show_error()
    training_actions.show_undo(front)
    views = front.training_runs.views()
    if active := [view.run_id for view in views if view.is_active]:
        _active(front, active)
    _new_run(front, is_first=not views)
    _all_runs(front, views)


def _say_what_is_missing(missing: list[str]) -> None:
    st.info(
        f"Training needs more packages than the chat ({', '.join(missing)}). This command installs them; "
        "then start Localsmith again:"
    )
    st.code(install_command("train"), language=None)


@st.fragment(run_every=TICK_S)
def _active(front: FrontDoor, run_ids: list[str]) -> None:
    """Show the runs that are being trained; looks again every `TICK_S` seconds."""
    views = [view for view in front.training_runs.views() if view.is_active]
    if [view.run_id for view in views] != run_ids:
        st.rerun()
    for view in views:
        with st.container(border=True, key=f"active-{view.run_id}"):
            with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
                st.html(status_line(view, view.run_id), width="stretch")
                st.button(
                    "Look", key=f"look-{view.run_id}", icon=":material/monitoring:",
                    on_click=training_actions.go, args=(view.run_id,),
                )  # fmt: skip


def _new_run(front: FrontDoor, is_first: bool) -> None:
    with st.expander("New run", expanded=is_first or training_preview.has_job(), icon=":material/add:"):
        chosen = training_form.show(front)
        if chosen is not None:
            training_preview.show(front, chosen)


def _all_runs(front: FrontDoor, views: list[RunView]) -> None:
    deleted = front.training_runs.deleted()
    if not views and not deleted:
        return
    st.markdown(f"**{words.count(len(views), 'run')}**")
    shown = int(st.session_state.get("runs-shown", NUM_SHOWN))
    for view in views[:shown]:
        _row(view)
    if len(views) > shown:
        st.button("Show older", type="tertiary", on_click=_show_more, args=(shown,))
    _compare(front, views)
    if deleted:
        with st.expander(f"Recently deleted ({len(deleted)})"):
            for run_id in deleted[:NUM_SHOWN]:
                with st.container(horizontal=True, vertical_alignment="center"):
                    st.markdown(plain(run_id), width="stretch")
                    st.button(
                        "Restore", key=f"restore-{run_id}", icon=":material/undo:",
                        on_click=training_actions.restore, args=(front, run_id),
                    )  # fmt: skip


def _row(view: RunView) -> None:
    facts = [
        phase_of(view),
        f"step {view.step:,} of {view.num_steps:,}" if view.num_steps else "",
        f"{view.base}, {view.method}" if view.method else view.kind,
        time.strftime("%Y-%m-%d %H:%M", time.localtime(view.created_at)),
    ]
    with st.container(key=f"run-{view.run_id}", gap=None):
        st.button(
            plain(view.run_id), key=f"open-run-{view.run_id}", type="tertiary", on_click=training_actions.go,
            args=(view.run_id,),
        )  # fmt: skip
        dot = f'<i class="ls-phase-{escaped(view.phase.replace(" ", "-"))}"></i>'
        st.html(f'<div class="ls-run">{dot}{escaped(" · ".join(fact for fact in facts if fact))}</div>')


def _compare(front: FrontDoor, views: list[RunView]) -> None:
    trained = [view.run_id for view in views if view.step]
    if len(trained) < 2:
        return
    chosen = st.multiselect(
        "Compare the loss of", trained, key="compare-runs", placeholder="Choose two or more runs"
    )
    if len(chosen) > 1:
        show_losses(front.training_runs.losses(chosen), key="compared-losses")


def _show_more(shown: int) -> None:
    st.session_state["runs-shown"] = shown + NUM_SHOWN
