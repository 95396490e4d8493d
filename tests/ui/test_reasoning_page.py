"""Strategies on the chat page in a real browser: choosing one, live steps, approval, stop, resume."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing

import pytest
from chat_server import Server
from localsmith.core.conversations import ConversationStore
from localsmith.core.settings import load_settings
from playwright.sync_api import Page, expect

STEP = ".ls-step"
# The first run with tools imports LangGraph, which takes seconds where other tests are at work.
TIMEOUT_MS = 150_000


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests that don't end it."""
    server = Server(tmp_path_factory.mktemp("reasoning"))
    server.start()
    yield server
    server.kill()


def open_chat(page: Page, server: Server, path: str = "") -> None:
    page.set_default_timeout(TIMEOUT_MS)
    expect.set_options(timeout=TIMEOUT_MS)
    page.goto(server.url + path)
    expect(page.get_by_test_id("stChatInputTextArea")).to_be_visible()


def ask(page: Page, question: str) -> None:
    box = page.get_by_test_id("stChatInputTextArea")
    box.fill(question)
    box.press("Enter")


def choose(page: Page, title: str) -> None:
    page.get_by_role("combobox", name=re.compile("How to answer")).click()
    page.get_by_role("option", name=title, exact=True).click()


def chosen(page: Page, title: str) -> None:
    expect(page.get_by_role("combobox", name=re.compile("How to answer"))).to_have_value(title)


def go(server: Server, name: str) -> None:
    """Let a run go on that holds."""
    (server.home / name).touch()


def deleted(server: Server) -> list[str]:
    path = server.home / "deleted.txt"
    return path.read_text().split() if path.exists() else []


def test_a_strategy_is_chosen_and_kept_for_the_conversation_over_a_reload(chat: Server, page: Page) -> None:
    open_chat(page, chat)
    chosen(page, "Automatic")
    choose(page, "Program, voted")
    ask(page, "How many?")
    page.wait_for_url(re.compile(r"c=[0-9a-f]{32}"))
    expect(page.get_by_text("The answer is 18.")).to_be_visible()
    assert "s=pal-vote" in page.url
    page.reload()
    chosen(page, "Program, voted")
    page.get_by_role("button", name="New conversation").click()
    chosen(page, "Automatic")
    assert "s=" not in page.url


def test_steps_are_shown_while_they_end_and_stay_with_the_answer(chat: Server, page: Page) -> None:
    open_chat(page, chat)
    choose(page, "Program, voted")
    ask(page, "How many? hold live")
    expect(page.locator(STEP).first).to_contain_text("it asks for a quantity")
    expect(page.locator(f"{STEP} pre").first).to_contain_text("return 6 * 3")
    expect(page.locator(f"{STEP} .ls-output").first).to_have_text("18")
    expect(page.locator(f"{STEP}.ls-failed")).to_contain_text("NameError")
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_visible()  # it is still at work
    expect(page.locator(".ls-vote")).to_have_count(0)
    go(chat, "live")
    expect(page.get_by_text("The answer is 18.")).to_be_visible()
    page.get_by_text("How it was worked out · 5 steps").click()
    page.locator(STEP, has_text="Vote").click()
    expect(page.locator(".ls-vote")).to_have_count(2)
    expect(page.locator(".ls-vote").first).to_contain_text("18")
    assert page.evaluate("window.hacked") is None  # what a program printed is text


def test_stop_keeps_the_steps_that_were_done(chat: Server, page: Page) -> None:
    open_chat(page, chat)
    choose(page, "Program, voted")
    ask(page, "How many? hold stopped")
    expect(page.locator(STEP).first).to_be_visible()
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.get_by_text("Stopped before the first word.")).to_be_visible()
    page.get_by_text("How it was worked out · 4 steps").click()
    expect(page.locator(STEP).first).to_contain_text("it asks for a quantity")
    expect(page.get_by_text("The answer is 18.")).to_be_hidden()


def test_a_call_waits_for_approval_over_a_reload_and_is_made_once(chat: Server, page: Page) -> None:
    before = len(deleted(chat))
    open_chat(page, chat)
    choose(page, "Tools")
    ask(page, "delete the old report")
    expect(page.get_by_text("The model wants to call delete_file.")).to_be_visible()
    expect(page.get_by_test_id("stCode")).to_contain_text("report.txt")
    page.wait_for_url(re.compile(r"c=[0-9a-f]{32}"))
    page.reload()
    approve = page.get_by_role("button", name="Approve", exact=True)
    expect(approve).to_be_visible()
    assert len(deleted(chat)) == before  # nothing happened unasked
    approve.click()
    expect(page.get_by_text("It said: Deleted report.txt.")).to_be_visible()
    expect(approve).to_be_hidden()
    assert deleted(chat)[before:] == ["report.txt"]


def test_a_call_is_made_with_the_arguments_that_a_person_wrote(chat: Server, page: Page) -> None:
    before = len(deleted(chat))
    open_chat(page, chat)
    choose(page, "Tools")
    ask(page, "delete the old report, please")
    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_label("Arguments").fill('{"name": "draft.txt"}')
    page.get_by_role("button", name="Approve with these").click()
    expect(page.get_by_text("It said: Deleted draft.txt.")).to_be_visible()
    assert deleted(chat)[before:] == ["draft.txt"]


def test_a_refused_call_is_not_made_and_the_run_goes_on(chat: Server, page: Page) -> None:
    before = len(deleted(chat))
    open_chat(page, chat)
    choose(page, "Tools")
    ask(page, "delete the report now")
    page.get_by_role("button", name="Refuse", exact=True).click()
    expect(page.get_by_text("It said:")).to_be_visible()
    assert deleted(chat)[before:] == []


def test_a_stopped_run_goes_on_where_it_was(chat: Server, page: Page) -> None:
    open_chat(page, chat)
    choose(page, "Tools")
    ask(page, "hold continued")
    expect(page.locator(STEP, has_text="wait: Done at last")).to_be_visible()
    page.get_by_role("button", name="Stop", exact=True).click()
    continued = page.get_by_role("button", name="Continue", exact=True)
    expect(continued).to_be_visible()
    go(chat, "continued")
    continued.click()
    expect(page.get_by_text("It said: Done at last.")).to_be_visible()
    expect(continued).to_be_hidden()


def test_a_run_that_was_killed_goes_on_after_a_restart(server: Server, page: Page) -> None:
    server.start()
    open_chat(page, server)
    choose(page, "Tools")
    ask(page, "hold killed")
    page.wait_for_url(re.compile(r"c=[0-9a-f]{32}"))
    expect(page.locator(STEP, has_text="wait: Done at last")).to_be_visible()
    address = page.url
    server.kill()
    page.goto("about:blank")
    go(server, "killed")
    server.start()
    page.goto(address)
    expect(page.get_by_text("It was interrupted after 2 calls")).to_be_visible()
    page.get_by_role("button", name="Continue", exact=True).click()
    expect(page.get_by_text("It said: Done at last.")).to_be_visible()
    with closing(ConversationStore(load_settings(home=server.home).conversations_path)) as store:
        [turn] = store.turns(store.all()[0].id)
    assert turn.answer is not None and turn.answer.stop_reason == "answered"
    assert [step.summary.split(":")[0] for step in turn.answer.steps if step.kind == "tool"] == [
        "calculator", "wait", "wait", "wait",
    ]  # fmt: skip
