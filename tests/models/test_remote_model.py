"""A model on another server: found, counted, asked, cancelled and refused as `core.contracts` promises.

The server here is a small imitation that speaks like vLLM, llama-server or none of both; what it was sent is
kept. The real ones: `localsmith serve` in tests/serving/test_remote_end.py; llama-server by hand.
"""

from __future__ import annotations

import asyncio
import builtins
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.core.errors import (
    AccessDenied,
    ConfigError,
    ContextOverflow,
    GenerationError,
    LocalsmithError,
    ModelError,
    ModelLoadError,
    ModelNotFoundError,
    ModelNotReadyError,
    Overloaded,
)
from localsmith.core.extras import install_command
from localsmith.core.settings import load_settings, remote_api_key
from localsmith.core.types import Delta, Message, Prefill, SamplingParams
from localsmith.models.chat.tool_calls import tool_call_text
from localsmith.models.grammar.constraint import tool_call_grammar
from localsmith.models.remote.address import RemoteAddress, is_remote
from localsmith.models.remote.estimate import estimate_prompt, estimate_text
from localsmith.models.remote.messages import to_openai, to_request, tool_request
from localsmith.models.remote.model import RemoteModel, connect
from pydantic import SecretStr

from localsmith import Localsmith

KEY = "sk-very-secret"
HELLO = [Message("user", "Hello there")]
PATIENCE_S = 5.0


def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": reason, **more}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


class Upstream:
    """An OpenAI-compatible server with a script.

    Attributes:
        sent: (path, body) of every POST.
        has_hung_up: Set when a client left during a stream.
    """

    def __init__(self, owner: str, **model: Any) -> None:
        self.models: list[dict[str, Any]] = [{"id": "org/model", "owned_by": owner, **model}]
        self.can_count = owner in ("vllm", "llamacpp")
        self.loads_left = 0
        self.reply: list[Any] = [chunk({"content": "Hi"}), chunk({"content": " you"}), chunk({}, "stop")]
        self.usage = {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13}
        self.status = 200
        self.error: dict[str, Any] = {}
        self.delay_s = 0.0
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.keys: set[str | None] = set()
        self.has_hung_up = threading.Event()
        outer = self

        class Handler(_Handler):
            upstream = outer

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def name(self) -> str:
        return f"openai://127.0.0.1:{self.port}/org/model"

    def asked(self, path: str = "/v1/chat/completions") -> dict[str, Any]:
        return [body for sent_path, body in self.sent if sent_path == path][-1]


