"""A served chat and a real browser to look at it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from localsmith.core.settings import load_settings
from localsmith.ui.launch import command
from playwright.sync_api import Browser, Page, Request, sync_playwright

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
START_TIMEOUT_S = 60.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and "page" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A chat server in its own process, that can be killed and started again on the same data."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)
    script: Path | None = HERE / "serve_scripted.py"
    port: int = field(default_factory=free_port)
    started_at: float = 0.0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        settings = load_settings(home=self.home, ui={"port": self.port})
        environment = {**os.environ, "LOCALSMITH_HOME": str(self.home), **self.environment}
        with (self.home / "server.log").open("ab") as log:
            self.started_at = time.monotonic()
            self.process = subprocess.Popen(
                command(settings, open_browser=False, script=self.script),
                env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=tempfile.gettempdir(),
            )  # fmt: skip
        self.wait()

    def wait(self) -> None:
        while time.monotonic() - self.started_at < START_TIMEOUT_S:
            assert self.process is not None
            if self.process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.02)
        pytest.fail(f"The server did not start:\n{self.log()}")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def log(self) -> str:
        return (self.home / "server.log").read_text(errors="replace")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
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
