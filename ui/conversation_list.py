"""The sidebar of the chat: new conversation, the list, renaming, deleting and its undo.

Place in the data's way: `ConversationStore` <-> sidebar; which conversation is shown stands in the address
(`?c=<id>`), so that a reload or a bookmark leads back to it.
"""

from __future__ import annotations

import streamlit as st

from ..core.conversations import Conversation
from .frontdoor import FrontDoor
from .runs import AnswerRuns
from .text import plain

PARAMETER = "c"
PAGE_SIZE = 30
_CURRENT = "conversation"
_UNDO = "deleted_conversation"
_RENAME = "rename_conversation"
_SHOWN = "conversations_shown"


def current_id() -> str:
    """Return the conversation in the address, else the one this tab showed last, else ""."""
    if PARAMETER in st.query_params:
        st.session_state[_CURRENT] = st.query_params[PARAMETER]
    return str(st.session_state.get(_CURRENT, ""))


def go_to(conversation_id: str) -> None:
    """Show a conversation; "" for a new one."""
    st.session_state[_CURRENT] = conversation_id
    if conversation_id:
        st.query_params[PARAMETER] = conversation_id
    else:
        st.query_params.pop(PARAMETER, None)


def show(front: FrontDoor, runs: AnswerRuns, current: str) -> None:
    """Draw the list into the sidebar."""
    st.button("New conversation", icon=":material/edit_square:", width="stretch", on_click=go_to, args=("",))
    _undo_notice(front)
    conversations = front.conversations.all()
    shown = st.session_state.get(_SHOWN, PAGE_SIZE)
    with st.container(key="conversations", gap=None):
        for conversation in conversations[:shown]:
            _row(front, runs, conversation, conversation.id == current)
    if len(conversations) > shown:
        st.button("Show older", type="tertiary", on_click=_show_more, args=(shown,))


def show_dialog(front: FrontDoor) -> bool:
    """Show the rename dialog where it is open; return whether it is (a page can have one dialog)."""
    renaming: Conversation | None = st.session_state.get(_RENAME)
    if renaming is None:
        return False
    _rename_dialog(front, renaming)
    return True


def _close_dialog() -> None:
    st.session_state.pop(_RENAME, None)


def _show_more(shown: int) -> None:
    st.session_state[_SHOWN] = shown + PAGE_SIZE


def _row(front: FrontDoor, runs: AnswerRuns, conversation: Conversation, is_current: bool) -> None:
    key = f"{'current' if is_current else 'row'}-{conversation.id}"
    with st.container(horizontal=True, gap=None, vertical_alignment="center", key=key, wrap=False):
        st.button(
            plain(conversation.title), key=f"open-{conversation.id}", type="tertiary", width="stretch",
            on_click=go_to, args=(conversation.id,),
        )  # fmt: skip
        chosen = st.menu_button(
            " ", ["Rename", "Delete"], key=f"menu-{conversation.id}", type="tertiary",
            help="Rename or delete",
        )  # fmt: skip
    if chosen == "Rename":
        st.session_state[_RENAME] = conversation
    elif chosen == "Delete":
        runs.stop_conversation(conversation.id)
        front.conversations.delete(conversation.id)
        st.session_state[_UNDO] = conversation
        if is_current:
            go_to("")
        st.rerun()


def _undo_notice(front: FrontDoor) -> None:
    deleted: Conversation | None = st.session_state.get(_UNDO)
    if deleted is None:
        return

    def undo() -> None:
        front.conversations.restore(deleted.id)
        go_to(deleted.id)
        dismiss()

    def dismiss() -> None:
        st.session_state.pop(_UNDO, None)

    with st.container(border=True, key="undo-conversation", gap="small"):
        st.markdown(f"Deleted “{plain(deleted.title)}”.")
        with st.container(horizontal=True):
            st.button("Undo", icon=":material/undo:", key="undo-delete", on_click=undo)
            st.button("Dismiss", type="tertiary", key="dismiss-delete", on_click=dismiss)


@st.dialog("Rename the conversation", on_dismiss=_close_dialog)
def _rename_dialog(front: FrontDoor, conversation: Conversation) -> None:
    with st.form("rename", border=False):
        title = st.text_input("Title", value=conversation.title, max_chars=80)
        if st.form_submit_button("Rename", type="primary"):
            front.conversations.rename(conversation.id, title)
            _close_dialog()
            st.rerun()