class _Handler(BaseHTTPRequestHandler):
    upstream: Upstream
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        return

    def answer(self, body: Any, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        up = self.upstream
        up.keys.add(self.headers["authorization"])
        if up.status in (401, 403):
            self.answer({"error": up.error}, up.status)
        elif up.loads_left > 0:
            up.loads_left -= 1
            self.answer({"error": {"message": "Loading model"}}, 503)
        elif self.path == "/v1/models":
            self.answer({"data": up.models})
        elif self.path == "/props" and up.models[0]["owned_by"] == "llamacpp":
            self.answer({"default_generation_settings": {"n_ctx": 777}})
        else:
            self.answer({"error": {"message": "no such page"}}, 404)

    def do_POST(self) -> None:
        up = self.upstream
        up.keys.add(self.headers["authorization"])
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        up.sent.append((self.path, body))
        if self.path in ("/tokenize", "/apply-template") and not up.can_count:
            self.answer({"detail": "Not Found"}, 404)
        elif self.path == "/apply-template":
            self.answer({"prompt": " ".join(message["content"] for message in body["messages"])})
        elif self.path == "/tokenize":
            text = body.get("prompt", body.get("content"))
            words = text or " ".join(message["content"] for message in body["messages"])
            tokens = [1] * len(words.split())
            self.answer({"count": len(tokens), "tokens": tokens, "max_model_len": 0})
        elif up.status != 200:
            self.answer({"error": up.error}, up.status)
        else:
            self.stream()

    def stream(self) -> None:
        up = self.upstream
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        try:
            for event in up.reply:
                time.sleep(up.delay_s)
                self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
                self.wfile.flush()
            last = {**chunk({}), "choices": [], "usage": up.usage}
            self.wfile.write(f"data: {json.dumps(last)}\n\ndata: [DONE]\n\n".encode())
        except OSError:
            up.has_hung_up.set()
        self.close_connection = True


@pytest.fixture
def upstream() -> Iterator[Callable[..., Upstream]]:
    opened: list[Upstream] = []

    def open_(owner: str = "vllm", **model: Any) -> Upstream:
        opened.append(Upstream(owner, **({"max_model_len": 500} | model)))
        return opened[-1]

    yield open_
    for server in opened:
        server.server.shutdown()
        server.server.server_close()


@pytest.fixture
def join() -> Iterator[Callable[..., RemoteModel]]:
    """Connects, and closes at the end."""
    opened: list[RemoteModel] = []

    def join_(server: Upstream, **options: Any) -> RemoteModel:
        options = {"api_key": SecretStr(KEY)} | options
        opened.append(connect(server.name, **options))
        return opened[-1]

    yield join_
    for model in opened:
        model.close()


def text_of(parts: Any) -> str:
    return "".join(part.text for part in parts if isinstance(part, Delta))


# -- addresses


@pytest.mark.parametrize(
    ("text", "api_url", "model"),
    [
        ("openai://gpu:8000/qwen", "http://gpu:8000/v1", "qwen"),
        ("openai+https://llm.example.org/Qwen/Qwen2.5", "https://llm.example.org/v1", "Qwen/Qwen2.5"),
        ("openai+https://example.org/api/v1/meta/llama", "https://example.org/api/v1", "meta/llama"),
        ("openai://[::1]:8000/llama3:8b", "http://[::1]:8000/v1", "llama3:8b"),
        ("openai://gpu:8080//models/a%20b.gguf", "http://gpu:8080/v1", "/models/a b.gguf"),
        ("openai://gpu:8000/v1", "http://gpu:8000/v1", ""),
        ("openai://gpu:8000", "http://gpu:8000/v1", ""),
    ],
)
def test_an_address_names_server_and_model(text: str, api_url: str, model: str) -> None:
    address = RemoteAddress.parse(text)
    assert (address.api_url, address.model) == (api_url, model)
    assert is_remote(text) and not is_remote("qwen2.5-coder-0.5b")


@pytest.mark.parametrize(
    "text",
    ["vllm://gpu/x", "openai:///x", "openai://gpu:99999/x", "openai://gpu/x?key=1", "openai://gpu/x#y"],
)
def test_what_is_no_address_is_refused_when_the_front_door_is_made(text: str) -> None:
    with pytest.raises(ConfigError, match="model.name") as refused:
        Localsmith(text)
    assert "openai://HOST:PORT/MODEL" in refused.value.hint


def test_a_key_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError) as refused:
        RemoteAddress.parse(f"openai://{KEY}@gpu:8000/x")
    assert KEY not in str(refused.value) + refused.value.hint


# -- the key


def test_the_key_comes_from_the_environment_a_file_or_the_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = load_settings(model={"api_key": "of-settings"})
    assert remote_api_key(settings).get_secret_value() == "of-settings"
    (tmp_path / "key").write_text("of-file\n")
    monkeypatch.setenv("LOCALSMITH_REMOTE_API_KEY_FILE", str(tmp_path / "key"))
    assert remote_api_key(settings).get_secret_value() == "of-file"
    monkeypatch.setenv("LOCALSMITH_REMOTE_API_KEY", "of-variable")
    assert remote_api_key(settings).get_secret_value() == "of-variable"
    monkeypatch.delenv("LOCALSMITH_REMOTE_API_KEY")
    monkeypatch.setenv("LOCALSMITH_REMOTE_API_KEY_FILE", str(tmp_path / "gone"))
    with pytest.raises(ConfigError, match="gone"):
        remote_api_key(settings)


def test_the_key_is_sent_and_shown_nowhere(upstream: Any, join: Any, capfd: Any) -> None:
    server = upstream()
    model = join(server)
    assert text_of(model.submit(HELLO)) == "Hi you"
    assert server.keys == {f"Bearer {KEY}"}
    settings = load_settings(model={"api_key": KEY, "name": server.name})
    server.status, server.error = 401, {"message": "bad key"}
    with pytest.raises(AccessDenied) as refused:
        connect(server.name, api_key=SecretStr(KEY))
    chat = model.chat_model(SamplingParams())
    shown = [repr(model), repr(chat), repr(settings), settings.model_dump_json(), str(refused.value)]
    assert KEY not in "".join(shown) + "".join(capfd.readouterr())
    with pytest.raises(ConfigError) as wrong:
        load_settings(model={"api_key": 123454321})
    assert "123454321" not in str(wrong.value)


