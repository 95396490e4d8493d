"""A client that goes away stops its generation; one that doesn't read gets away with nothing."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from localsmith.models.scripted import ScriptedModel
from localsmith.serving import stream

TOKEN_DELAY_S = 0.02
PATIENCE_S = 5.0


class Watched(ScriptedModel):
    """A slow model that keeps its generations."""

    def __init__(self, num_words: int = 2000) -> None:
        super().__init__(lambda messages: "word " * num_words, token_delay_s=TOKEN_DELAY_S, n_ctx=100_000)
        self.generations: list[Any] = []

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        self.generations.append(super().submit(*args, **kwargs))
        return self.generations[-1]


def request(port: int, body: dict[str, Any]) -> bytes:
    payload = json.dumps({"model": "scripted", "messages": [{"role": "user", "content": "Hi"}], **body})
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    )
    return f"{head}Content-Length: {len(payload)}\r\n\r\n{payload}".encode()


def sent(port: int, body: dict[str, Any]) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(request(port, body))
    return connection


def num_accepted(port: int) -> int:
    """Count the connections that the server holds open."""
    found = psutil.Process().net_connections("tcp")
    return sum(item.laddr.port == port and item.status != psutil.CONN_LISTEN for item in found)


def wait_until(is_so: Callable[[], bool]) -> float:
    begun = time.monotonic()
    while not is_so():
        assert time.monotonic() - begun < PATIENCE_S, "it did not happen in time"
        time.sleep(0.005)
    return time.monotonic() - begun


@pytest.mark.parametrize(
    "body", [{"stream": True}, {}, {"stream": True, "n": 3}], ids=["stream", "whole", "n"]
)
def test_a_disconnecting_client_stops_its_generation(serve: Callable[..., Any], body: dict[str, Any]) -> None:
    model = Watched()
    connection = sent(serve(model).port, body)
    count = body.get("n", 1)
    wait_until(
        lambda: (
            len(model.generations) == count
            and all(generation.usage.completion_tokens > 3 for generation in model.generations)
        )
    )
    connection.close()
    took_s = wait_until(lambda: all(g.finish_reason == "cancelled" for g in model.generations))
    assert took_s < 20 * TOKEN_DELAY_S
    assert all(generation.usage.completion_tokens < 200 for generation in model.generations)


def test_a_client_that_left_is_counted_as_such(serve: Callable[..., Any]) -> None:
    model = Watched()
    server = serve(model)
    connection = sent(server.port, {})
    wait_until(lambda: len(model.generations) == 1 and model.generations[0].usage.completion_tokens > 1)
    connection.close()
    wait_until(lambda: b'status="499"' in server.service.metrics.text())


def test_a_client_that_left_frees_nobody_elses_generation(serve: Callable[..., Any]) -> None:
    model = Watched(num_words=40)
    server = serve(model)
    leaving, staying = sent(server.port, {"stream": True}), sent(server.port, {"stream": True})
    wait_until(lambda: len(model.generations) == 2)
    leaving.close()
    wait_until(lambda: sorted(str(g.finish_reason) for g in model.generations) == ["cancelled", "stop"])
    text = b""
    while b"[DONE]" not in text:
        text += staying.recv(65536)
    assert text.count(b'"content":"') >= 40
    staying.close()


def test_the_deadline_ends_a_completion_with_what_it_has(serve: Callable[..., Any]) -> None:
    connection = sent(serve(Watched(), deadline_s=0.3).port, {})
    connection.settimeout(PATIENCE_S)
    reply = connection.recv(65536).decode()
    assert '"finish_reason":"length"' in reply and '"time_limit"' in reply and "word" in reply


def test_a_long_silence_is_filled_with_comments(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies close connections on which nothing comes; a long prompt takes its time."""
    monkeypatch.setattr(stream, "HEARTBEAT_S", 0.1)
    model = ScriptedModel(["late"], token_delay_s=0.6)
    connection = sent(serve(model).port, {"stream": True})
    text = b""
    while b"[DONE]" not in text:
        text += connection.recv(65536)
    assert 1 <= text.count(b": still here\n\n") <= 8
    assert text.index(b": still here") < text.index(b"late")
    connection.close()


def test_a_client_that_does_not_read_is_let_go(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "UNREAD_GRACE_S", 0.2)
    model = ScriptedModel(lambda messages: "word " * 40_000, n_ctx=10**6)
    server = serve(model, deadline_s=2.5)  # long enough to fill every buffer on the way
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(request(server.port, {"stream": True, "n": 8, "max_tokens": 100_000}))
    wait_until(lambda: b"localsmith_http_streams 1.0" in server.service.metrics.text())
    wait_until(lambda: b"localsmith_http_streams 0.0" in server.service.metrics.text())
    wait_until(lambda: num_accepted(server.port) == 0)
    connection.close()


def test_a_stopping_server_ends_running_streams(serve: Callable[..., Any]) -> None:
    model = Watched()
    server = serve(model, shutdown_s=1.0)
    connection = sent(server.port, {"stream": True})
    wait_until(lambda: len(model.generations) == 1)
    begun = time.monotonic()
    server.stop()
    assert time.monotonic() - begun < 4
    wait_until(lambda: model.generations[0].finish_reason == "cancelled")
    connection.close()
