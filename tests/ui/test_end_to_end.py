"""The whole of it: the real command, model, embedder and browser, over a real paper."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from chat_server import Server
from playwright.sync_api import Page, expect

MODEL = "qwen2.5-coder-0.5b"
LOADED_MS = 180_000
ANSWERED_MS = 180_000

pytestmark = [pytest.mark.real_model, pytest.mark.timeout(600)]


def test_a_paper_dropped_into_the_browser_is_asked_and_cited(
    server: Server,
    page: Page,
    shared_data: Path,
    models_home: Path,
    browser_model_path: Path,
    embedder_path: Path,
) -> None:
    assert browser_model_path.exists() and embedder_path.exists()
    (server.home / "models").symlink_to(models_home / "models")
    server.environment["LOCALSMITH_MODEL__NAME"] = MODEL
    # What a busy machine reads in 15 s varies; what the model reads here must not.
    server.environment["LOCALSMITH_ANSWER__SECONDS_TO_FIRST_TOKEN"] = "120"
    program = Path(sys.executable).with_name("localsmith")
    server.start([str(program), "ui", "--no-open", "--port", str(server.port)])

    page.goto(server.url)
    expect(page.get_by_test_id("stChatInputTextArea")).to_be_visible()
    page.get_by_role("link", name="Documents", exact=True).click()
    upload = page.locator('[data-testid="stFileUploader"] input[type=file]')
    upload.set_input_files(shared_data / "documents" / "tracemonkey.pdf")
    expect(page.get_by_text("1 added")).to_be_visible(timeout=LOADED_MS)
    expect(page.locator(".ls-document")).to_contain_text("14 pages")

    page.get_by_role("link", name="Chat", exact=True).click()
    box = page.get_by_test_id("stChatInputTextArea")
    box.fill("What is a trace tree?")
    box.press("Enter")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    lengths = _lengths_while_written(page)
    assert len(set(lengths)) >= 3, f"The answer did not stream: {lengths}"
    expect(page.locator(".ls-meta")).to_contain_text("tokens/s")

    answer = page.get_by_test_id("stChatMessage").last.inner_text()
    assert re.search(r"\btraces?\b", answer), answer
    source = page.get_by_role("button", name=re.compile(r"\[\d\] tracemonkey\.pdf, page \d+")).first
    source.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("blockquote").first).to_contain_text(
        re.compile(r"\b(trace|tree)s?\b", re.IGNORECASE)
    )
    expect(dialog.locator("img").first).to_be_visible()
    assert dialog.locator("img").first.evaluate("image => image.naturalWidth") >= 500


def _lengths_while_written(page: Page) -> list[int]:
    """Return how long the answer was each time it was looked at, until it is whole."""
    message = page.get_by_test_id("stChatMessage").last
    lengths: list[int] = []
    for _ in range(ANSWERED_MS // 100):
        text = message.locator('[data-testid="stMarkdownContainer"]').first
        if page.locator(".ls-meta").count():
            return lengths
        if text.count() and "▍" in (words := text.inner_text()):
            lengths.append(len(words))
        page.wait_for_timeout(100)
    pytest.fail("The answer was never finished.")