def test_another_services_key_is_never_sent(
    upstream: Any, join: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_PROXY", "http://127.0.0.1:1")
    server = upstream()
    assert text_of(join(server, api_key=SecretStr("")).submit(HELLO)) == "Hi you"
    assert KEY not in str(server.keys)


# -- what the server says of itself


@pytest.mark.parametrize(
    ("owner", "model", "n_ctx"),
    [
        ("vllm", {"max_model_len": 4096}, 4096),
        ("llamacpp", {"meta": {"n_ctx_train": 32768, "n_vocab": 49152}, "max_model_len": None}, 777),
        ("localsmith", {"context_length": 2048, "max_model_len": None}, 2048),
    ],
)
def test_the_window_is_the_servers(
    upstream: Any, join: Any, owner: str, model: dict[str, Any], n_ctx: int
) -> None:
    server = upstream(owner, **model)
    assert join(server).n_ctx == n_ctx
    assert join(server, n_ctx=600).n_ctx == 600, "a smaller one that the settings name is kept to"
    assert join(server, n_ctx=100_000).n_ctx == n_ctx


def test_a_window_that_nobody_tells_is_asked_for(upstream: Any, join: Any) -> None:
    server = upstream("somebody", max_model_len=None)
    with pytest.raises(ConfigError, match="context window") as refused:
        join(server)
    assert "model.n_ctx" in refused.value.hint
    assert join(server, n_ctx=900).n_ctx == 900


def test_a_model_that_is_not_there_is_told_with_those_that_are(upstream: Any) -> None:
    server = upstream()
    with pytest.raises(ModelNotFoundError, match="org/model, not other"):
        connect(f"openai://127.0.0.1:{server.port}/other", api_key=SecretStr(""))
    only = connect(f"openai://127.0.0.1:{server.port}", api_key=SecretStr(""))
    assert only.name == "org/model"
    only.close()
    server.models.append({"id": "second"})
    with pytest.raises(ModelNotFoundError, match="org/model, second"):
        connect(f"openai://127.0.0.1:{server.port}", api_key=SecretStr(""))


def test_a_server_that_still_loads_is_waited_for(
    upstream: Any, join: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localsmith.models.remote.model._POLL_S", 0.01)
    server = upstream()
    server.loads_left = 3
    words: list[str] = []
    assert join(server, on_wait=words.append).name == "org/model"
    assert sum("is loading" in word for word in words) == 3
    server.loads_left = 10**6
    stop = threading.Event()
    stop.set()
    with pytest.raises(ModelNotReadyError, match="still loading"):
        join(server, stop=stop)


def test_a_server_that_is_not_there_is_told(upstream: Any) -> None:
    server = upstream()
    server.server.shutdown()
    server.server.server_close()
    with pytest.raises(ModelNotReadyError, match="can't be reached") as refused:
        connect(server.name, api_key=SecretStr(""))
    assert refused.value.retryable and "model.name" in refused.value.hint


def test_a_missing_library_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch, upstream: Any) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "langchain_openai":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModelLoadError, match="langchain-openai") as refused:
        connect(upstream().name, api_key=SecretStr(""))
    assert install_command("remote") in refused.value.hint


# -- counting


@pytest.mark.parametrize("owner", ["vllm", "llamacpp"])
def test_tokens_are_counted_by_the_server_and_once(upstream: Any, join: Any, owner: str) -> None:
    server = upstream(owner)
    model = join(server)
    server.sent.clear()
    messages = [Message("system", "one two"), Message("user", "three")]
    assert model.counts_exactly
    assert (model.count_prompt(messages), model.count_text("a b c d")) == (3, 4)
    num = len(server.sent)
    assert (model.count_prompt(messages), model.count_text("a b c d")) == (3, 4)
    assert len(server.sent) == num
    model.count_prompt(messages, [{"type": "function"}])
    assert len(server.sent) > num, "tools are part of the prompt"


def test_where_the_server_cannot_count_the_estimate_is_used(upstream: Any, join: Any) -> None:
    server = upstream("vllm")
    server.can_count = False  # a gateway that passes on /v1 alone
    model = join(server)
    assert not model.counts_exactly
    assert model.count_text("Hello there") == estimate_text("Hello there")
    assert model.count_prompt(HELLO) == estimate_prompt(HELLO)


@given(st.text(max_size=300), st.text(max_size=300))
def test_the_estimate_never_falls_when_text_is_added(first: str, second: str) -> None:
    assert estimate_text(first + " " + second) >= max(estimate_text(first), estimate_text(second)) - 1
    assert estimate_prompt([Message("user", first)]) > estimate_text(first)
    assert estimate_text(first) <= len(first.encode("utf-8", "surrogatepass"))


