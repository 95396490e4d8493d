"""The chat page in a real browser, over a model that follows a script."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from chat_server import Server
from localsmith.core.conversations import ConversationStore
from localsmith.core.settings import load_settings
from localsmith.core.types import Answer
from localsmith.models.embedding.fake import HashingEmbedder
from localsmith.retrieval.library import Library
from localsmith.ui.first_visit import EXAMPLES
from localsmith.ui.welcome_documents import COLLECTION, welcome_files
from playwright.sync_api import Page, expect

TRACEMONKEY = Path(__file__).parent.parent / "data" / "documents" / "tracemonkey.pdf"
NAME = "![x](name.png) *trees* <b>.txt"


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests that don't end it, with a PDF, a text and the welcome."""
    server = Server(tmp_path_factory.mktemp("chat"))
    settings = load_settings(home=server.home)
    with closing(Library(settings.library_dir, HashingEmbedder(), settings.retrieval)) as library:
        list(library.ingest([TRACEMONKEY]))
        library.create_collection("texts")
        list(library.ingest([(NAME, b"A trace tree <b>is</b> a tree of traces. " * 9)], "texts"))
        library.create_collection(COLLECTION)
        list(library.ingest(welcome_files(), COLLECTION))
    server.start()
    yield server
    server.kill()


def open_chat(page: Page, server: Server, path: str = "") -> None:
    page.goto(server.url + path)
    expect(page.get_by_test_id("stChatInputTextArea")).to_be_visible()


def ask(page: Page, question: str) -> None:
    box = page.get_by_test_id("stChatInputTextArea")
    box.fill(question)
    box.press("Enter")


def test_an_answer_streams_cites_and_opens_its_page(chat: Server, page: Page) -> None:
    open_chat(page, chat)
    ask(page, "What is a trace tree?")
    expect(page.get_by_text("The document says")).to_be_visible()
    source = page.get_by_role("button", name=re.compile(r"\[1\] tracemonkey\.pdf, page \d+"))
    expect(source).to_be_visible()
    expect(page.get_by_role("button", name="not supported")).to_be_visible()
    expect(page.locator(".ls-meta").first).to_contain_text("tokens/s")
    source.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("blockquote")).not_to_be_empty()
    picture = dialog.locator("img")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") >= 500
    assert yellow_share(picture.screenshot()) > 0.005
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.get_by_role("button", name="Details").click()
    expect(page.locator(".ls-legend").first).to_contain_text("reading more would take too long")


def yellow_share(png: bytes) -> float:
    import io

    import numpy as np
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    return float(((red > 220) & (green > 180) & (blue < 120)).mean())


def test_a_source_without_pages_shows_the_passage_with_the_quote_marked(chat: Server, page: Page) -> None:
    open_chat(page, chat)
    page.get_by_role("combobox", name=re.compile("Answers come from")).click()
    page.get_by_role("option", name="texts").click()
    ask(page, "trace tree")
    page.get_by_role("button", name=re.compile(r"\[1\]")).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("mark")).to_contain_text("A trace tree <b>is</b>")
    expect(dialog.get_by_text(NAME)).to_be_visible()


def test_a_source_that_uses_other_words_says_so(chat: Server, page: Page) -> None:
    open_chat(page, chat)
    ask(page, "reworded: What is a trace tree?")
    source = page.get_by_role("button", name=re.compile(r"\[1\] tracemonkey\.pdf, page \d+ · in other words"))
    source.click()
    expect(page.get_by_role("dialog")).to_contain_text("near to this in meaning, but uses other words")


def test_stop_while_reading_and_while_answering_keeps_the_text(chat: Server, page: Page) -> None:
    open_chat(page, chat)
    ask(page, "slow: What is a trace tree?")
    expect(page.locator(".ls-status")).to_contain_text(re.compile(r"Reading [\d,]+ of 1,000 tokens · about"))
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped before the first word.")).to_be_visible()
    ask(page, "slow: and again?")
    expect(page.get_by_text("The document says")).to_be_visible()
    expect(page.locator(".ls-status")).to_contain_text("Answering")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped.", exact=True)).to_be_visible()
    expect(page.get_by_text("The document says")).to_be_visible()


