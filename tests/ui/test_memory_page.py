"""The Memory page in a real browser: what is remembered is seen, changed, forgotten and switched off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from chat_server import Server
from localsmith.core.conversations import ConversationStore
from localsmith.core.memory_store import MemoryStore, Summary
from localsmith.core.settings import load_settings
from localsmith.core.types import Answer
from playwright.sync_api import Page, expect

HOSTILE = "I like ![a](http://192.0.2.1/a.png) <img src=x onerror=\"window.hacked='x'\"> *tea*."


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("memory"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def store(chat: Server) -> Iterator[MemoryStore]:
    with closing(MemoryStore(load_settings(home=chat.home).memory_path)) as store:
        for fact in store.facts():
            store.forget_fact(fact.id)
        yield store


def open_memory(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/memory")
    expect(page.get_by_role("heading", name="Memory")).to_be_visible()
    expect(page.get_by_label("Something to remember")).to_be_visible()


def test_facts_are_added_edited_and_forgotten_with_undo(chat: Server, page: Page, store: MemoryStore) -> None:
    open_memory(page, chat)
    expect(page.get_by_text("Nothing is remembered of you.")).to_be_visible()
    box = page.get_by_label("Something to remember")
    for text in ("I live in Leeds.", HOSTILE):
        box.fill(text)
        box.press("Enter")
        expect(page.locator(".ls-document", has_text=text[:10])).to_be_visible()
        expect(box).to_have_value("")
    expect(page.locator(".ls-document", has_text=HOSTILE)).to_be_visible()  # letter by letter
    assert page.evaluate("window.hacked") is None
    expect(page.get_by_text("2 facts")).to_be_visible()

    [leeds] = [fact for fact in store.facts() if "Leeds" in fact.text]
    page.locator(f".st-key-edit-{leeds.id} button").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Fact").fill("I live in York.")
    dialog.get_by_role("button", name="Save").click()
    expect(page.locator(".ls-document", has_text="I live in York.")).to_contain_text("changed today")

    page.locator(f".st-key-forget-{leeds.id} button").click()
    row = page.locator(".ls-document", has_text="I live in York.")
    expect(row).to_be_hidden()
    page.get_by_role("button", name="Undo").click()
    expect(row).to_be_visible()

    page.get_by_role("button", name="Forget all").click()
    expect(page.get_by_text("Nothing is remembered of you.")).to_be_visible()
    page.reload()
    page.get_by_text("Recently forgotten").click()
    page.locator(f".st-key-restore-{leeds.id} button").click()
    expect(row).to_be_visible()
    assert [fact.text for fact in store.facts()] == ["I live in York."]


def test_memory_can_be_switched_off_and_stays_off(chat: Server, page: Page, store: MemoryStore) -> None:
    open_memory(page, chat)
    toggle = page.get_by_test_id("stCheckbox")
    expect(toggle.get_by_role("switch")).to_be_checked()
    toggle.locator("label").click()
    expect(toggle.get_by_role("switch")).not_to_be_checked()
    page.reload()
    expect(toggle.get_by_role("switch")).not_to_be_checked()
    assert not store.is_on()
    toggle.locator("label").click()
    expect(toggle.get_by_role("switch")).to_be_checked()
    page.reload()
    expect(toggle.get_by_role("switch")).to_be_checked()
    assert store.is_on()


def test_facts_lead_to_their_conversation_and_summaries_can_be_read(
    chat: Server, page: Page, store: MemoryStore
) -> None:
    with closing(ConversationStore(load_settings(home=chat.home).conversations_path)) as conversations:
        talk = conversations.create("Bridges of *Scotland*")
        turn = conversations.add_turn(talk.id, "I'm an engineer. Who designed the Tay Bridge?")
        conversations.add_answer(turn.id, Answer("Thomas Bouch.", "answered"))
    store.add_fact("I'm an engineer.", "", "noticed", talk.id, turn.id)
    store.save_summary(Summary(talk.id, "", "The person asked about the Tay Bridge.", 6, "digest", 1.0))
    store.save_summary(Summary("gone", "", "Of a deleted conversation.", 6, "digest", 1.0))

    open_memory(page, chat)
    row = page.locator(".ls-document", has_text="I'm an engineer.")
    expect(row).to_contain_text("noticed in “Bridges of *Scotland*”")
    page.get_by_test_id("stExpander").get_by_text("Bridges of *Scotland*").click()
    expect(page.get_by_text("The person asked about the Tay Bridge.")).to_be_visible()
    expect(page.get_by_text("The first 6 messages")).to_be_visible()
    assert store.summary("gone") is None  # what is deleted leaves no summary behind
    page.get_by_role("button", name="Write afresh").click()
    expect(page.get_by_text("Summaries of long conversations")).to_be_hidden()
    assert store.summary(talk.id) is None

    page.get_by_role("button", name="Open").click()
    expect(page.get_by_text("Thomas Bouch.")).to_be_visible()
    assert f"c={talk.id}" in page.url