@pytest.mark.real_model
def test_the_estimate_lies_above_what_a_real_tokenizer_makes(
    small_model_path: Path, browser_model_path: Path
) -> None:
    import llama_cpp

    root = Path(__file__).resolve().parents[2]
    texts = [path.read_text(encoding="utf-8") for path in sorted((root / "models").glob("*.py"))[:5]]
    texts += [path.read_text(encoding="utf-8") for path in sorted((root / "docs").glob("*.md"))]
    texts += [
        "Geschwindigkeitsbegrenzung für Kraftfahrzeuge außer Übergängen. " * 20,
        "敏捷的棕色狐狸。" * 20,
    ]
    texts += ["7c9e6679-7425-40de-944b-e07fc1f90ae7 deadbeef00c0ffee1234 " * 20, "Быстрая лиса. " * 20]
    for path in (small_model_path, browser_model_path):
        vocabulary = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
        for text in texts:
            num = len(vocabulary.tokenize(text.encode(), add_bos=False, special=False))
            assert num <= estimate_text(text), (path.name, text[:60])
        vocabulary.close()


# -- what is asked


@pytest.mark.parametrize("owner", ["vllm", "llamacpp", "localsmith", "somebody"])
def test_sampling_parameters_reach_the_server_in_its_words(upstream: Any, join: Any, owner: str) -> None:
    server = upstream(owner)
    sampling = SamplingParams(
        max_tokens=9,
        temperature=0.5,
        top_k=0,
        top_p=0.8,
        min_p=0.1,
        repeat_penalty=1.2,
        seed=3,
        stop=("END",),
        logit_bias=((5, -1.0),),
        num_logprobs=2,
    )
    list(join(server).submit(HELLO, sampling))
    body = server.asked()
    assert body["model"] == "org/model" and body["stream"]
    assert body["messages"] == [{"role": "user", "content": "Hello there"}]
    common = {"max_tokens": 9, "temperature": 0.5, "top_p": 0.8, "seed": 3, "stop": ["END"]}
    assert common.items() <= body.items()
    assert body["logit_bias"] == {"5": -1.0} and body["logprobs"] is True and body["top_logprobs"] == 2
    own = {name: body[name] for name in ("top_k", "min_p", "repeat_penalty", "priority") if name in body}
    assert (
        own
        == {
            "vllm": {"top_k": -1, "min_p": 0.1},
            "llamacpp": {"top_k": 0, "min_p": 0.1, "repeat_penalty": 1.2},
            "localsmith": {"top_k": 0, "min_p": 0.1, "repeat_penalty": 1.2, "priority": "interactive"},
            "somebody": {},
        }[owner]
    )


def test_a_grammar_is_asked_where_it_is_kept_and_refused_elsewhere() -> None:
    ruled = SamplingParams(grammar='root ::= "a"')
    assert to_request(ruled, "llamacpp")["extra_body"]["grammar"] == ruled.grammar
    assert to_request(ruled, "vllm")["extra_body"]["structured_outputs"] == {"grammar": ruled.grammar}
    with pytest.raises(ModelError, match="grammar"):
        to_request(ruled, "other")
    with pytest.raises(ModelError, match="trigger"):
        to_request(SamplingParams(grammar="x", grammar_trigger="<tool_call>"), "llamacpp")


