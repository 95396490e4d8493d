"""A call that waits for a person's word, and runs that can go on where they stopped.

Place in the data's way: an answer that "needs approval", or a turn whose run was cut off -> what the
checkpoints say of the run -> buttons -> `AnswerRuns.resume`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import streamlit as st
import structlog

from ..core.conversations import Turn
from ..core.errors import LocalsmithError
from ..core.types import ApprovalNeeded
from . import words
from .frontdoor import FrontDoor
from .text import plain

if TYPE_CHECKING:
    from ..agents.acting.approval import Approval
    from ..agents.acting.checkpoints import UnfinishedRun

OnResume = Callable[[Turn, str, "Approval | None"], None]
"""Called with the turn, the run's id, and what the person decided; None to go on as it stands."""

log = structlog.get_logger(__name__)
_EDITED = "editing_call"


def unfinished(front: FrontDoor, turn: Turn) -> UnfinishedRun | None:
    """Return the run that can go on for a turn: its answer's, or the one begun for it before a crash."""
    if turn.answer is not None and turn.answer.stop_reason not in ("needs_approval", "cancelled"):
        return None
    try:
        runs = front.unfinished_runs()
    except LocalsmithError as error:
        log.warning("runs_not_read", error=str(error))
        return None
    for run in runs:
        if run.state == "running":
            continue
        if turn.answer is not None and run.run_id == turn.answer.trace_id:
            return run
        if turn.answer is None and run.question == turn.question and run.updated_at >= turn.asked_at:
            return run
    return None


def show(turn: Turn, run: UnfinishedRun | None, on_resume: OnResume) -> None:
    """Show what a turn's run waits for, and the buttons to go on.

    Args:
        turn: The turn.
        run: Its run; None where there is none to go on with.
        on_resume: Goes on.
    """
    if run is None:
        if turn.answer is not None and turn.answer.stop_reason == "needs_approval":
            st.caption("The call that waited was decided elsewhere, or the run was forgotten.")
    elif run.approval is not None:
        _ask(turn, run.approval, on_resume)
    else:
        done = f" after {words.count(run.num_steps, 'call')}" if run.num_steps else ""
        with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
            st.caption(f"It was interrupted{done}, and can go on from there.", width="content")
            st.button(
                "Continue", key=f"continue-{turn.id}", icon=":material/play_arrow:",
                on_click=on_resume, args=(turn, run.run_id, None),
            )  # fmt: skip


def _ask(turn: Turn, needed: ApprovalNeeded, on_resume: OnResume) -> None:
    with st.container(border=True, key=f"approval-{turn.id}"):
        st.markdown(f"**The model wants to call {plain(needed.tool)}.** {plain(needed.reason)}")
        if st.session_state.get(_EDITED) == (turn.id, needed.call):
            _edit(turn, needed, on_resume)
            return
        st.code(_pretty(needed.arguments), language="json", wrap_lines=True)
        with st.container(horizontal=True, gap="small"):
            _decision(turn, needed, on_resume, "approve", "Approve", ":material/check:", type="primary")
            st.button(
                "Edit", key=f"edit-{turn.id}", icon=":material/edit:", on_click=_set_edited,
                args=((turn.id, needed.call),),
            )  # fmt: skip
            _decision(turn, needed, on_resume, "refuse", "Refuse", ":material/block:", type="secondary")


def _decision(
    turn: Turn, needed: ApprovalNeeded, on_resume: OnResume, verdict: str, label: str, icon: str, *, type: str
) -> None:
    def decide() -> None:
        from ..agents.acting.approval import Approval

        approval = Approval("approve" if verdict == "approve" else "refuse", call=needed.call)
        on_resume(turn, needed.run_id, approval)

    st.button(
        label, key=f"{verdict}-{turn.id}-{needed.call}", icon=icon, on_click=decide,
        type="primary" if type == "primary" else "secondary",
    )  # fmt: skip


def _edit(turn: Turn, needed: ApprovalNeeded, on_resume: OnResume) -> None:
    key = f"arguments-{turn.id}-{needed.call}"

    def approve() -> None:
        from ..agents.acting.approval import Approval

        text = str(st.session_state[key])
        if not _is_object(text):
            st.toast("The arguments are no JSON object.", icon=":material/error:")
            return
        _set_edited(None)
        on_resume(turn, needed.run_id, Approval("approve", arguments=text, call=needed.call))

    with st.form(f"edit-{turn.id}-{needed.call}", border=False):
        st.text_area("Arguments", value=_pretty(needed.arguments), key=key, height=120)
        with st.container(horizontal=True, gap="small"):
            st.form_submit_button("Approve with these", type="primary", on_click=approve)
            st.form_submit_button("Back", on_click=_set_edited, args=(None,))


def _set_edited(call: tuple[str, int] | None) -> None:
    st.session_state[_EDITED] = call


def _pretty(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), ensure_ascii=False, indent=2)
    except ValueError:
        return arguments


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
