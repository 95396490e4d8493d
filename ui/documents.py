"""The Documents page: collections, adding files, what is in them, and taking it out again.

Place in the data's way: uploaded files -> `Ingests`; `Library.documents` -> the list.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import streamlit as st

from ..core.types import DEFAULT_COLLECTION, Document
from ..retrieval.collection_rows import CollectionInfo
from . import conversation_list, welcome_documents, words
from .collection_picker import pick_collection
from .frontdoor import FrontDoor
from .ingest_view import show_ended, show_running
from .ingests import Ingests
from .launch import max_upload_mb
from .text import escaped, plain

PAGE_SIZE = 25
FILE_TYPES = (
    "pdf", "docx", "pptx", "xlsx", "csv", "html", "htm", "md", "markdown", "txt", "epub", "eml"
)  # fmt: skip
_COLLECTION = "collection"
_UPLOADER = "uploader_round"
_UNDO = "removed"
_CREATED = "collections_created"


def render(front: FrontDoor, ingests: Ingests) -> None:
    """Draw the page."""
    st.html('<h1 class="ls-title ls-left">Documents</h1>')
    collection = _collection(front)
    _undo_notice(front)
    _upload(front, ingests, collection)
    for run in ingests.runs(collection):
        if run.ended.is_set():
            if show_ended(ingests, run):
                _ask_about(run.collection)
        else:
            show_running(run)
    _documents(front, ingests, collection)
    _removed(front, collection)


def _collection(front: FrontDoor) -> str:
    current = str(st.session_state.get(_COLLECTION, DEFAULT_COLLECTION))
    if current == welcome_documents.COLLECTION and not st.session_state.get("documents-visited"):
        current = DEFAULT_COLLECTION  # people come here to add their own
    st.session_state["documents-visited"] = True
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        pick_collection(front, current, _choose, label="Collection")
        # The key changes with each collection made: a new box is a closed one.
        box = f"new-collection-{st.session_state.get(_CREATED, 0)}"
        with st.popover("New", icon=":material/create_new_folder:", key=box):
            created = _new_collection(front)
        if current != DEFAULT_COLLECTION:
            st.button(
                "Delete", icon=":material/delete:", key="delete-collection", on_click=_delete_collection,
                args=(front, current),
            )  # fmt: skip
    if created:
        _choose(created)
        st.session_state[_CREATED] = st.session_state.get(_CREATED, 0) + 1
        st.rerun()
    _choose(current)
    return current


def _ask_about(collection: str) -> None:
    """Go to the chat, to a new conversation over the collection."""
    _choose(collection)
    conversation_list.go_to("")
    st.switch_page(st.session_state["pages"]["chat"])


def _choose(name: str) -> None:
    st.session_state[_COLLECTION] = name


def _new_collection(front: FrontDoor) -> str:
    with st.form("new-collection", border=False, clear_on_submit=True):
        name = st.text_input("Name of the new collection", max_chars=60)
        if not st.form_submit_button("Create", type="primary"):
            return ""
    try:
        return front.library.create_collection(name).name
    except ValueError as error:
        st.error(plain(str(error)))
        return ""


def _upload(front: FrontDoor, ingests: Ingests, collection: str) -> None:
    round_ = st.session_state.get(_UPLOADER, 0)
    files = st.file_uploader(
        f"Drop files here, up to {max_upload_mb(front.settings)} MB each: PDF, Word, PowerPoint, Excel, CSV, "
        "HTML, Markdown, text, EPUB, e-mail",
        accept_multiple_files=True,
        key=f"uploader-{round_}",
    )
    if files:
        # The batch has the contents now; a fresh box is ready for the next files.
        ingests.start([(file.name, file.getvalue()) for file in files], collection)
        st.session_state[_UPLOADER] = round_ + 1
        st.rerun()


def _documents(front: FrontDoor, ingests: Ingests, collection: str) -> None:
    documents = _listed(front, collection)
    is_busy = bool(ingests.active(collection))
    if not documents:
        if not is_busy:
            st.caption("No documents here yet.")
        return
    pages = sum(document.num_pages or 0 for document in documents)
    chunks = sum(document.num_chunks for document in documents)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"**{words.count(len(documents), 'document')}** · {words.count(pages, 'page')} · "
            f"{words.count(chunks, 'passage')}",
            width="stretch",
        )
        st.button(
            "Index again", icon=":material/refresh:", type="tertiary", key="reindex", disabled=is_busy,
            help="Reads every document again, for example after the search model was changed.",
            on_click=_reindex, args=(ingests, collection),
        )  # fmt: skip
    if len(documents) > PAGE_SIZE:
        documents = _filtered(documents)
    for document in documents:
        _row(front, document)


def _reindex(ingests: Ingests, collection: str) -> None:
    ingests.start_reindex(collection)


def _listed(front: FrontDoor, collection: str) -> list[Document]:
    return sorted(front.library.documents(collection), key=lambda document: -document.added_at)


def _filtered(documents: list[Document]) -> list[Document]:
    wanted = st.text_input(
        "Find",
        placeholder="Find by name",
        label_visibility="collapsed",
        key="find-document",
        icon=":material/search:",
    )
    found = [document for document in documents if wanted.lower() in document.name.lower()]
    num_pages = max(1, -(-len(found) // PAGE_SIZE))
    page = 1
    if num_pages > 1:
        page = int(
            st.number_input(f"Page of {num_pages}", 1, num_pages, key=f"page-of-{num_pages}", width=160)
        )
    st.caption(f"{words.count(len(found), 'document')} found")
    return found[(page - 1) * PAGE_SIZE : page * PAGE_SIZE]


def _row(front: FrontDoor, document: Document) -> None:
    facts = [
        words.count(document.num_pages, "page") if document.num_pages is not None else "",
        words.count(document.num_chunks, "passage"),
        words.size(document.size_bytes),
        f"added {_day(document.added_at)}",
    ]
    warnings = "".join(f'<div class="ls-cut">{escaped(warning)}</div>' for warning in document.warnings)
    with st.container(
        horizontal=True, vertical_alignment="center", key=f"document-{document.id}", gap="small", wrap=False
    ):
        st.html(
            f'<div class="ls-document"><div>{escaped(document.name)}</div>'
            f"<small>{escaped(' · '.join(fact for fact in facts if fact))}</small>{warnings}</div>",
            width="stretch",
        )
        st.button(
            "Remove", key=f"remove-{document.id}", type="tertiary", icon=":material/delete:",
            on_click=_remove, args=(front, document),
        )  # fmt: skip


def _day(seconds: float) -> str:
    then, now = time.localtime(seconds), time.localtime()
    if then[:3] == now[:3]:
        return time.strftime("today %H:%M", then)
    return time.strftime("%Y-%m-%d", then)


def _remove(front: FrontDoor, document: Document) -> None:
    front.library.remove(document.id)
    st.session_state[_UNDO] = f"Removed “{document.name}”.", _restore, document


def _restore(front: FrontDoor, document: Document) -> None:
    front.library.restore(document.id)
    st.session_state.pop(_UNDO, None)


def _delete_collection(front: FrontDoor, name: str) -> None:
    info = front.library.delete_collection(name)
    st.session_state[_UNDO] = f"Deleted the collection “{name}”.", _restore_collection, info
    st.session_state[_COLLECTION] = DEFAULT_COLLECTION


def _restore_collection(front: FrontDoor, info: CollectionInfo) -> None:
    st.session_state[_COLLECTION] = front.library.restore_collection(info.id).name
    st.session_state.pop(_UNDO, None)


def _undo_notice(front: FrontDoor) -> None:
    if _UNDO not in st.session_state:
        return
    text, undo, gone = st.session_state[_UNDO]
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="undo"):
        st.markdown(plain(text), width="stretch")
        st.button("Undo", icon=":material/undo:", key="undo-button", on_click=undo, args=(front, gone))
        st.button(
            "Dismiss", type="tertiary", key="undo-dismiss", on_click=st.session_state.pop, args=(_UNDO, None)
        )


def _removed(front: FrontDoor, collection: str) -> None:
    documents = front.library.removed_documents(collection)
    collections = front.library.removed_collections()
    if not documents and not collections:
        return
    with st.expander(f"Recently removed ({len(documents) + len(collections)})"):
        for info in collections[:PAGE_SIZE]:
            text = f"Collection “{info.name}”, {words.count(info.num_documents, 'document')}"
            _gone(front, text, f"restore-collection-{info.id}", _restore_collection, info)
        for removed in documents[:PAGE_SIZE]:
            text = f"{removed.document.name}, kept until {_day(removed.restorable_until)}"
            _gone(front, text, f"restore-{removed.document.id}", _restore, removed.document)


def _gone(front: FrontDoor, text: str, key: str, restore: Callable[..., None], what: object) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(plain(text), width="stretch")
        st.button("Restore", key=key, icon=":material/undo:", on_click=restore, args=(front, what))
