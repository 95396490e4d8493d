"""What is asked wrongly is refused by name with a 400, not with a 5xx, and read no further than allowed."""

from __future__ import annotations

import contextlib
import json
import math
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from localsmith.core.settings import ServeSettings
from localsmith.core.types import Message
from localsmith.models.scripted import ScriptedModel
from localsmith.serving import limits
from localsmith.serving.constraints import constraint_of
from localsmith.serving.messages import to_messages
from localsmith.serving.sampling import NUM_SEEDS, sampling_params, with_seed_of
from localsmith.serving.schemas import ChatMessage, ChatRequest

CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., Any]) -> Any:
    return serve_module(max_body_bytes=20_000, requests_per_minute=0, max_choices=4)


def raw(server: Any, content: bytes | Iterator[bytes], path: str = CHAT) -> httpx.Response:
    return httpx.post(server.url + path, content=content, headers={"Content-Type": "application/json"})


def refusal(response: httpx.Response, status: int = 400) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    return error


TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"audio": {}}, "audio"),
        ({"n": 5}, "n"),
        ({"n": 0}, "n"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": ""}, "stop"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"top_p": 0}, "top_p"),
        ({"logit_bias": {"1000": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"²": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "response_format": {"type": "json_object"}}, "tools"),
        ({"regex": "a", "choice": ["b"]}, "choice"),
        ({"regex": "("}, "regex"),
        ({"grammar": "root ::= ("}, "grammar"),
        ({"choice": []}, "choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": 7}}}},
            "response_format",
        ),
        ({"collection": "default"}, "collection"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"model": None}, "model"),
        ({"seed": 2**63}, "seed"),
    ],
)
def test_a_wrong_parameter_is_named(server: Any, more: dict[str, Any], param: str) -> None:
    error = refusal(httpx.post(server.url + CHAT, json=HELLO | more))
    assert error["param"] is not None and error["param"].startswith(param)


@pytest.mark.parametrize(
    "more",
    [
        {"metadata": {"a": "b"}, "store": True, "service_tier": "auto"},
        {"parallel_tool_calls": None, "stop": None, "seed": None},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}], "name": "ann"}]},
        {"messages": [{"role": "assistant", "content": None, "refusal": None, "audio": None}]},
    ],
)
def test_what_does_no_harm_is_taken(server: Any, more: dict[str, Any]) -> None:
    assert httpx.post(server.url + CHAT, json=HELLO | more).status_code == 200


def test_pictures_are_refused_not_ignored(server: Any) -> None:
    part = {"type": "image_url", "image_url": {"url": "data:,"}}
    body = HELLO | {"messages": [{"role": "user", "content": [part]}]}
    assert refusal(httpx.post(server.url + CHAT, json=body))["param"].startswith("messages.0.content")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 10_000,
        b'{"a":' * 3_000 + b"1" + b"}" * 3_000,
        b"\xff\xfe",
        b'{"model": "\\ud800"}',
        b"null",
        b"[]",
        b'{"temperature": NaN, "model": "scripted", "messages": [{"role": "user", "content": "x"}]}',
        b'{"temperature": 1e999, "model": "scripted", "messages": [{"role": "user", "content": "x"}]}',
    ],
    ids=range(10),
)
def test_bad_json_is_a_400(server: Any, content: bytes) -> None:
    refusal(raw(server, content))


def test_a_schema_nested_like_a_bomb_is_a_400(server: Any) -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(150):
        schema = {"type": "array", "items": schema}
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    response = httpx.post(server.url + CHAT, json=HELLO | {"response_format": form})
    assert response.status_code in (200, 400)


def test_a_body_too_long_is_413_whether_it_says_so_or_not(server: Any) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(30):
            yield b" " * 1000

    assert refusal(raw(server, b" " * 20_001), 413)["code"] == "body_too_large"
    assert refusal(raw(server, endless()), 413)["code"] == "body_too_large"
    body = json.dumps(HELLO).encode()
    assert raw(server, body + b" " * (20_000 - len(body))).status_code == 200


def test_a_declared_length_is_refused_before_the_body_is_read(server: Any) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: 999999999\r\n\r\n".encode())
        assert b" 413 " in connection.recv(1000)