def test_a_grammar_that_forces_a_call_becomes_the_tool_choice() -> None:
    tools = [
        {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
        for name in ("weather", "time")
    ]
    named = {"type": "function", "function": {"name": "time"}}
    for choice, told in ((None, None), ("required", "required"), ("time", named)):
        made = tool_call_grammar(tools, choice=choice)
        ruled = SamplingParams(grammar=made.grammar, grammar_trigger=made.trigger)
        request, sampling = tool_request(tools, ruled)
        assert request.get("tool_choice") == told and request["tools"] == tools
        assert (sampling.grammar, sampling.grammar_trigger) == ("", "")
    with pytest.raises(ModelError, match="tools"):
        tool_request(tools, SamplingParams(grammar='root ::= "a"'))


def test_tool_calls_in_the_text_become_openais_and_back(upstream: Any, join: Any) -> None:
    call = tool_call_text("weather", {"town": "Oslo"})
    told = to_openai(
        [Message("user", "?"), Message("assistant", f"I look.\n{call}"), Message("tool", "rain")]
    )
    assert told[1]["content"] == "I look." and told[1]["tool_calls"][0]["function"]["name"] == "weather"
    assert told[2] == {
        "role": "tool",
        "tool_call_id": told[1]["tool_calls"][0]["id"],
        "content": "rain",
    }
    assert to_openai([Message("tool", "alone")]) == [{"role": "user", "content": "alone"}]
    server = upstream()
    start = {"index": 0, "id": "x", "type": "function", "function": {"name": "weather", "arguments": '{"to'}}
    rest = {"index": 0, "function": {"arguments": 'wn": "Oslo"}'}}
    server.reply = [chunk({"tool_calls": [start]}), chunk({"tool_calls": [rest]}), chunk({}, "tool_calls")]
    generation = join(server).submit(HELLO, tools=[{"type": "function", "function": {"name": "weather"}}])
    assert text_of(generation) == call and generation.finish_reason == "stop"
    assert server.asked()["tools"][0]["function"]["name"] == "weather"


def test_a_raw_text_is_continued(upstream: Any, join: Any) -> None:
    server = upstream()
    server.reply = [{**chunk({}), "choices": [{"index": 0, "text": " 4", "finish_reason": "length"}]}]
    generation = join(server).submit_text("1 2 3", SamplingParams(max_tokens=1))
    assert (text_of(generation), generation.finish_reason) == (" 4", "length")
    assert server.asked("/v1/completions")["prompt"] == "1 2 3"


# -- what comes back


def test_prefill_comes_first_and_usage_is_the_servers(upstream: Any, join: Any) -> None:
    server = upstream()
    server.usage["prompt_tokens_details"] = {"cached_tokens": 4}
    model = join(server)
    generation = model.submit(HELLO)
    assert generation.finish_reason is None
    parts = list(generation)
    assert parts == [Prefill(0, 2, 0), Prefill(2, 2, 0), Delta("Hi"), Delta(" you")]
    usage = generation.usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (11, 4, 2)
    assert usage.time_to_first_token_s > 0 and generation.finish_reason == "stop"
    stats = model.stats()
    assert (stats.num_running, stats.finished, stats.completion_tokens) == (0, (("stop", 1),), 2)
    assert model.cached_prefix_tokens(HELLO) == 0 and model.prompt_tokens_per_s == float("inf")


def test_async_iteration_gives_the_same(upstream: Any, join: Any) -> None:
    server = upstream()
    server.reply[-1] = chunk({}, "length")
    model = join(server)

    async def read() -> tuple[str, Any]:
        generation = model.submit(HELLO)
        return text_of([part async for part in generation]), generation.finish_reason

    assert asyncio.run(read()) == ("Hi you", "length")


def test_logprobs_come_with_their_tokens(upstream: Any, join: Any) -> None:
    server = upstream()
    token = {"token": "Hi", "bytes": [72, 105], "logprob": -0.5, "top_logprobs": []}
    top = {"token": "Ho", "bytes": None, "logprob": -1.5}
    content = [{**token, "top_logprobs": [top]}]
    server.reply = [chunk({"content": "Hi"}, logprobs={"content": content}), chunk({}, "stop")]
    parts = [p for p in join(server).submit(HELLO, SamplingParams(num_logprobs=1)) if isinstance(p, Delta)]
    [told] = parts[0].logprobs
    assert (told.token, told.logprob, told.top[0].token) == (b"Hi", -0.5, b"Ho")


# -- stopping


def endless(server: Upstream) -> Upstream:
    server.reply = [chunk({"content": "word "})] * 5000
    server.delay_s = 0.01
    return server


def test_leaving_the_loop_closes_the_stream(upstream: Any, join: Any) -> None:
    server = endless(upstream())
    generation = join(server).submit(HELLO)
    for part in generation:
        if isinstance(part, Delta):
            break
    generation.cancel()
    assert server.has_hung_up.wait(PATIENCE_S)
    assert generation.finish_reason == "cancelled"


def test_leaving_the_async_loop_closes_the_stream(upstream: Any, join: Any) -> None:
    server = endless(upstream())
    model = join(server)

    async def read() -> None:
        async def consume() -> None:
            async for _ in model.submit(HELLO):
                pass

        task = asyncio.create_task(consume())
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(read())
    assert server.has_hung_up.wait(PATIENCE_S)


def test_an_event_of_the_callers_cancels_while_the_server_is_silent(upstream: Any, join: Any) -> None:
    server = endless(upstream())
    server.delay_s = 2.0
    cancel = threading.Event()
    generation = join(server).submit(HELLO, cancel=cancel)
    threading.Timer(0.1, cancel.set).start()
    began = time.monotonic()
    list(generation)
    assert generation.finish_reason == "cancelled" and time.monotonic() - began < 1.0


def test_a_deadline_ends_a_completion_with_what_it_has(upstream: Any, join: Any) -> None:
    server = endless(upstream())
    generation = join(server).submit(HELLO, deadline_s=0.3)
    assert text_of(generation).startswith("word word ")
    assert generation.finish_reason == "deadline" and generation.usage.completion_tokens > 1
    assert server.has_hung_up.wait(PATIENCE_S)


def test_closing_ends_everything(upstream: Any, join: Any) -> None:
    server = endless(upstream())
    model = join(server)
    generation = model.submit(HELLO)
    parts = iter(generation)
    while not isinstance(next(parts), Delta):
        pass
    before = {thread.name for thread in threading.enumerate()}
    model.close()
    model.close()
    list(parts)
    assert generation.finish_reason == "cancelled" and server.has_hung_up.wait(PATIENCE_S)
    assert "localsmith-remote" in before
    with pytest.raises(ModelNotReadyError, match="closed"):
        model.submit(HELLO)


# -- errors


@pytest.mark.parametrize(
    ("status", "error", "kind", "words"),
    [
        (401, {"message": "bad key"}, AccessDenied, "refuses the key"),
        (404, {"message": "no such model"}, ModelNotFoundError, "no such model"),
        (429, {"message": "queue full"}, Overloaded, "queue full"),
        (503, {"message": "loading"}, ModelNotReadyError, "not ready"),
        (500, {"message": "CUDA error"}, GenerationError, "CUDA error"),
        (400, {"message": "bad top_p"}, GenerationError, "bad top_p"),
        (400, {"message": "This model's maximum context length is 9 tokens."}, ContextOverflow, "500"),
        (
            400,
            {
                "message": "too long",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 3031,
                "n_ctx": 77,
            },
            ContextOverflow,
            "3031 tokens .* holds 77",
        ),
        (400, {"message": "no", "code": "context_length_exceeded"}, ContextOverflow, "500"),
    ],
)
def test_refusals_become_our_errors(
    upstream: Any, join: Any, status: int, error: dict[str, Any], kind: type[LocalsmithError], words: str
) -> None:
    server = upstream()
    model = join(server)
    server.status, server.error = status, error
    generation = model.submit(HELLO)
    with pytest.raises(kind, match=words) as raised:
        list(generation)
    assert type(raised.value) is kind and generation.finish_reason is not None
    assert kind is GenerationError or raised.value.hint
    assert model.stats().finished == (("failed", 1),)


def test_an_answer_cut_in_the_middle_is_an_error(upstream: Any, join: Any) -> None:
    server = upstream()
    server.reply = [chunk({"content": "half"})]
    with pytest.raises(GenerationError, match="in the middle"):
        list(join(server).submit(HELLO))
    server.reply = [chunk({"content": "half"}), {"error": {"message": "out of memory", "code": 500}}]
    with pytest.raises(GenerationError, match="out of memory"):
        list(join(server).submit(HELLO))


def test_a_prompt_that_does_not_fit_is_refused_before_it_is_sent(upstream: Any, join: Any) -> None:
    server = upstream()
    long = [Message("user", "word " * 200)]
    with pytest.raises(ContextOverflow) as refused:
        join(server).submit(long, SamplingParams(max_tokens=301))
    assert (refused.value.prompt_tokens, refused.value.n_ctx) == (200, 500)
    server.can_count = False
    with pytest.raises(ContextOverflow) as guessed:
        join(server).submit(long, SamplingParams(max_tokens=301))
    assert "estimated" in guessed.value.hint
    assert all(path == "/tokenize" for path, _ in server.sent)


# -- LangChain


def test_the_chat_model_is_langchains_own(upstream: Any, join: Any) -> None:
    from langchain_openai import ChatOpenAI

    server = upstream()
    chat = join(server).chat_model(SamplingParams(max_tokens=5, top_k=3))
    assert isinstance(chat, ChatOpenAI)
    assert "".join(piece.text for piece in chat.stream("Hello")) == "Hi you"
    body = server.asked()
    assert (body["max_completion_tokens"], body["top_k"]) == (5, 3) and "max_tokens" not in body
