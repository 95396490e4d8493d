"""The Memory page: what is remembered of the person and of long conversations, theirs to change.

Place in the data's way: `MemoryStore` <-> the page; `agents/memory.py` reads the same rows at the next
question.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from ..core.memory_store import Fact, MemoryStore
from . import conversation_list, words
from .frontdoor import FrontDoor
from .text import escaped, plain

PAGE_SIZE = 25
MAX_CHARS = 300
_UNDO = "facts_forgotten"
_EDITED = "fact_edited"
_NEW_FACT = "new_fact"
_IS_EMPTY = "new_fact_is_empty"
_SHOWN = "facts_shown"
_ORIGINS = {"noticed": "noticed", "asked": "you asked to remember it", "written": "written here"}


def render(front: FrontDoor) -> None:
    """Draw the page."""
    store = _store(front.settings.memory_path, front.settings.retrieval.undo_days)
    conversations = {conversation.id: conversation.title for conversation in front.conversations.all()}
    store.keep_summaries_of(conversations)
    st.html('<h1 class="ls-title ls-left">Memory</h1>')
    _switch(front, store)
    _undo_notice(store)
    _add(store)
    _facts(store, conversations)
    _forgotten(store)
    _summaries(store, conversations)
    edited = st.session_state.get(_EDITED)
    if edited is not None:
        _edit_dialog(store, edited)


@st.cache_resource(show_spinner=False)
def _store(path: Path, undo_days: float) -> MemoryStore:
    return MemoryStore(path, undo_days)


def _switch(front: FrontDoor, store: MemoryStore) -> None:
    if not front.settings.memory.is_on:
        st.info("Memory is switched off by the setting memory.is_on; what is below is not used.")
        return
    # Another tab may have switched it meanwhile: the store says where it stands, not this session.
    key = "memory-switch"
    st.session_state[key] = store.is_on()
    st.toggle(
        "Remember what I say about myself",
        key=key,
        help="Off: nothing new is remembered, and nothing below is used. It stays until you forget it.",
        on_change=_switched,
        args=(store, key),
    )
    st.caption(
        "Facts come from your own messages only, never from documents or answers. They stay on this machine. "
        "In the chat, “remember that …” and “forget that …” work, too."
    )


def _switched(store: MemoryStore, key: str) -> None:
    store.set_on(bool(st.session_state[key]))


def _add(store: MemoryStore) -> None:
    with st.form("add-fact", border=False):
        with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
            st.text_input(
                "Something to remember",
                placeholder="I live in Leeds.",
                max_chars=MAX_CHARS,
                width="stretch",
                key=_NEW_FACT,
            )
            st.form_submit_button("Add", icon=":material/add:", on_click=_added, args=(store,))
    if st.session_state.pop(_IS_EMPTY, False):
        st.error("Write a few words to remember.")


def _added(store: MemoryStore) -> None:
    try:
        store.add_fact(st.session_state[_NEW_FACT])
    except ValueError:
        st.session_state[_IS_EMPTY] = True
        return
    st.session_state[_NEW_FACT] = ""  # the next one is written into an empty box


def _facts(store: MemoryStore, conversations: dict[str, str]) -> None:
    facts = store.facts()
    if not facts:
        st.caption("Nothing is remembered of you.")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{words.count(len(facts), 'fact')}**", width="stretch")
        st.button(
            "Forget all", icon=":material/delete:", type="tertiary", key="forget-all",
            on_click=_forget, args=(store, facts),
        )  # fmt: skip
    shown = int(st.session_state.get(_SHOWN, PAGE_SIZE))
    for fact in facts[:shown]:
        _row(store, fact, conversations)
    if len(facts) > shown:
        st.button("Show older", type="tertiary", on_click=_show_more, args=(shown,))


def _row(store: MemoryStore, fact: Fact, conversations: dict[str, str]) -> None:
    about = [_ORIGINS[fact.origin]]
    if fact.conversation_id in conversations:
        about.append(f"in “{conversations[fact.conversation_id]}”")
    elif fact.conversation_id:
        about.append("in a conversation that is gone")
    about.append(f"· {_day(fact.created_at)}")
    if fact.updated_at > fact.created_at:
        about.append(f"· changed {_day(fact.updated_at)}")
    with st.container(
        horizontal=True, vertical_alignment="center", key=f"fact-{fact.id}", gap="small", wrap=False
    ):
        st.html(
            f'<div class="ls-document"><div>{escaped(fact.text)}</div>'
            f"<small>{escaped(' '.join(about))}</small></div>",
            width="stretch",
        )
        if fact.conversation_id in conversations and st.button(
            "Open", key=f"open-source-{fact.id}", type="tertiary", icon=":material/chat:",
            help="Go to the conversation in which you said it",
        ):  # fmt: skip
            conversation_list.go_to(fact.conversation_id)
            st.switch_page(st.session_state["pages"]["chat"])
        st.button(
            "Edit", key=f"edit-{fact.id}", type="tertiary", icon=":material/edit:",
            on_click=_edit, args=(fact,),
        )  # fmt: skip
        st.button(
            "Forget", key=f"forget-{fact.id}", type="tertiary", icon=":material/delete:",
            on_click=_forget, args=(store, [fact]),
        )  # fmt: skip


def _edit(fact: Fact) -> None:
    st.session_state[_EDITED] = fact


def _close_dialog() -> None:
    st.session_state.pop(_EDITED, None)


@st.dialog("Edit what is remembered", on_dismiss=_close_dialog)
def _edit_dialog(store: MemoryStore, fact: Fact) -> None:
    with st.form("edit-fact", border=False):
        text = st.text_area("Fact", value=fact.text, max_chars=MAX_CHARS)
        if not st.form_submit_button("Save", type="primary"):
            return
    if text.strip():
        store.edit_fact(fact.id, text)
    _close_dialog()
    st.rerun()


def _forget(store: MemoryStore, facts: Sequence[Fact]) -> None:
    for fact in facts:
        store.forget_fact(fact.id)
    st.session_state[_UNDO] = list(facts)


def _restore(store: MemoryStore, facts: Sequence[Fact]) -> None:
    for fact in facts:
        store.restore_fact(fact.id)
    st.session_state.pop(_UNDO, None)


def _undo_notice(store: MemoryStore) -> None:
    facts: list[Fact] | None = st.session_state.get(_UNDO)
    if not facts:
        return
    what = f"“{facts[0].text}”" if len(facts) == 1 else words.count(len(facts), "fact")
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="undo"):
        st.markdown(plain(f"Forgot {what}"), width="stretch")
        st.button("Undo", icon=":material/undo:", key="undo-button", on_click=_restore, args=(store, facts))
        st.button(
            "Dismiss", type="tertiary", key="undo-dismiss", on_click=st.session_state.pop, args=(_UNDO, None)
        )


def _forgotten(store: MemoryStore) -> None:
    forgotten = store.forgotten_facts()
    if not forgotten:
        return
    with st.expander(f"Recently forgotten ({len(forgotten)})"):
        st.caption(f"Kept for {words.count(round(store.undo_days), 'day')}, and not used.")
        for fact in forgotten[:PAGE_SIZE]:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(plain(fact.text), width="stretch")
                st.button(
                    "Restore", key=f"restore-{fact.id}", icon=":material/undo:",
                    on_click=_restore, args=(store, [fact]),
                )  # fmt: skip


def _summaries(store: MemoryStore, conversations: dict[str, str]) -> None:
    summaries = [summary for summary in store.summaries() if summary.conversation_id in conversations]
    if not summaries:
        return
    st.markdown("**Summaries of long conversations**")
    st.caption("Each stands for the turns that no longer fit the model's window.")
    for summary in summaries[:PAGE_SIZE]:
        with st.expander(plain(conversations[summary.conversation_id])):
            st.html(f'<div class="ls-passage">{escaped(summary.text)}</div>')
            with st.container(horizontal=True, vertical_alignment="center"):
                covered = words.count(summary.num_messages, "message")
                st.caption(f"The first {covered} · {_day(summary.updated_at)}", width="stretch")
                st.button(
                    "Write afresh", key=f"drop-{summary.conversation_id}", type="tertiary",
                    icon=":material/refresh:", on_click=store.drop_summary, args=(summary.conversation_id,),
                    help="Drops this summary; the next long question has a new one written.",
                )  # fmt: skip


def _show_more(shown: int) -> None:
    st.session_state[_SHOWN] = shown + PAGE_SIZE


def _day(seconds: float) -> str:
    then, now = time.localtime(seconds), time.localtime()
    return time.strftime("today %H:%M" if then[:3] == now[:3] else "%Y-%m-%d", then)
