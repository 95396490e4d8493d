"""The Documents page in a real browser: upload, errors, progress, cancel, undo."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from chat_server import Server
from localsmith.core.settings import load_settings
from localsmith.models.embedding.fake import HashingEmbedder
from localsmith.retrieval.library import Library
from localsmith.ui.welcome_documents import COLLECTION, welcome_files
from playwright.sync_api import Locator, Page, expect

DOCUMENTS = Path(__file__).parent.parent / "data" / "documents"


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("documents"))
    server.max_file_bytes = 3 * 2**20
    server.start()
    yield server
    server.kill()


def open_documents(page: Page, server: Server, collection: str = "") -> None:
    page.goto(f"{server.url}/documents")
    expect(page.get_by_test_id("stFileUploader")).to_be_visible()
    if collection:
        page.get_by_role("button", name="New").click()
        page.get_by_label("Name of the new collection").fill(collection)
        page.get_by_role("button", name="Create").click()
        expect(combobox(page)).to_have_value(collection)


def upload(page: Page, files: Any) -> None:
    page.locator('[data-testid="stFileUploader"] input[type=file]').set_input_files(files)


def text(name: str, words: str) -> dict[str, Any]:
    return {"name": name, "mimeType": "text/plain", "buffer": words.encode()}


def test_a_batch_goes_on_past_bad_files_and_names_the_reasons(chat: Server, page: Page) -> None:
    open_documents(page, chat, "batch")
    expect(page.get_by_text("up to 3 MB each")).to_be_visible()
    names = ("tracemonkey.pdf", "libreoffice-writer-password.pdf", "multicolumn.pdf")
    upload(page, [DOCUMENTS / name for name in names])
    expect(page.get_by_text("2 added, 1 not added")).to_be_visible()
    failed = page.locator(".ls-files .ls-failed")
    expect(failed).to_contain_text("libreoffice-writer-password.pdf")
    expect(failed).to_contain_text("password")
    expect(page.get_by_text("2 documents")).to_be_visible()
    expect(page.locator(".ls-document", has_text="tracemonkey.pdf")).to_contain_text("14 pages")

    upload(page, [DOCUMENTS / "tracemonkey.pdf"])
    expect(page.get_by_text("1 already here")).to_be_visible()
    expect(page.get_by_text("2 documents")).to_be_visible()
    page.get_by_role("button", name="Dismiss").click()
    expect(page.get_by_text("1 already here")).to_be_hidden()


def test_a_file_over_the_limit_is_refused_before_it_is_sent(chat: Server, page: Page) -> None:
    open_documents(page, chat, "limit")
    upload(page, [text("large.txt", "x" * (3 * 2**20 + 10))])
    expect(page.get_by_text(re.compile(r"must be 3.*MB or smaller", re.IGNORECASE))).to_be_visible()
    expect(page.get_by_text("No documents here yet.")).to_be_visible()


def test_a_finished_batch_leads_to_a_new_conversation_over_its_collection(server: Server, page: Page) -> None:
    settings = load_settings(home=server.home)
    with closing(Library(settings.library_dir, HashingEmbedder(), settings.retrieval)) as library:
        library.create_collection(COLLECTION)
        list(library.ingest(welcome_files(), COLLECTION))
    server.start()
    page.goto(server.url)
    box = page.get_by_test_id("stChatInputTextArea")
    box.fill("What does Localsmith do?")
    box.press("Enter")
    expect(page.get_by_text("The document says")).to_be_visible()
    page.wait_for_url(re.compile(r"\?c="))

    page.get_by_role("link", name="Documents", exact=True).click()
    upload(page, [text("broken.pdf", "no PDF at all")])
    expect(page.get_by_text("1 not added")).to_be_visible()
    ask_about = page.get_by_role("button", name="Ask about these")
    expect(ask_about).to_be_hidden()
    upload(page, [text("trees.txt", "Birches shed their bark in winter.")])
    ask_about.click()

    expect(box).to_be_visible()
    expect(page.get_by_text("The document says")).to_be_hidden()
    expect(page.get_by_role("combobox", name=re.compile("Answers come from"))).to_have_value("default")
    box.fill("What do birches do?")
    box.press("Enter")
    expect(page.get_by_role("button", name=re.compile(r"\[1\] trees\.txt"))).to_be_visible()


def test_removing_can_be_undone_at_once_and_later(chat: Server, page: Page) -> None:
    open_documents(page, chat, "undo")
    upload(page, [text("![a](b.png) *one*.txt", "One document about trees.")])
    row = page.locator(".ls-document", has_text="![a](b.png) *one*.txt")
    expect(row).to_be_visible()
    page.get_by_role("button", name="Remove").click()
    expect(row).to_be_hidden()
    expect(page.get_by_text("Removed “![a](b.png) *one*.txt”.")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(row).to_be_visible()

    page.get_by_role("button", name="Remove").click()
    expect(row).to_be_hidden()
    page.reload()
    open_documents(page, chat)
    choose(page, "undo")
    page.get_by_text("Recently removed").click()
    page.get_by_role("button", name="Restore").first.click()
    expect(row).to_be_visible()


def combobox(page: Page) -> Locator:
    # While Streamlit replaces the focused box, the old one stays behind the new one for a while.
    return page.get_by_role("combobox", name=re.compile("Collection")).first


def choose(page: Page, collection: str) -> None:
    box = combobox(page)
    box.click()
    page.get_by_role("option", name=collection, exact=True).click()
    expect(box).to_have_value(collection)


def test_a_deleted_collection_comes_back_with_its_documents(chat: Server, page: Page) -> None:
    open_documents(page, chat, "project")
    upload(page, [text("plan.txt", "The plan is to plant trees.")])
    expect(page.locator(".ls-document")).to_have_count(1)
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("Deleted the collection “project”.")).to_be_visible()
    expect(combobox(page)).to_have_value("default")
    page.get_by_role("button", name="Undo").click()
    expect(combobox(page)).to_have_value("project")
    expect(page.locator(".ls-document")).to_have_count(1)


def test_a_name_that_is_taken_is_told(chat: Server, page: Page) -> None:
    open_documents(page, chat, "taken")
    page.get_by_role("button", name="New").click()
    page.get_by_label("Name of the new collection").fill("Taken")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_text("There is a collection named")).to_be_visible()


def test_a_large_batch_goes_on_without_the_page_and_can_be_cancelled(chat: Server, page: Page) -> None:
    open_documents(page, chat, "large")
    upload(page, [text(f"file-{n}.txt", f"Document {n} about trees. " * 4000) for n in range(120)])
    expect(page.get_by_text(re.compile(r"Adding documents: \d+ of 120 files"))).to_be_visible()
    page.goto(chat.url)
    expect(page.get_by_test_id("stChatInputTextArea")).to_be_visible()
    time.sleep(1)
    open_documents(page, chat)
    choose(page, "large")
    expect(page.get_by_text(re.compile(r"Adding documents: \d+ of 120 files"))).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text(re.compile(r"\d+ added, \d+ cancelled"))).to_be_visible()
    settings = load_settings(home=chat.home)
    with closing(Library(settings.library_dir, HashingEmbedder(), settings.retrieval)) as library:
        added = len(library.documents("large"))
    assert 0 < added < 120
    expect(page.get_by_text(f"{added} added")).to_be_visible()


def test_indexing_again_reads_every_document(chat: Server, page: Page) -> None:
    open_documents(page, chat, "again")
    upload(page, [text("a.txt", "About apples."), text("b.txt", "About bees.")])
    expect(page.get_by_text("2 documents")).to_be_visible()
    page.get_by_role("button", name="Index again").click()
    expect(page.get_by_text(re.compile("2 indexed again"))).to_be_visible()
    expect(page.get_by_text("2 documents")).to_be_visible()


def test_many_documents_are_found_by_name(chat: Server, page: Page) -> None:
    open_documents(page, chat, "many")
    upload(page, [text(f"report-{n}.txt", f"Report {n}.") for n in range(30)])
    expect(page.get_by_text("30 added")).to_be_visible()
    expect(page.locator(".ls-document")).to_have_count(25)
    box = page.get_by_placeholder("Find by name")
    box.fill("report-29")
    box.press("Enter")
    expect(page.locator(".ls-document")).to_have_count(1)
