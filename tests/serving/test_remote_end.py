"""`localsmith serve` as a remote model's server: the whole way over HTTP, with scripted and real models."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from localsmith.agents.rag import RagStrategy
from localsmith.core.contracts import PartState, ServedModel
from localsmith.core.errors import AccessDenied, ContextOverflow, ModelNotFoundError, ModelNotReadyError
from localsmith.core.settings import AnswerSettings, ModelSettings, RetrievalSettings, load_settings
from localsmith.core.types import Answer, Delta, Message, Question, SamplingParams
from localsmith.models.chat.tool_calls import tool_call_text
from localsmith.models.embedding.fake import HashingEmbedder
from localsmith.models.engine import Engine
from localsmith.models.remote.model import RemoteModel, connect
from localsmith.models.scripted import ScriptedModel
from localsmith.retrieval.library import Library
from localsmith.retrieval.loaders import load_document
from localsmith.serving.keys import KeyStore
from localsmith.serving.parts import ServedParts
from pydantic import SecretStr

from localsmith import Localsmith
from localsmith.cli_serve import parts_of as parts_of_front_door

BRIDGE = b"The Tay Bridge was opened in 1878. It was designed by Thomas Bouch, an English engineer."
CANTEEN = b"The canteen opens at noon. It serves soup, bread and fish on weekdays."
ASKED = Question("Who designed the Tay Bridge?")
NO_KEY = SecretStr("")
PATIENCE_S = 10.0
WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


class InProcessParser:
    """The real loaders in this process."""

    def parse(self, path: Path, name: str) -> Any:
        return load_document(path, name)


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    library = Library(tmp_path / "library", HashingEmbedder(), RetrievalSettings(), parser=InProcessParser())
    library.add(BRIDGE, name="bridge.txt")
    library.add(CANTEEN, name="canteen.txt")
    yield library
    library.close()


@pytest.fixture
def join() -> Iterator[Callable[..., RemoteModel]]:
    opened: list[RemoteModel] = []

    def join_(server: Any, name: str = "scripted", key: SecretStr = NO_KEY) -> RemoteModel:
        opened.append(connect(f"openai://127.0.0.1:{server.port}/{name}", api_key=key))
        return opened[-1]

    yield join_
    for model in opened:
        model.close()


def text_of(generation: Any) -> str:
    return "".join(part.text for part in generation if isinstance(part, Delta))


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def test_an_answer_over_http_is_streamed_and_cited(serve: Any, join: Any, library: Library) -> None:
    upstream = ScriptedModel(["The Tay Bridge was designed by Thomas Bouch [1]."])
    model: ServedModel = join(serve(upstream))
    assert (model.name, model.n_ctx) == ("scripted", upstream.n_ctx)
    strategy = RagStrategy(model, library)
    pieces = list(strategy.stream(ASKED))
    answer = sum(pieces[1:], pieces[0])
    assert len(pieces) > 3 and isinstance(answer, Answer)
    assert answer.stop_reason == "answered" and answer.model == "scripted"
    [citation] = answer.citations
    assert citation.is_supported and citation.passage.document_name == "bridge.txt"
    assert upstream.prompts[0][-1].role == "user" and "Thomas Bouch" in upstream.prompts[0][-1].content
    assert upstream.samplings[0].repeat_penalty == 1.1 and upstream.samplings[0].temperature == 0
    assert answer.usage.prompt_tokens == upstream.count_prompt(upstream.prompts[0])
    assert answer.budget is not None
    assert answer.budget.prompt_tokens >= answer.usage.prompt_tokens, "the estimate is on the safe side"


def test_a_stopped_answer_stops_the_server(serve: Any, join: Any) -> None:
    class Watched(ScriptedModel):
        generation: Any = None

        def submit(self, *args: Any, **kwargs: Any) -> Any:
            self.generation = super().submit(*args, **kwargs)
            return self.generation

    upstream = Watched(lambda messages: "word " * 3000, token_delay_s=0.01, n_ctx=10_000)
    model = join(serve(upstream))
    for part in model.submit([Message("user", "Hi")], SamplingParams(max_tokens=3000)):
        if isinstance(part, Delta):
            break
    wait_until(lambda: upstream.generation.finish_reason == "cancelled")
    assert upstream.generation.usage.completion_tokens < 500


def test_a_key_that_the_server_wants_is_given(serve: Any, join: Any, tmp_path: Path) -> None:
    keys = KeyStore(tmp_path / "keys.sqlite3")
    _, token = keys.create("front", ("chat",))
    server = serve(ScriptedModel(["Hello."]), keys=keys)
    with pytest.raises(AccessDenied, match="refuses the key"):
        join(server)
    assert text_of(join(server, key=SecretStr(token)).submit([Message("user", "Hi")])) == "Hello."
    keys.close()


def test_the_servers_overflow_is_ours(serve: Any, join: Any) -> None:
    model = join(serve(ScriptedModel(["never"], n_ctx=300)))
    with pytest.raises(ContextOverflow):
        model.submit([Message("user", "word " * 400)], SamplingParams(max_tokens=5))
    model._n_ctx = 10**6  # as where an estimate falls short
    with pytest.raises(ContextOverflow) as refused:
        list(model.submit([Message("user", "word " * 400)], SamplingParams(max_tokens=5)))
    assert "larger window" in refused.value.hint


def test_a_server_that_loads_is_waited_for(serve: Any, join: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localsmith.models.remote.model._POLL_S", 0.05)
    begun = time.monotonic()

    def is_loaded() -> bool:
        return time.monotonic() - begun > 0.5

    def model() -> ScriptedModel:
        if not is_loaded():
            raise ModelNotReadyError("The model is still loading.")
        return ScriptedModel(["Here."])

    def loading() -> list[PartState]:
        return [State("model", "ready" if is_loaded() else "loading")]

    embedder = HashingEmbedder()
    server = serve(parts=ServedParts(model=model, embedder=lambda: embedder, loading=loading))
    assert text_of(join(server).submit([Message("user", "Hi")])) == "Here."


def test_a_server_that_gets_ready_between_two_questions_is_no_server_without_the_model(
    serve: Any, join: Any
) -> None:
    is_loaded = False

    def model() -> ScriptedModel:
        if not is_loaded:
            raise ModelNotReadyError("The model is still loading.")
        return ScriptedModel(["Here."])

    def loading() -> list[PartState]:  # asked after the list without the model
        nonlocal is_loaded
        is_loaded = True
        return [State("model", "ready")]

    embedder = HashingEmbedder()
    server = serve(parts=ServedParts(model=model, embedder=lambda: embedder, loading=loading))
    assert text_of(join(server).submit([Message("user", "Hi")])) == "Here."
    with pytest.raises(ModelNotFoundError, match="serves scripted, hashing-64, not another"):
        join(server, "another")


class State:
    """What /healthz shows of a part."""

    progress, detail, error, elapsed_s = None, "", None, 0.0

    def __init__(self, name: str, state: Any) -> None:
        self.name, self.state = name, state


def test_a_server_in_front_of_a_server_passes_everything_on(serve: Any, join: Any) -> None:
    call = tool_call_text("weather", {"town": "Oslo"})
    upstream = ScriptedModel(["one two", "It rains.", call, "more"])
    front = serve(join(serve(upstream)))
    api = openai.OpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=0)
    ask: Any = {"model": "scripted", "messages": [{"role": "user", "content": "Weather in Oslo?"}]}
    whole = api.chat.completions.create(**ask, max_tokens=20, seed=5, temperature=0.3)
    assert whole.choices[0].message.content == "one two"
    assert whole.usage.prompt_tokens == upstream.count_prompt(upstream.prompts[0])
    assert (upstream.samplings[0].seed, upstream.samplings[0].temperature) == (5, 0.3)
    chunks = list(api.chat.completions.create(**ask, max_tokens=20, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "It rains."
    called = api.chat.completions.create(**ask, max_tokens=50, tools=[WEATHER]).choices[0]
    assert called.finish_reason == "tool_calls"
    assert called.message.tool_calls[0].function.name == "weather"
    assert api.completions.create(model="scripted", prompt="x", max_tokens=9).choices[0].text == "more"
    assert {model.id for model in api.models.list()} >= {"scripted"}


def test_the_server_in_front_comes_back_with_the_one_behind(serve: Any, join: Any, tmp_path: Path) -> None:
    """A front that started first, or whose server was restarted, needs no restart itself."""
    behind = serve(ScriptedModel(["Back."]))
    good = f"openai://127.0.0.1:{behind.port}/scripted"
    with Localsmith("openai://127.0.0.1:1/scripted", settings=load_settings(home=tmp_path)) as ls:
        parts = parts_of_front_door(ls)
        ls._engine.start()
        wait_until(lambda: ls.loading[0].state == "failed")
        with pytest.raises(ModelNotReadyError, match="can't be reached"):
            parts.model()
        ls._engine._settings = load_settings(home=tmp_path, model={"name": good})
        wait_until(lambda: parts.loading()[0].state == "ready")
        assert text_of(parts.model().submit([Message("user", "Hi")])) == "Back."


def test_the_front_door_loads_no_model_of_its_own(serve: Any, tmp_path: Path) -> None:
    from langchain_openai import ChatOpenAI

    server = serve(ScriptedModel(["Hello."]))
    name = f"openai://127.0.0.1:{server.port}/scripted"
    with Localsmith(name, settings=load_settings(home=tmp_path)) as ls:
        assert ls.engine.name == "scripted" and isinstance(ls.chat_model, ChatOpenAI)
        assert ls.chat_model.invoke("Hi").content == "Hello."
    assert not (tmp_path / "models").exists()
    with pytest.raises(ModelNotReadyError):
        ls.engine.submit([Message("user", "Hi")])


@pytest.mark.real_model
def test_a_real_model_over_http_says_what_it_says_here(serve: Any, join: Any, small_model_path: Path) -> None:
    engine = Engine(small_model_path, name="smollm2-135m", settings=ModelSettings(n_ctx=1024))
    try:
        model = join(serve(engine), "smollm2-135m")
        messages = [Message("user", "Name three colours of the rainbow.")]
        sampling = SamplingParams(max_tokens=24, num_logprobs=1)
        here, there = engine.submit(messages, sampling), model.submit(messages, sampling)
        ours = [part for part in here if isinstance(part, Delta)]
        theirs = [part for part in there if isinstance(part, Delta)]
        assert "".join(part.text for part in theirs) == "".join(part.text for part in ours) != ""
        assert there.usage.prompt_tokens == engine.count_prompt(messages) <= model.count_prompt(messages)
        assert there.usage.completion_tokens == here.usage.completion_tokens
        tokens = [token.token for part in theirs for token in part.logprobs]
        assert tokens == [token.token for part in ours for token in part.logprobs] and len(tokens) > 5
        raw = SamplingParams(max_tokens=8)
        assert text_of(model.submit_text("1, 2, 3,", raw)) == text_of(engine.submit_text("1, 2, 3,", raw))
        ruled = SamplingParams(max_tokens=8, grammar='root ::= "yes" | "no"')
        assert text_of(model.submit(messages, ruled)) in ("yes", "no")
    finally:
        engine.close()


@pytest.mark.real_model
def test_a_real_model_over_http_answers_from_a_document_with_a_citation(
    serve: Any, join: Any, library: Library, browser_model_path: Path
) -> None:
    engine = Engine(browser_model_path, name="qwen2.5-coder-0.5b", settings=ModelSettings(n_ctx=2048))
    try:
        model = join(serve(engine), "qwen2.5-coder-0.5b")
        answer = RagStrategy(model, library, AnswerSettings(max_tokens=48)).invoke(ASKED)
    finally:
        engine.close()
    assert answer.stop_reason == "answered" and "Bouch" in answer.text
    assert any(citation.is_supported for citation in answer.citations)
    assert answer.usage.completion_tokens > 0 and answer.model == "qwen2.5-coder-0.5b"


def test_doctor_looks_at_the_other_server(serve: Any, tmp_path: Path) -> None:
    from localsmith.doctor import _models

    server = serve(ScriptedModel(["Hello."]))
    for port, is_ok in ((server.port, True), (1, False)):
        name = f"openai://127.0.0.1:{port}/scripted"
        checks = {check.name: check for check in _models(load_settings(home=tmp_path, model={"name": name}))}
        assert checks["model server"].is_ok is is_ok and "chat model" not in checks
    assert "can't be reached" in checks["model server"].detail
