"""Choosing how questions are answered.

Place in the data's way: `agents/registry.py` -> a box in the chat's sidebar -> the name that the next
question is asked with. The choice stands in the address (`?s=cot`), so that a reload keeps it, and this tab
keeps one for every conversation.
"""

from __future__ import annotations

import streamlit as st

from ..agents.registry import STRATEGIES

PARAMETER = "s"
_CHOSEN = "strategies_chosen"


def current(conversation_id: str, default: str) -> str:
    """Return the strategy of a conversation: the one chosen for it, the address's, else the default.

    Args:
        conversation_id: The conversation; "" for a new one.
        default: The setting's.
    """
    chosen: dict[str, str] = st.session_state.setdefault(_CHOSEN, {})
    if conversation_id in chosen:
        return chosen[conversation_id]
    named = st.query_params.get(PARAMETER, "")
    # Only the first conversation of a tab takes what the address says: it is of that conversation.
    if named in STRATEGIES and not chosen:
        choose(conversation_id, named)
        return named
    return default if default in STRATEGIES else next(iter(STRATEGIES))


def choose(conversation_id: str, name: str) -> None:
    """Keep a choice for a conversation."""
    st.session_state.setdefault(_CHOSEN, {})[conversation_id] = name


def carry_over(conversation_id: str, name: str) -> None:
    """Give a conversation that just began what was chosen before its first question."""
    chosen: dict[str, str] = st.session_state.setdefault(_CHOSEN, {})
    chosen.pop("", None)
    chosen[conversation_id] = name


def pick(conversation_id: str, name: str, default: str) -> None:
    """Show the box and write the choice into the address.

    Args:
        conversation_id: The conversation; "" for a new one.
        name: The strategy in use.
        default: The setting's, which the address need not name.
    """
    if name != default:
        st.query_params[PARAMETER] = name
    else:
        st.query_params.pop(PARAMETER, None)
    names = list(STRATEGIES)
    key = f"strategy-box-{conversation_id}-{name}"
    st.selectbox(
        "How to answer", names, index=names.index(name), key=key,
        format_func=lambda each: STRATEGIES[each].title,
        on_change=lambda: choose(conversation_id, st.session_state[key]),
    )  # fmt: skip
    st.caption(STRATEGIES[name].description)
