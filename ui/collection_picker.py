"""Choosing a collection.

Place in the data's way: `Library.collections` -> a box to choose from, in the chat's sidebar and on the
Documents page.
"""

from __future__ import annotations

import streamlit as st
import structlog

from ..core.errors import LocalsmithError
from ..core.types import DEFAULT_COLLECTION
from .frontdoor import FrontDoor

log = structlog.get_logger(__name__)


def collection_names(front: FrontDoor) -> list[str]:
    """Return the names to choose from, the default one first."""
    return list(_sizes(front))


def num_documents(front: FrontDoor, name: str) -> int:
    """Return how many documents a collection holds; 0 where it doesn't exist yet."""
    return _sizes(front).get(name, 0)


def _sizes(front: FrontDoor) -> dict[str, int]:
    try:
        return {info.name: info.num_documents for info in front.library.collections()}
    except LocalsmithError as error:
        # The chat says why beside the box; conversations must stay readable without a library.
        log.warning("library_not_open", error=str(error))
        return {DEFAULT_COLLECTION: 0}


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