def test_a_reload_in_the_middle_finds_the_running_answer_again(chat: Server, page: Page) -> None:
    open_chat(page, chat)
    ask(page, "slow: What is a trace tree?")
    expect(page.get_by_text("The document says")).to_be_visible()
    page.wait_for_url(re.compile(r"\?c=[0-9a-f]{32}"))
    before = page.get_by_text("The document says").inner_text()
    page.reload()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    after = page.get_by_text("The document says")
    expect(after).to_be_visible()
    assert len(after.inner_text()) >= len(before.rstrip(" ▍"))
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Stopped.", exact=True)).to_be_visible()


def test_a_question_is_answered_although_the_page_is_left(chat: Server, page: Page) -> None:
    open_chat(page, chat)
    ask(page, "Is the page needed?")
    page.wait_for_url(re.compile(r"\?c="))
    address = page.url
    page.goto("about:blank")
    time.sleep(2)
    page.goto(address)
    expect(page.get_by_text("The document says")).to_be_visible()
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()


def test_hostile_words_run_nothing_and_load_nothing(chat: Server, page: Page) -> None:
    open_chat(page, chat)  # the `page` fixture fails the test on any request to another machine
    ask(page, "hostile <img src=http://192.0.2.1/q.png onerror=\"window.hacked='question'\">")
    expect(page.locator(".ls-meta")).to_be_visible()
    page.wait_for_timeout(500)
    assert page.evaluate("window.hacked") is None
    assert page.locator('img[src*="192.0.2.1"], img[src="x"], a[href^="javascript"]').count() == 0
    expect(page.locator(".ls-question")).to_contain_text("<img src=http")


def test_an_answer_without_a_source_is_marked(chat: Server, page: Page) -> None:
    open_chat(page, chat)
    ask(page, "unsourced trace tree")
    expect(page.get_by_text("No passage was found that supports this answer.")).to_be_visible()
    ask(page, "trace tree")
    expect(page.get_by_text("No passage was found that supports this answer.")).to_have_count(1)


def test_errors_are_told_and_the_conversation_stays(chat: Server, page: Page) -> None:
    open_chat(page, chat)
    ask(page, "error please")
    expect(page.get_by_text("The model stumbled. Ask again.")).to_be_visible()
    ask(page, "crash please")
    expect(page.get_by_text("Something went wrong.")).to_be_visible()
    ask(page, "and a good one")
    expect(page.get_by_text("The document says")).to_be_visible()
    expect(page.get_by_role("button", name="Try again")).to_have_count(2)
    assert "nobody foresaw this" in chat.log()


def test_thumbs_and_corrections_are_stored_with_the_trace(chat: Server, page: Page) -> None:
    open_chat(page, chat)
    ask(page, "What deserves feedback?")
    page.get_by_role("radio", name="Thumbs down").click()
    page.get_by_label("What would have been right?").fill("A tree of traces.")
    page.get_by_role("button", name="Save correction").click()
    expect(page.get_by_role("button", name="Change correction")).to_be_visible()
    with closing(ConversationStore(load_settings(home=chat.home).conversations_path)) as store:
        [said] = [f for f in store.feedback.all() if f.question == "What deserves feedback?"]
    assert (said.rating, said.correction) == (-1, "A tree of traces.")
    assert said.trace_id.startswith("trace-")
    page.reload()
    expect(page.get_by_label("What would have been right?")).to_have_value("A tree of traces.")


def test_regenerating_replaces_the_answer_and_keeps_the_old_one(chat: Server, page: Page) -> None:
    open_chat(page, chat)
    ask(page, "Once more?")
    page.get_by_role("button", name="Regenerate").click()
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    expect(page.get_by_text("The document says")).to_have_count(1)
    with closing(ConversationStore(load_settings(home=chat.home).conversations_path)) as store:
        [talk] = [c for c in store.all() if c.title == "Once more?"]
        deadline = time.monotonic() + 10
        while store.turns(talk.id)[0].num_answers < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert store.turns(talk.id)[0].num_answers == 2


def test_a_conversation_is_renamed_deleted_and_brought_back(chat: Server, page: Page) -> None:
    open_chat(page, chat)
    ask(page, "A title to change")
    expect(page.get_by_text("The document says")).to_be_visible()
    current = page.locator('[class*="st-key-current-"]')
    current.get_by_test_id("stMenuButtonButton").first.click()
    page.get_by_text("Rename", exact=True).click()
    page.get_by_role("dialog").get_by_label("Title").fill("Trees & *traces*")
    page.get_by_role("dialog").get_by_role("button", name="Rename").click()
    expect(current).to_contain_text("Trees & *traces*")
    current.get_by_test_id("stMenuButtonButton").first.click()
    page.get_by_text("Delete", exact=True).click()
    expect(page.get_by_text("Deleted “Trees & *traces*”.")).to_be_visible()
    expect(page.get_by_text("The document says")).to_be_hidden()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("The document says")).to_be_visible()


