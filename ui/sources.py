"""What a citation points to: the page with the passage marked, beside the sentence that is quoted.

Place in the data's way: a click on a source under an answer -> `open_source` -> `show_open_source` at the
end of the page's run. What is open is kept in the session, so that an answer that ends meanwhile doesn't
close it.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from ..core.conversations import Turn
from ..core.errors import LocalsmithError
from ..core.types import Citation
from .frontdoor import FrontDoor
from .text import escaped, highlighted, plain

_KEY = "open_source"


def open_source(turn_id: str, number: int) -> None:
    """Remember which source to show; the `on_click` of a source."""
    st.session_state[_KEY] = (turn_id, number)


def show_open_source(front: FrontDoor, turns: Sequence[Turn]) -> None:
    """Show the dialog of the source that is open, if one is."""
    turn_id, number = st.session_state.get(_KEY, ("", 0))
    for turn in turns:
        if turn.id == turn_id and turn.answer is not None:
            citations = [citation for citation in turn.answer.citations if citation.number == number]
            if citations:
                _dialog(front, citations)
                return
    _close()


def place(citation: Citation) -> str:
    """Return "name, page 3", or the name alone where the format has no pages."""
    chunk = citation.passage.chunk
    page = f", page {chunk.page}" if chunk.page is not None else ""
    return f"{citation.passage.document_name}{page}"


def _close() -> None:
    st.session_state.pop(_KEY, None)


@st.dialog("Source", width="large", on_dismiss=_close)
def _dialog(front: FrontDoor, citations: Sequence[Citation]) -> None:
    first = citations[0]
    chunk = first.passage.chunk
    st.markdown(f"**\\[{first.number}\\] {plain(place(first))}**")
    if chunk.headings:
        st.caption(plain(" › ".join(chunk.headings)))
    if chunk.page is None:
        _claims(citations)
        _passage(first)
        return
    left, right = st.columns([3, 2], gap="medium")
    with right:
        _claims(citations)
    with left:
        _page(front, first)
    with right, st.expander("The passage as text"):
        _passage(first)


def _claims(citations: Sequence[Citation]) -> None:
    for citation in citations:
        mark = "" if citation.is_supported else " ls-unsupported"
        verdict = "The check did not find this in the passage."
        if citation.similarity is not None:
            verdict = "The passage is near to this in meaning, but uses other words."
        warning = "" if citation.is_supported else f'<p class="ls-warning">{verdict} Read it yourself.</p>'
        st.html(
            f'<div class="ls-claim{mark}"><h6>The answer says</h6><p>{escaped(citation.claim)}</p>'
            f"<h6>The document says</h6><blockquote>{escaped(citation.quote)}</blockquote>{warning}</div>"
        )


def _page(front: FrontDoor, citation: Citation) -> None:
    chunk = citation.passage.chunk
    page = chunk.page or 1
    # A passage may run over a page's end: every page it stands on can be looked at.
    pages = sorted({page} | {box.page for box in chunk.boxes})
    if len(pages) > 1:
        page = st.segmented_control("Page", pages, default=page, label_visibility="collapsed") or page
    boxes = [box for box in chunk.boxes if box.page == page]
    try:
        image = front.page_image(chunk.document_id, page, boxes)
    except LocalsmithError as error:
        st.info(f"{plain(str(error))} {plain(error.hint)}".strip())
        _passage(citation)
        return
    st.image(image, width="stretch", alt=f"Page {page}, the passage highlighted")


def _passage(citation: Citation) -> None:
    st.html(f'<div class="ls-passage">{highlighted(citation.passage.chunk.text, citation.quote)}</div>')
