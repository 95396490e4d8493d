"""Choosing a collection.

Place in the data's way: `Library.collections` -> a box to choose from, in the chat's sidebar and on the
Documents page.
"""

from __future__ import annotations

import streamlit as st

from .frontdoor import FrontDoor


def collection_names(front: FrontDoor) -> list[str]:
    """Return the names to choose from, the default one first."""
    return [info.name for info in front.library.collections()]


def num_documents(front: FrontDoor, name: str) -> int:
    """Return how many documents a collection holds; 0 where it doesn't exist yet."""
    return next((info.num_documents for info in front.library.collections() if info.name == name), 0)


def pick_collection(front: FrontDoor, current: str, key: str, label: str = "Answers come from") -> str:
    """Show the box with `current` chosen and return what is chosen.

    Args:
        front: The front door.
        current: The collection in use; listed even where it was deleted meanwhile.
        key: Unique among the page's widgets.
        label: What the choice is for.
    """
    names = collection_names(front)
    if current not in names:
        names.append(current)

    # The session's value is what counts, whatever the box remembered from another conversation.
    if st.session_state.get(key) not in names or st.session_state.get(f"{key}-of") != current:
        st.session_state[key] = current
    chosen = st.selectbox(label, names, key=key)
    st.session_state[f"{key}-of"] = chosen
    return str(chosen)
