"""What the buttons of the Training page do, with errors told and deletions that can be undone.

Place in the data's way: a click -> `FrontDoor.training_runs`; what goes wrong is kept for the next drawing of
the page.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from ..core.errors import GateRejected, LocalsmithError
from ..training_check import Check
from ..training_request import TrainingRequest
from . import words
from .frontdoor import FrontDoor
from .text import plain

RUN = "run"
"""The query parameter that names a run."""
_ERROR = "training-error"
_DELETED = "run-deleted"
_WORSE = "worse-model"


def go(run_id: str) -> None:
    """Lead to a run; "" for all runs."""
    st.query_params.from_dict({RUN: run_id} if run_id else {})


def start(front: FrontDoor, request: TrainingRequest, result: Check) -> None:
    """Start a run and lead to it."""
    run_id = ""

    def begin() -> None:
        nonlocal run_id
        run_id = front.training_runs.start(request, result)

    if _done(begin):
        go(run_id)


def resume(front: FrontDoor, run_id: str) -> None:
    """Go on with a run."""
    _done(lambda: front.training_runs.resume(run_id))


def stop(front: FrontDoor, run_id: str) -> None:
    """Stop a run; the second time at once."""
    _done(lambda: front.training_runs.stop(run_id))


def delete(front: FrontDoor, run_id: str) -> None:
    """Delete a run and lead to the others."""
    if _done(lambda: front.training_runs.delete(run_id)):
        st.session_state[_DELETED] = run_id
        go("")


def restore(front: FrontDoor, run_id: str) -> None:
    """Bring a deleted run back."""
    if _done(lambda: front.training_runs.restore(run_id)):
        st.session_state.pop(_DELETED, None)


def promote(front: FrontDoor, name: str, anyway: bool = False) -> None:
    """Let a model answer in the chat; one that is worse than its base only when asked again."""
    st.session_state.pop(_WORSE, None)
    try:
        front.training_runs.promote(name, anyway=anyway)
    except GateRejected as error:
        st.session_state[_WORSE] = name, str(error)
    except LocalsmithError as error:
        st.session_state[_ERROR] = words.of_error(error)


def roll_back(front: FrontDoor) -> None:
    """Let the model before answer again."""
    _done(front.training_runs.rollback)


def show_worse(front: FrontDoor, name: str) -> None:
    """Say that a model was not put in use because it is worse, and let the person have it all the same."""
    worse, message = st.session_state.get(_WORSE, ("", ""))
    if worse != name:
        return
    st.warning(plain(message), icon=":material/trending_down:")
    st.button("Use it all the same", key="promote-anyway", on_click=promote, args=(front, name, True))


def show_error() -> None:
    """Tell what the last click did not achieve, once."""
    if _ERROR in st.session_state:
        message, hint = st.session_state.pop(_ERROR)
        st.error(f"{plain(message)} {plain(hint)}".strip(), icon=":material/error:")


def show_undo(front: FrontDoor) -> None:
    """Offer to bring the run back that was just deleted."""
    run_id = st.session_state.get(_DELETED)
    if run_id is None:
        return
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="undo"):
        st.markdown(plain(f"Deleted the run {run_id}. Its model stays."), width="stretch")
        st.button("Undo", icon=":material/undo:", key="undo-button", on_click=restore, args=(front, run_id))
        st.button(
            "Dismiss", type="tertiary", key="undo-dismiss", on_click=st.session_state.pop,
            args=(_DELETED, None),
        )  # fmt: skip


def _done(action: Callable[[], object]) -> bool:
    """Do it; keep what went wrong for the next drawing."""
    st.session_state.pop(_ERROR, None)
    try:
        action()
    except LocalsmithError as error:
        st.session_state[_ERROR] = words.of_error(error)
        return False
    return True
