from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from localsmith.agents.tools.addresses import checked_address, is_listed, is_public
from localsmith.agents.tools.web import WebRules, fetch, web_fetch
from localsmith.core.errors import ToolArgumentError, ToolExecutionError

PAGES: dict[str, tuple[int, dict[str, str], bytes]] = {
    "/page": (
        200,
        {"Content-Type": "text/html"},
        b"<title>x</title><h1>Tea</h1><p>Boil it.<script>evil()</script>",
    ),
    "/text": (200, {"Content-Type": "text/plain; charset=utf-8"}, "Grüße".encode()),
    "/image": (200, {"Content-Type": "image/png"}, b"\x89PNG"),
    "/large": (200, {"Content-Type": "text/plain"}, b"a" * 300_000),
    "/missing": (404, {"Content-Type": "text/plain"}, b"no"),
    "/inside": (302, {"Location": "http://inside.test:80/secret"}, b""),
    "/loop": (302, {"Location": "/loop"}, b""),
    "/to-page": (301, {"Location": "/page"}, b""),
    "/to-file": (302, {"Location": "file:///etc/passwd"}, b""),
    "/to-other": (302, {"Location": "https://evil.test/"}, b""),
}


class Pages(BaseHTTPRequestHandler):
    seen: list[str] = []

    def do_GET(self) -> None:
        self.seen.append(f"{self.headers['Host']}{self.path}")
        if self.path == "/slow":
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            for _ in range(100):
                time.sleep(0.05)
                self.wfile.write(b"a")
                self.wfile.flush()
            return
        status, headers, body = PAGES[self.path.partition("?")[0]]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    Pages.seen = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def rules(port: int, **changed: object) -> WebRules:
    """Rules under which pages.test is this machine, and inside.test a private address."""
    known = {"pages.test": ["127.0.0.1"], "inside.test": ["10.0.0.1"]}
    values: dict[str, object] = {
        "allowed_hosts": (f"pages.test:{port}", "inside.test"),
        "look_up": lambda host, _: known.get(host, []),
        "may_connect": lambda address: address == "127.0.0.1",
        "timeout_s": 5.0,
    }
    return WebRules(**(values | changed))  # type: ignore[arg-type]


def test_a_page_is_read_as_text(port: int) -> None:
    assert fetch(f"http://pages.test:{port}/page", rules(port)) == "x\nTea\nBoil it."
    assert fetch(f"http://pages.test:{port}/text", rules(port)) == "Grüße"
    assert fetch(f"http://pages.test:{port}/to-page", rules(port)) == "x\nTea\nBoil it."
    assert Pages.seen[0] == f"pages.test:{port}/page"


@pytest.mark.parametrize("path", ["/image", "/large", "/missing", "/loop", "/inside"])
def test_what_is_no_page_of_reasonable_size_is_an_error(port: int, path: str) -> None:
    with pytest.raises(ToolExecutionError):
        fetch(f"http://pages.test:{port}{path}", rules(port, max_bytes=100_000))


def test_a_redirect_gets_nowhere_that_the_first_address_could_not(port: int) -> None:
    with pytest.raises(ToolExecutionError, match="private network"):
        fetch(f"http://pages.test:{port}/inside", rules(port))
    for path in ("/to-file", "/to-other"):
        with pytest.raises(ToolArgumentError):
            fetch(f"http://pages.test:{port}{path}", rules(port))


def test_a_slow_page_is_given_up_in_time(port: int) -> None:
    begun = time.monotonic()
    with pytest.raises(ToolExecutionError):
        fetch(f"http://pages.test:{port}/slow", rules(port, timeout_s=0.4))
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.test/",
        "https://pages.test.evil.test/",
        "https://pages.test@evil.test/",
        "http://user:password@inside.test/",
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://localhost/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://inside.test:8080/",
        "ftp://inside.test/",
        "file:///etc/passwd",
        "//inside.test/",
        "http://inside.test:99999/",
        "javascript:alert(1)",
        "",
    ],
)
def test_hosts_that_are_not_listed_are_never_asked_for(url: str) -> None:
    def look_up(host: str, port: int) -> list[str]:
        pytest.fail(f"{host} was looked up")

    with pytest.raises(ToolArgumentError):
        fetch(url, WebRules(("inside.test", "pages.test"), look_up=look_up))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0", "255.255.255.255", "224.0.0.1", "192.0.2.1", "198.18.0.1", "240.0.0.1", "::1", "::",
        "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "2002:7f00:1::", "64:ff9b::7f00:1", "::7f00:1", "2001:db8::1", "localhost", "",
    ],
)  # fmt: skip
def test_addresses_inside_are_never_public(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(ToolExecutionError):
        checked_address("rebinding.test", 80, lambda *_: ["93.184.216.34", address])


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(port: int) -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    with pytest.raises(ToolExecutionError, match="private network"):
        # The first answer is allowed, and connected to; the redirect's look-up gets the second.
        fetch(f"http://pages.test:{port}/to-page", rules(port, look_up=lambda *_: next(answers)))
    assert Pages.seen == [f"pages.test:{port}/to-page"]


def test_the_list_names_hosts_and_all_below() -> None:
    assert is_listed("docs.python.org", ["*.python.org"]) and is_listed("A.example", ["a.Example"])
    for host in ("python.org", "evilpython.org", "python.org.evil.test"):
        assert not is_listed(host, ["*.python.org"])


def test_without_hosts_nothing_is_fetched_and_a_person_agrees_by_default() -> None:
    tool = web_fetch([])
    assert tool.needs_approval
    with pytest.raises(ToolArgumentError):
        fetch("https://example.org/", WebRules())
