"""The entry of the chat in the browser: `streamlit run` serves this file.

Place in the data's way: every run of the script -> the process's one front door -> the page in the address.
Which front door that is, is an argument of `main`: whoever serves another one (another model, a test's
script) writes two lines of their own.

The box for the question is drawn before anything else of Localsmith is imported: a person can type while the
rest gets ready.

Example:
    from localsmith.ui.app import main
    main(lambda: Localsmith(model="smollm2"))
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    from localsmith.ui.frontdoor import FrontDoor
    from localsmith.ui.ingests import Ingests
    from localsmith.ui.runs import AnswerRuns

WARM_UP_DELAY_S = 0.7

# Drawn here: for its named icons and for emoji Streamlit's page asks a font server on the internet.
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
    '<rect width="32" height="32" rx="8" fill="#2f6f6a"/>'
    '<path d="M8 9h6a2 2 0 0 1 2 2v13a2 2 0 0 0-2-2H8zM24 9h-6a2 2 0 0 0-2 2v13a2 2 0 0 1 2-2h6z" '
    'fill="none" stroke="#fff" stroke-width="2" stroke-linejoin="round"/></svg>'
)


@dataclass(frozen=True)
class Services:
    """What lives as long as the server process."""

    front: FrontDoor
    runs: AnswerRuns
    ingests: Ingests


def local_front_door() -> FrontDoor:
    """Return the real front door; it loads nothing yet."""
    from localsmith import Localsmith

    return Localsmith()


def main(front_door_factory: Callable[[], FrontDoor] = local_front_door) -> None:
    """Draw the page in the address.

    Args:
        front_door_factory: Called once in the life of the server.
    """
    st.set_page_config("Localsmith", page_icon=_ICON, layout="centered")
    st.html(Path(__file__).with_name("style.css"))

    def chat_page() -> None:
        with st.bottom:
            status = st.container()
            sent = st.chat_input("Ask your documents", accept_file="multiple", key="question")
        from localsmith.ui import chat

        files = [(file.name, file.getvalue()) for file in sent.files] if sent else []
        typed = chat.Typed(sent.text if sent else "", files)
        services = _services(front_door_factory)
        chat.render(services.front, services.runs, services.ingests, typed, status)

    def documents_page() -> None:
        from localsmith.ui import documents

        services = _services(front_door_factory)
        documents.render(services.front, services.ingests)

    def traces_page() -> None:
        from localsmith.ui import traces

        traces.render(_services(front_door_factory).front)

    def memory_page() -> None:
        from localsmith.ui import memory

        memory.render(_services(front_door_factory).front)

    def training_page() -> None:
        from localsmith.ui import training

        training.render(_services(front_door_factory).front)

    pages = {
        "chat": st.Page(chat_page, title="Chat", icon=":material/chat:", url_path="chat", default=True),
        "documents": st.Page(
            documents_page, title="Documents", icon=":material/folder_open:", url_path="documents"
        ),
        "memory": st.Page(memory_page, title="Memory", icon=":material/bookmark:", url_path="memory"),
        "training": st.Page(
            training_page, title="Training", icon=":material/model_training:", url_path="training"
        ),
        "traces": st.Page(traces_page, title="Traces", icon=":material/timeline:", url_path="traces"),
    }
    page = st.navigation(list(pages.values()), position="hidden")
    st.session_state["pages"] = pages
    with st.sidebar:
        st.html('<div class="ls-brand">Localsmith</div>')
        with st.container(key="nav", gap=None):
            for target in pages.values():
                st.page_link(target)
    try:
        page.run()
    except Exception as error:  # noqa: BLE001 - the last frame of the script: told to the person, logged in full
        _tell(error)


def _tell(error: Exception) -> None:
    from localsmith.ui import words
    from localsmith.ui.text import plain

    message, hint = words.of_error(error)
    st.error(f"{plain(message)} {plain(hint)}".strip(), icon=":material/error:")
    st.button("Try again", icon=":material/refresh:", key="retry-page")


@st.cache_resource(show_spinner=False)
def _services(_factory: Callable[[], FrontDoor]) -> Services:
    from localsmith.ui.ingests import Ingests
    from localsmith.ui.runs import AnswerRuns

    front = _factory()
    # The browser, on the same processor, draws the page meanwhile.
    threading.Timer(WARM_UP_DELAY_S, front.warm_up).start()
    return Services(front, AnswerRuns(front), Ingests(front))


if __name__ == "__main__":
    main()
