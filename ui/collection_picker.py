"""Choosing a collection.

Place in the data's way: `Library.collections` -> a box to choose from, in the chat's sidebar and on the
Documents page.
"""

from __future__ import annotations

from collections.abc import Callable

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


def pick_collection(
    front: FrontDoor, current: str, on_pick: Callable[[str], None], label: str = "Answers come from"
) -> None:
    """Show the box with `current` chosen.

    Args:
        front: The front door.
        current: The collection in use; listed even where it was deleted meanwhile.
        on_pick: Called with the name when a person chooses another.
        label: What the choice is for.
    """
    names = collection_names(front)
    if current not in names:
        names.append(current)
    # Every collection has a box of its own: what one box remembers can't leak into another conversation.
    key = f"collection-box-{current}"
    st.selectbox(
        label, names, index=names.index(current), key=key, on_change=lambda: on_pick(st.session_state[key])
    )