def test_a_body_that_never_comes_is_408(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODY_TIMEOUT_S", 0.2)
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        assert b" 408 " in connection.recv(1000)


def test_a_chunked_body_without_end_is_refused_as_soon_as_it_is_too_long(server: Any) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(6):
            connection.sendall(b"fa0\r\n" + b" " * 4000 + b"\r\n")
        assert b" 413 " in connection.recv(1000)


def test_headers_without_end_are_refused(server: Any) -> None:
    refused = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                connection.sendall(b"X-Filler: " + b"x" * 4000 + b"\r\n")
                time.sleep(0.001)  # so that they don't come in one piece
        with contextlib.suppress(ConnectionError):
            refused = b" 400 "
            refused = connection.recv(1000)  # a TimeoutError here means that it still listens
    assert b" 400 " in refused


def test_a_second_request_on_a_connection_is_served_as_the_first(server: Any) -> None:
    with httpx.Client() as client:
        for _ in range(60):  # more bytes in all than the headers of one may have
            sent = client.post(server.url + CHAT, json=HELLO | {"metadata": "x" * 2000})
            assert sent.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", CHAT, 405), ("POST", "/v1/x", 404), ("GET", "/", 404)]
)
def test_unknown_routes_are_told_in_openais_form(server: Any, method: str, path: str, status: int) -> None:
    assert refusal(httpx.request(method, server.url + path), status)["code"] == "unknown_url"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a"] * 5}, "prompt"),
        ({"best_of": 3}, "best_of"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"suffix": "x"}, "suffix"),
        ({"logprobs": 6}, "logprobs"),
    ],
)
def test_a_wrong_completion_parameter_is_named(server: Any, more: dict[str, Any], param: str) -> None:
    body = {"model": "scripted", "prompt": "x"} | more
    assert refusal(httpx.post(server.url + "/v1/completions", json=body))["param"].startswith(param)


@pytest.mark.parametrize(
    ("more", "param", "status"),
    [
        ({"dimensions": 10}, "dimensions", 400),
        ({"input": [[1, 2]]}, "input", 400),
        ({"input": ""}, "input", 400),
        ({"input": []}, "input", 400),
        ({"input": "word " * 300}, "input", 400),
        ({"input": ["x"] * 2049}, "input", 400),
        ({"model": "scripted"}, "model", 404),
    ],
)
def test_a_wrong_embedding_parameter_is_named(
    server: Any, more: dict[str, Any], param: str, status: int
) -> None:
    body = {"model": "hashing-64", "input": "x"} | more
    error = refusal(httpx.post(server.url + "/v1/embeddings", json=body), status)
    assert error["param"].startswith(param)


# -- parsing, without a server

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = st.sampled_from(sorted(ChatRequest.model_fields))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(_FIELDS, _JSON, max_size=5))
def test_no_json_makes_the_server_fail(server: Any, more: dict[str, Any]) -> None:
    content = json.dumps(HELLO | {"stream": False} | more).encode("utf-8", "surrogatepass")
    response = raw(server, content)
    assert response.status_code in (200, 400, 404), response.text


_TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
_PARTS = st.lists(st.builds(lambda text: {"type": "text", "text": text}, _TEXTS), max_size=3)


@given(
    st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), _TEXTS | _PARTS), min_size=1)
)
def test_no_message_is_lost_or_changed(turns: list[tuple[Any, Any]]) -> None:
    messages = to_messages([ChatMessage(role=role, content=content) for role, content in turns])
    texts = [c if isinstance(c, str) else "\n".join(part["text"] for part in c) for _, c in turns]
    assert [message.role for message in messages] == [role for role, _ in turns]
    for message, text in zip(messages, texts, strict=True):
        assert message.content.replace("\n", "") == text.replace("\n", "")


def test_arguments_that_are_no_object_stay_to_be_seen() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "[not json"}}
    [message] = to_messages([ChatMessage(role="assistant", tool_calls=[call])])
    assert isinstance(message, Message) and "[not json" in message.content


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "temperature": st.floats(0, 2),
            "top_p": st.floats(0.001, 1),
            "seed": st.integers(-(2**63), 2**63 - 1),
            "max_tokens": st.integers(1, 10**6),
            "stop": st.lists(st.text(min_size=1, max_size=9), max_size=16) | st.text(min_size=1, max_size=9),
        },
    ),
    st.integers(0, 127),
)
def test_what_is_asked_within_limits_is_what_the_model_gets(more: dict[str, Any], choice: int) -> None:
    body = ChatRequest.model_validate_json(json.dumps(HELLO | more))
    params = sampling_params(body, ScriptedModel([]), ServeSettings(), constraint_of(body))
    for name in ("temperature", "top_p", "max_tokens"):
        if name in more:
            assert math.isclose(getattr(params, name), more[name])
    assert 0 <= with_seed_of(params, choice).seed < NUM_SEEDS
    if isinstance(more.get("stop"), list):
        assert params.stop == tuple(more["stop"])
