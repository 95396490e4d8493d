"""One run on the Training page: how far it is, its curves, what it came to, and what can be done with it.

Place in the data's way: `RunView` and `RunDetails` -> Streamlit elements. While the run goes on the page
looks again by itself; the run does not know of it.
"""

from __future__ import annotations

import time
from typing import Any

import streamlit as st

from ..core.errors import LocalsmithError
from ..training_view import RunDetails, RunView
from . import training_actions
from .frontdoor import FrontDoor
from .text import escaped, plain
from .training_plots import show_curves
from .training_words import figures_table, phase_of, status_line, training_facts, what_next

TICK_S = 1.0
_MAX_CHARS = 700


def show(front: FrontDoor, run_id: str) -> None:
    """Draw the run."""
    st.button(
        "All runs", icon=":material/arrow_back:", type="tertiary", key="all-training-runs",
        on_click=training_actions.go, args=("",),
    )  # fmt: skip
    training_actions.show_error()
    try:
        view = front.training_runs.view(run_id)
    except LocalsmithError as error:
        st.info(f"{plain(str(error))} {plain(error.hint)}")
        return
    facts = [
        "" if view.is_active else phase_of(view),
        f"{view.base}, {view.method}" if view.method else view.kind,
        time.strftime("%Y-%m-%d %H:%M", time.localtime(view.created_at)),
    ]
    st.html(
        f'<h1 class="ls-title ls-left ls-run-title">{escaped(view.run_id)}</h1>'
        f'<div class="ls-meta"><span>{escaped(" · ".join(fact for fact in facts if fact))}</span></div>'
    )
    if view.is_active:
        _live(front, run_id)
    else:
        _ended(front, view)
    _settings(view)


@st.fragment(run_every=TICK_S)
def _live(front: FrontDoor, run_id: str) -> None:
    """Show a run that goes on; looks again every `TICK_S` seconds."""
    view = front.training_runs.view(run_id)
    if not view.is_active:
        st.rerun()
    with st.container(border=True, key="live-run"):
        with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
            st.html(status_line(view), width="stretch")
            _stop_button(front, view)
        if view.stage not in ("", "training") and view.step:
            st.caption("The training itself is done; stopping now loses nothing of it.")
    show_curves(front.training_runs.details(run_id).curves, view.num_steps, key="live-curves")
    st.caption("Answers in the chat come slower while this run trains. It goes on when this page is closed.")


def _stop_button(front: FrontDoor, view: RunView) -> None:
    is_again = view.phase == "stopping"
    st.button(
        "Stop now" if is_again else "Stop", key="stop-run", icon=":material/stop_circle:",
        on_click=training_actions.stop, args=(front, view.run_id), disabled=view.phase == "starting",
        help="Doesn't wait for the step at hand: resume goes on from the last whole checkpoint."
        if is_again
        else "Stops after the step at hand; resume goes on from there.",
    )  # fmt: skip


def _ended(front: FrontDoor, view: RunView) -> None:
    if view.phase == "failed":
        st.error(f"{plain(view.error)} {plain(view.hint)}".strip(), icon=":material/error:")
    if text := what_next(view):
        st.info(plain(text), icon=":material/info:")
    if view.said:
        with st.expander("What its process said last"):
            st.code(view.said, language=None, wrap_lines=True)
    details = front.training_runs.details(view.run_id)
    with st.container(horizontal=True):
        if view.can_be_resumed:
            st.button(
                "Resume", key="resume-run", type="primary", icon=":material/play_arrow:",
                on_click=training_actions.resume, args=(front, view.run_id),
            )  # fmt: skip
        _model_buttons(front, view, details)
        st.button(
            "Delete", key="delete-run", type="tertiary", icon=":material/delete:",
            on_click=training_actions.delete, args=(front, view.run_id),
            help="With its checkpoints; its model stays. It can be brought back for some days.",
        )  # fmt: skip
    _in_use(front, view, details)
    if table := figures_table(view.figures):
        st.html(table)
    if facts := training_facts(view.figures):
        st.caption(plain(facts))
    show_curves(details.curves, view.num_steps, key="curves")
    _samples(details)
    _lineage(details)


def _model_buttons(front: FrontDoor, view: RunView, details: RunDetails) -> None:
    if details.lineage is None:
        return
    if details.is_in_use:
        before = details.used_before or "the automatic choice"
        st.button(
            f"Roll back to {plain(before)}", key="roll-back", icon=":material/undo:",
            on_click=training_actions.roll_back, args=(front,),
            help="The model that answered before takes over again, without cutting an answer.",
        )  # fmt: skip
        return
    st.button(
        "Use this model in the chat", key="promote-run", type="primary", icon=":material/rocket_launch:",
        on_click=training_actions.promote, args=(front, _name_of(view)),
        help="It takes every new question within seconds, without cutting an answer. It can be rolled back.",
    )  # fmt: skip


def _in_use(front: FrontDoor, view: RunView, details: RunDetails) -> None:
    training_actions.show_worse(front, _name_of(view))
    if view.phase == "finished" and details.lineage is None:
        st.caption(
            "There is no model of it in the catalog: its method gives none that the chat can run, or it was "
            "removed."
        )
    if not details.is_in_use:
        return
    if named := front.training_runs.named_model():
        st.warning(plain(f"The settings name the model {named}, and that wins over what is chosen here."))
    else:
        st.success("This model answers in the chat.", icon=":material/check_circle:")


def _name_of(view: RunView) -> str:
    return str(view.config.get("name", view.run_id))


def _samples(details: RunDetails) -> None:
    if not details.samples:
        return
    st.markdown("**The same held-out rows, written by both**")
    for number, sample in enumerate(details.samples, 1):
        prompt = sample.prompt if len(sample.prompt) <= _MAX_CHARS else f"{sample.prompt[:_MAX_CHARS]}…"
        cells = "".join(
            f"<div><small>{title}</small><p>{escaped(text[:_MAX_CHARS]) or '<i>nothing</i>'}</p></div>"
            for title, text in (
                ("Base", sample.before),
                ("Trained", sample.after),
                ("What would be right", sample.reference),
            )
        )
        st.html(
            f'<div class="ls-sample"><div class="ls-asked">{number}. {escaped(prompt)}</div>'
            f'<div class="ls-side">{cells}</div></div>'
        )


def _lineage(details: RunDetails) -> None:
    lineage = details.lineage
    if lineage is None:
        return
    with st.expander("Where the model comes from"):
        rows = [
            ("Base", lineage.base),
            ("Base's SHA-256", lineage.base_sha256),
            ("Run", lineage.run_id),
            ("Data version", lineage.data_version),
            ("Method", lineage.method),
            ("Type of the weights", lineage.quantization),
            ("Trained", time.strftime("%Y-%m-%d %H:%M", time.localtime(lineage.created_at))),
        ]
        st.html(_table([*rows, *(("Figure", str(metric)) for metric in lineage.metrics)]))


def _settings(view: RunView) -> None:
    settings = view.config.get("sft", view.config)
    if isinstance(settings, dict) and settings:
        with st.expander("Settings of the run"):
            st.html(_table([(name.replace("_", " "), _said(value)) for name, value in settings.items()]))


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_said(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "all"
    return str(value)


def _table(rows: list[tuple[str, str]]) -> str:
    body = "".join(f"<tr><td>{escaped(name)}</td><td>{escaped(text)}</td></tr>" for name, text in rows)
    return f'<table class="ls-facts"><tbody>{body}</tbody></table>'
