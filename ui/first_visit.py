"""What stands on the chat page before the first question.

Place in the data's way: an empty conversation -> a few words and examples to click. The examples are
answered by the documents of `ui/welcome_documents.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from .welcome_documents import COLLECTION

EXAMPLES = (
    "What does Localsmith do with a question?",
    "Which files can I add, and how?",
    "Does anything leave my machine?",
)


def show(collection: str, num_documents: int, ask: Callable[[str], None]) -> None:
    """Show the welcome, and the way to the first document where the collection is empty.

    Args:
        collection: The collection that would be asked.
        num_documents: How many documents it holds.
        ask: Called with the question of the example that is clicked.
    """
    with st.container(key="welcome"):
        st.html('<h1 class="ls-title">Ask your documents</h1>')
        if collection == COLLECTION:
            st.html(
                '<p class="ls-lead">Answers come from a model on this machine and name the passages they '
                "rest on. Nothing you add or ask leaves it. A short guide answers these questions:</p>"
            )
            for number, question in enumerate(EXAMPLES):
                st.button(
                    question,
                    key=f"example-{number}",
                    icon=":material/chat_bubble:",
                    on_click=ask,
                    args=(question,),
                )
        elif num_documents:
            st.html(
                '<p class="ls-lead">Ask a question in your own words. The answer names the passages it rests '
                "on; click a source to see it on its page.</p>"
            )
        else:
            st.html(
                '<p class="ls-lead">This collection is empty. Add documents to have something to ask.</p>'
            )
        st.page_link(
            st.session_state["pages"]["documents"],
            label="Add your own documents",
            icon=":material/upload_file:",
        )
