"""A served chat and a real browser to look at it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

if TYPE_CHECKING:
    from chat_server import Server

HERE = Path(__file__).parent
# Streamlit serves serve_scripted.py from this folder and puts it on the path; the tests need it there too.
sys.path.insert(0, str(HERE))
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and "page" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)
            # A click that falls into Streamlit's redrawing is lost on a busy machine.
            item.add_marker(pytest.mark.flaky(reruns=2, only_rerun=".*"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    from chat_server import Server

    server = Server(tmp_path)
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails the test when it asks any other machine for anything."""
    expect.set_options(timeout=20_000)
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(20_000)
    elsewhere: list[str] = []

    def note(request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob", "about") and parts.hostname != "127.0.0.1":
            elsewhere.append(request.url)

    context.on("request", note)
    yield context.new_page()
    context.close()
    assert not elsewhere, f"The page asked another machine: {elsewhere}"
