"""Who may come in: keys, scopes, revocation, hosts, origins, rates, and from where."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.core.errors import AccessDenied, ConfigError
from localsmith.core.settings import ServeSettings
from localsmith.serving.guard import is_loopback
from localsmith.serving.keys import SCOPES, KeyStore
from localsmith.serving.limits import RateLimiter
from localsmith.serving.server import HttpServer, check_exposure

HELLO = {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]}
CHAT, EMBED = "/v1/chat/completions", "/v1/embeddings"


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[KeyStore]:
    store = KeyStore(tmp_path / "keys.sqlite3")
    yield store
    store.close()


def post(server: Any, path: str = CHAT, body: Any = HELLO, **headers: str) -> httpx.Response:
    return httpx.post(server.url + path, json=body, headers=headers)


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_on_loopback_without_keys_anyone_on_the_machine_may_ask(
    serve: Callable[..., Any], keys: KeyStore
) -> None:
    assert post(serve(keys=keys)).status_code == 200


def test_once_a_key_exists_every_request_needs_one(serve: Callable[..., Any], keys: KeyStore) -> None:
    server = serve(keys=keys)
    assert post(server).status_code == 200
    _, token = keys.create("laptop")
    for path in (CHAT, EMBED, "/v1/completions", "/v1/anything"):
        refused = post(server, path)
        assert code(refused) == (401, "invalid_api_key")
        assert refused.headers["www-authenticate"] == "Bearer"
    for path in ("/v1/models", "/v1/models/scripted", "/metrics"):
        assert httpx.get(server.url + path).status_code == 401
    assert post(server, **bearer(token)).status_code == 200
    assert httpx.get(server.url + "/healthz").status_code == 200


@pytest.mark.parametrize(
    "spoil", [lambda t: t[:-1], lambda t: t + "x", lambda t: "x", lambda t: "ls-" + "0" * 50]
)
def test_a_wrong_key_is_refused(
    serve: Callable[..., Any], keys: KeyStore, spoil: Callable[[str], str]
) -> None:
    _, token = keys.create("laptop")
    assert code(post(serve(keys=keys), **bearer(spoil(token)))) == (401, "invalid_api_key")


def test_a_revoked_key_is_refused_from_the_next_request_on(
    serve: Callable[..., Any], keys: KeyStore, tmp_path: Path
) -> None:
    _, token = keys.create("laptop")
    server = serve(keys=keys)
    assert post(server, **bearer(token)).status_code == 200
    KeyStore(tmp_path / "keys.sqlite3").revoke("laptop")  # as another process does
    assert code(post(server, **bearer(token))) == (401, "invalid_api_key")
    assert post(server).status_code == 401, "revoking the last key opens nothing"


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        ("chat", {CHAT, "/v1/completions"}),
        ("embeddings", {EMBED}),
        ("metrics", {"/metrics"}),
        ("documents", set()),
    ],
)
def test_a_key_is_good_for_its_scopes_only(
    serve: Callable[..., Any], keys: KeyStore, scope: str, allowed: set[str]
) -> None:
    _, token = keys.create("one", [scope])
    server = serve(keys=keys)
    bodies: dict[str, Any] = {
        CHAT: HELLO,
        "/v1/completions": {"model": "scripted", "prompt": "Hi"},
        EMBED: {"model": "hashing-64", "input": "Hi"},
    }
    for path, body in bodies.items():
        assert post(server, path, body, **bearer(token)).status_code == (200 if path in allowed else 403)
    metrics = httpx.get(server.url + "/metrics", headers=bearer(token))
    assert metrics.status_code == (200 if "/metrics" in allowed else 403)
    strategy = post(server, CHAT, HELLO | {"model": "localsmith/rag"}, **bearer(token))
    assert strategy.status_code == (404 if scope == "documents" else 403)
    assert httpx.get(server.url + "/v1/models", headers=bearer(token)).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "0.0.0.0"])
def test_a_name_pointed_at_this_machine_from_elsewhere_is_refused(
    serve: Callable[..., Any], host: str
) -> None:
    server = serve()
    assert code(post(server, Host=host)) == (403, "host_not_allowed")
    assert httpx.get(server.url + "/healthz", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1", "[::1]:8000", "127.8.8.8"])
def test_loopbacks_own_names_are_taken(serve: Callable[..., Any], host: str) -> None:
    assert post(serve(), Host=host).status_code == 200


def test_a_listed_host_is_taken(serve: Callable[..., Any]) -> None:
    assert post(serve(allowed_hosts=("box.lan",)), Host="box.lan:8000").status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1"])
def test_a_page_elsewhere_cant_drive_the_server(serve: Callable[..., Any], origin: str) -> None:
    server = serve()
    refused = post(server, Origin=origin)
    assert code(refused) == (403, "origin_not_allowed")
    assert "access-control-allow-origin" not in refused.headers
    assert server.model.prompts == []


def test_a_form_or_plain_text_is_no_request(serve: Callable[..., Any]) -> None:
    """A page may send these without asking; browsers too old to send an Origin are stopped here."""
    server = serve()
    for media_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        sent = httpx.post(server.url + CHAT, content=b"{}", headers={"Content-Type": media_type})
        assert code(sent) == (415, "unsupported_media_type")


def test_an_allowed_page_may_call_and_read_even_refusals(serve: Callable[..., Any]) -> None:
    origin = "https://app.example"
    server = serve(allowed_origins=(origin,))
    asked = httpx.options(
        server.url + CHAT,
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
        },
    )
    assert asked.status_code == 200
    for response in (post(server, Origin=origin), post(server, "/v1/nothing", Origin=origin)):
        assert response.headers["access-control-allow-origin"] == origin
    assert post(server, Origin="https://evil.example").status_code == 403


def test_too_many_requests_a_minute_are_429_and_counted_a_caller(
    serve: Callable[..., Any], keys: KeyStore
) -> None:
    tokens = [keys.create(name)[1] for name in ("a", "b")]
    server = serve(keys=keys, requests_per_minute=2)
    statuses = [post(server, **bearer(tokens[0])) for _ in range(3)]
    assert [response.status_code for response in statuses] == [200, 200, 429]
    assert 1 <= int(statuses[-1].headers["retry-after"]) <= 31
    assert post(server, **bearer(tokens[1])).status_code == 200


def test_guesses_at_keys_are_limited(serve: Callable[..., Any], keys: KeyStore) -> None:
    keys.create("a")
    server = serve(keys=keys, requests_per_minute=2)
    assert [post(server, **bearer("ls-x")).status_code for _ in range(3)] == [401, 401, 429]


def test_the_engine_shares_itself_by_key_and_user(serve: Callable[..., Any], keys: KeyStore) -> None:
    from localsmith.models.scripted import ScriptedModel

    users = []

    class Noting(ScriptedModel):
        def submit(self, *args: Any, **kwargs: Any) -> Any:
            users.append(kwargs["user"])
            return super().submit(*args, **kwargs)

    server = serve(Noting(["a", "b", "c"]), keys=keys)
    post(server)
    key, token = keys.create("laptop")
    post(server, **bearer(token))
    post(server, CHAT, HELLO | {"user": "ann"}, **bearer(token))
    assert users == ["127.0.0.1", key.id, f"{key.id}/ann"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "box.lan"])
def test_no_server_for_everyone_without_a_key(keys: KeyStore, host: str) -> None:
    settings = ServeSettings(host=host)
    with pytest.raises(AccessDenied) as refused:
        check_exposure(settings, keys)
    assert "localsmith keys create" in refused.value.hint
    keys.create("laptop")
    check_exposure(settings, keys)
    keys.revoke("laptop")
    with pytest.raises(AccessDenied):
        check_exposure(settings, keys)


def test_an_open_server_wants_a_key_whatever_happens_to_its_keys(
    serve: Callable[..., Any], keys: KeyStore
) -> None:
    server = serve(keys=keys, host="0.0.0.0")
    refused = httpx.post(f"http://127.0.0.1:{server.port}{CHAT}", json=HELLO)
    assert refused.status_code == 401


def test_a_port_in_use_is_said_plainly(serve: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="can't be listened on"):
        HttpServer(lambda *_: None, ServeSettings(port=serve().port))  # type: ignore[arg-type, return-value]


# -- the store itself


def test_only_a_hash_of_a_key_is_kept(keys: KeyStore, tmp_path: Path) -> None:
    _, token = keys.create("laptop")
    keys.close()
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert token.encode() not in kept and token[12:].encode() not in kept
    assert (tmp_path / "keys.sqlite3").stat().st_mode & 0o077 == 0


def test_keys_remember_name_scopes_and_use(keys: KeyStore) -> None:
    key, token = keys.create("laptop", ["chat"])
    assert key.last_used_at is None
    keys.note_use(key)
    found = keys.find(token)
    assert found is not None and (found.name, found.scopes) == ("laptop", {"chat"})
    assert found.last_used_at is not None
    assert keys.revoke(key.id).revoked_at is not None
    assert keys.find(token) is None
    assert [k.name for k in keys.all()] == ["laptop"]
    keys.create("laptop")  # the name is free again


@pytest.mark.parametrize(
    ("name", "scopes"), [("", ["chat"]), ("x", []), ("x", ["root"]), ("taken", ["chat"])]
)
def test_a_key_that_makes_no_sense_is_refused(keys: KeyStore, name: str, scopes: list[str]) -> None:
    keys.create("taken")
    with pytest.raises(ConfigError):
        keys.create(name, scopes)


def test_every_scope_can_be_given(keys: KeyStore) -> None:
    assert keys.create("all", SCOPES)[0].scopes == set(SCOPES)


@functools.cache
def one_key() -> KeyStore:
    store = KeyStore(Path(tempfile.mkdtemp()) / "keys.sqlite3")
    store.create("one")
    return store


@given(st.text())
def test_no_text_is_a_key_by_accident(text: str) -> None:
    assert one_key().find(text) is None


@given(st.lists(st.floats(0, 5), max_size=60), st.integers(1, 20))
def test_no_caller_gets_more_than_its_rate(gaps: list[float], per_minute: int) -> None:
    now, taken = [0.0], []
    limiter = RateLimiter(per_minute, clock=lambda: now[0])
    for gap in gaps:
        now[0] += gap
        if limiter.wait_s("x") == 0:
            taken.append(now[0])
        else:
            assert limiter.wait_s("somebody else") == 0 or per_minute < len(gaps)
    assert len(taken) <= per_minute + now[0] * per_minute / 60 + 1e-6


def test_the_wait_told_is_the_wait_needed() -> None:
    now = [0.0]
    limiter = RateLimiter(60, clock=lambda: now[0])
    while not (wait_s := limiter.wait_s("x")):
        pass
    now[0] += wait_s * 0.99
    assert limiter.wait_s("x") > 0
    now[0] += wait_s * 0.02
    assert limiter.wait_s("x") == 0


def test_forgotten_callers_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from localsmith.serving import limits

    monkeypatch.setattr(limits, "MAX_CALLERS", 10)
    now = [0.0]
    limiter = RateLimiter(60, clock=lambda: now[0])
    for i in range(100):
        now[0] += 0.5
        assert limiter.wait_s(str(i)) == 0
    assert len(limiter._buckets) <= 10


@pytest.mark.parametrize(
    ("host", "is_so"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("", False)],
)
def test_loopback_is_known(host: str, is_so: bool) -> None:
    assert is_loopback(host) is is_so
