"""The chat page.

Place in the data's way: question -> stored -> `AnswerRuns` -> shown while it is made -> shown from the
store. Every run of this script draws what the store and the runs say; nothing that matters lives in the
browser's session.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from ..core.conversations import Conversation, Turn
from ..core.types import DEFAULT_COLLECTION
from . import (
    answers,
    approvals,
    conversation_list,
    first_visit,
    loading,
    sources,
    strategy_picker,
    welcome_documents,
)
from .collection_picker import collection_names, num_documents, pick_collection
from .frontdoor import FrontDoor
from .ingest_view import show_running
from .ingests import IngestRun, Ingests
from .runs import AnswerRuns
from .text import escaped, plain

if TYPE_CHECKING:
    from ..agents.acting.approval import Approval

TURNS_SHOWN = 30
_ASK = "ask"
_COLLECTION = "collection"
_ALL_TURNS = "all_turns_of"


@dataclass(frozen=True)
class Typed:
    """What was sent from the box: words, files or both."""

    text: str
    files: Sequence[tuple[str, bytes]] = ()


def render(
    front: FrontDoor, runs: AnswerRuns, ingests: Ingests, typed: Typed, status: DeltaGenerator
) -> None:
    """Draw the page around the box, which stands already.

    Args:
        front: The front door.
        runs: Answers in the making.
        ingests: Documents being added.
        typed: What was sent in this run.
        status: The place above the box, for what is still loading.
    """
    store = front.conversations
    wanted = conversation_list.current_id()
    conversation = store.get(wanted) if wanted else None
    if conversation is not None:
        conversation_list.go_to(conversation.id)  # keeps the address right after a visit to the other page
    collection = conversation.collection if conversation else _new_collection(front)

    default = front.settings.answer.strategy
    strategy = strategy_picker.current(conversation.id if conversation else "", default)

    conversation, collection = _take(front, runs, ingests, conversation, collection, strategy, typed)
    with st.sidebar:
        conversation_list.show(front, runs, conversation.id if conversation else "")
        st.space("small")
        pick_collection(front, collection, partial(_set_collection, front, conversation))
        strategy_picker.pick(conversation.id if conversation else "", strategy, default)

    with status:
        loading.show(front)
    if wanted and conversation is None:
        st.info("This conversation does not exist, or it was deleted. A new question starts a new one.")
    turns = store.turns(conversation.id) if conversation else []
    for run in ingests.active(collection):
        show_running(run)
    if not turns:
        first_visit.show(collection, num_documents(front, collection), ask)
    else:
        _turns(front, runs, turns, collection, strategy)
    if not conversation_list.show_dialog(front):
        sources.show_open_source(front, turns)


def ask(question: str) -> None:
    """Ask as if it had been typed; the `on_click` of an example."""
    st.session_state[_ASK] = question


def _take(
    front: FrontDoor,
    runs: AnswerRuns,
    ingests: Ingests,
    conversation: Conversation | None,
    collection: str,
    strategy: str,
    typed: Typed,
) -> tuple[Conversation | None, str]:
    question = st.session_state.pop(_ASK, None) or typed.text.strip()
    ingest: IngestRun | None = None
    if typed.files:
        if collection == welcome_documents.COLLECTION:
            # The welcome texts explain the program; a person's own files start a collection of their own.
            collection = DEFAULT_COLLECTION
            _set_collection(front, conversation, collection)
        ingest = ingests.start(typed.files, collection)
    if question:
        if conversation is None:
            conversation = front.conversations.create(question, collection)
            strategy_picker.carry_over(conversation.id, strategy)
        turn = front.conversations.add_turn(conversation.id, question)
        runs.start(turn, collection, after=ingest.ended if ingest else None, strategy=strategy)
        conversation_list.go_to(conversation.id)
    return conversation, collection


def _new_collection(front: FrontDoor) -> str:
    if _COLLECTION in st.session_state:
        return str(st.session_state[_COLLECTION])
    welcome = welcome_documents.COLLECTION
    if num_documents(front, DEFAULT_COLLECTION) == 0 and welcome in collection_names(front):
        return welcome
    return DEFAULT_COLLECTION


def _set_collection(front: FrontDoor, conversation: Conversation | None, collection: str) -> None:
    st.session_state[_COLLECTION] = collection
    if conversation is not None:
        front.conversations.set_collection(conversation.id, collection)


def _turns(front: FrontDoor, runs: AnswerRuns, turns: Sequence[Turn], collection: str, strategy: str) -> None:
    conversation_id = turns[0].conversation_id
    said = front.conversations.feedback.ratings(conversation_id)
    if len(turns) > TURNS_SHOWN and st.session_state.get(_ALL_TURNS) != conversation_id:
        hidden = len(turns) - TURNS_SHOWN
        st.button(f"Show {hidden} earlier", type="tertiary", on_click=_show_all, args=(conversation_id,))
        turns = turns[hidden:]

    def again(turn: Turn) -> None:
        runs.start(turn, collection, strategy=strategy)

    def resume(turn: Turn, run_id: str, approval: Approval | None) -> None:
        runs.resume(turn, collection, run_id, approval)

    for turn in turns:
        with st.chat_message("user", avatar=":material/person:"):
            st.html(f'<div class="ls-question">{escaped(turn.question)}</div>')
        with st.chat_message("assistant", avatar=":material/auto_stories:"):
            run = runs.active(turn.id)
            if run is not None:
                answers.show_run(run, runs.stop)
                continue
            if turn.answer is not None:
                answers.show_answer(front, turn, said.get(turn.answer_id, (0, "")), again)
            _unanswered(turn, again)
            approvals.show(turn, approvals.unfinished(front, turn), resume)


def _unanswered(turn: Turn, again: Callable[[Turn], None]) -> None:
    """Say why a turn has no answer, or none of its last try, and offer another."""
    if turn.error:
        st.error(f"{plain(turn.error)} {plain(turn.hint)}".strip(), icon=":material/error:")
    elif turn.answer is None:
        st.warning(
            "This question was not answered: the program ended before it could.", icon=":material/warning:"
        )
    if turn.answer is None or turn.error:
        st.button(
            "Try again", key=f"retry-{turn.id}", icon=":material/refresh:", on_click=again, args=(turn,)
        )


def _show_all(conversation_id: str) -> None:
    st.session_state[_ALL_TURNS] = conversation_id