def test_the_first_visit_offers_questions_over_the_welcome_texts(server: Server, page: Page) -> None:
    settings = load_settings(home=server.home)
    with closing(Library(settings.library_dir, HashingEmbedder(), settings.retrieval)) as library:
        library.create_collection(COLLECTION)
        list(library.ingest(welcome_files(), COLLECTION))
    server.start()
    open_chat(page, server)
    for example in EXAMPLES:
        expect(page.get_by_role("button", name=example)).to_be_visible()
    page.get_by_role("button", name=EXAMPLES[1]).click()
    expect(page.get_by_role("button", name=re.compile(r"\[1\] .+\.md"))).to_be_visible()


def test_a_file_attached_to_a_question_is_added_first(chat: Server, page: Page) -> None:
    open_chat(page, chat)
    note = {"name": "zebra.txt", "mimeType": "text/plain", "buffer": b"Zebras graze at dawn near the river."}
    page.locator('[data-testid="stChatInput"] input[type=file]').set_input_files(note)  # type: ignore[arg-type]
    expect(page.get_by_text("zebra.txt")).to_be_visible()
    ask(page, "When do zebras graze?")
    expect(page.get_by_role("button", name=re.compile("zebra.txt")).first).to_be_visible()


def test_conversations_survive_a_restart_and_a_killed_answer_can_be_tried_again(
    server: Server, page: Page
) -> None:
    server.start()
    open_chat(page, server)
    ask(page, "The first one")
    expect(page.get_by_text("don't answer this")).to_be_visible()
    ask(page, "slow second one")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    address = page.url
    server.kill()
    server.start()
    page.goto(address)
    expect(page.get_by_text("don't answer this")).to_be_visible()
    expect(page.get_by_text("slow second one", exact=True).last).to_be_visible()
    expect(page.get_by_text("This question was not answered")).to_be_visible()
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("This question was not answered")).to_be_hidden()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()


def test_loading_blocks_nobody_and_an_early_question_is_answered(server: Server, page: Page) -> None:
    server.environment["SCRIPT_LOADING_S"] = "6"
    server.start()
    open_chat(page, server)
    expect(page.locator(".ls-loading")).to_contain_text(re.compile(r"Loading the language model .*\d+%"))
    ask(page, "An early question")
    expect(page.get_by_text("Waiting for the model")).to_be_visible()
    expect(page.get_by_text("don't answer this")).to_be_visible()
    expect(page.locator(".ls-loading")).to_be_hidden()


def test_a_failed_load_says_why_and_can_be_tried_again(server: Server, page: Page) -> None:
    server.environment |= {"SCRIPT_LOADING_S": "0.5", "SCRIPT_LOADING_FAILURES": "1"}
    server.start()
    open_chat(page, server)
    expect(page.get_by_text("The file is damaged. Pull the model again.")).to_be_visible()
    page.get_by_role("button", name="Try loading again").click()
    expect(page.get_by_text("The file is damaged.")).to_be_hidden()
    ask(page, "Does it work now?")
    expect(page.get_by_text("don't answer this")).to_be_visible()


def test_an_unknown_conversation_is_told_and_a_new_one_starts(chat: Server, page: Page) -> None:
    open_chat(page, chat, "/?c=nothing")
    expect(page.get_by_text("This conversation does not exist")).to_be_visible()
    ask(page, "Then a new one")
    page.wait_for_url(re.compile(r"\?c=[0-9a-f]{32}"))


def test_a_long_conversation_shows_its_end_and_the_rest_on_request(chat: Server, page: Page) -> None:
    with closing(ConversationStore(load_settings(home=chat.home).conversations_path)) as store:
        talk = store.create("long")
        for number in range(40):
            turn = store.add_turn(talk.id, f"question number {number}")
            store.add_answer(turn.id, Answer(f"answer {number}", "answered"))
    open_chat(page, chat, f"/?c={talk.id}")
    expect(page.get_by_text("question number 39", exact=True)).to_be_visible()
    expect(page.get_by_text("question number 9", exact=True)).to_have_count(0)
    page.get_by_role("button", name="Show 10 earlier").click()
    expect(page.get_by_text("question number 0", exact=True)).to_have_count(1)
