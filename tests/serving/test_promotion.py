"""A model promoted by another process takes over in a running server and front door; no answer is cut."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from localsmith.core.settings import Settings, load_settings
from localsmith.core.types import Delta, Final, Progress
from localsmith.models.catalog.installed import in_use, sha256_of, use
from localsmith.models.catalog.lineage import Lineage, Metric
from localsmith.models.catalog.promotion import promote, rollback
from localsmith.models.catalog.pull import register_trained
from localsmith.models.catalog.selection import threads
from localsmith.models.catalog.speed import SPEED_FILE, Speed, SpeedStore

from localsmith import Localsmith
from localsmith.cli_serve import parts_of

pytestmark = pytest.mark.real_model

ASK: Any = [{"role": "user", "content": "Tell a story about a fox and a bear."}]
CHAT: Any = {"model": "localsmith", "messages": ASK, "temperature": 0}
WAIT_S = 90


@pytest.fixture
def settings(tmp_path: Path, small_model_path: Path) -> Settings:
    """A data folder with the small model under two names, "one" in use, its speed measured already."""
    settings = load_settings(home=tmp_path, model={"n_ctx": 1024, "n_batch": 64}, answer={"max_tokens": 32})
    sha256 = sha256_of(small_model_path)
    for name, figure in (("one", 0.3), ("two", 0.3), ("worse", 0.1)):
        metrics = (Metric("rouge_l", 0.2, figure),)
        lineage = Lineage("base", sha256, "run-7", "d41d", "full", "Q4_1", 1.7e9, metrics=metrics)
        register_trained(settings, small_model_path, name, lineage)
    use(settings, "one")
    speed = Speed(500.0, 80.0, measured_at=time.time())
    SpeedStore(settings.models_dir / SPEED_FILE).put(sha256, threads(settings), speed)
    return settings


@pytest.fixture
def ls(settings: Settings) -> Iterator[Localsmith]:
    with Localsmith(settings=settings) as ls:
        assert ls.engine.name == "one"
        yield ls


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose memory holds one model at a time."""
    memory = psutil.virtual_memory()._replace(available=10_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)


def command(settings: Settings, *args: str) -> subprocess.CompletedProcess[str]:
    """Run `localsmith models …` as a person does, in a process of its own."""
    environment = {**os.environ, "LOCALSMITH_HOME": str(settings.home), "COLUMNS": "200"}
    python = [sys.executable, "-c", "from localsmith.cli import main; main()", "models"]
    return subprocess.run([*python, *args], env=environment, capture_output=True, text=True, timeout=120)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def answer_of(ls: Localsmith, events: Any = None) -> Any:
    """Run to the answer and leave the rest of the events, as callers do."""
    for event in events or ls.events("Tell a story.", strategy="direct"):
        if isinstance(event, Final):
            return event.answer
    raise AssertionError("a run ends with Final")


def test_a_stream_over_http_ends_whole_and_the_next_question_is_the_promoted_models(
    ls: Localsmith, settings: Settings, serve: Callable[..., Any]
) -> None:
    server = serve(parts=parts_of(ls))
    api = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)

    def served() -> str:
        return next(iter(api.models.list())).id

    stream = iter(api.chat.completions.create(**CHAT, max_tokens=300, stream=True, logprobs=True))
    chunks = [next(stream) for _ in range(3)]
    done = command(settings, "promote", "two")
    assert done.returncode == 0, done.stderr
    assert "two is in use; before, it was one." in done.stdout and "rouge_l 0.2 -> 0.3" in done.stdout
    wait_until(lambda: served() == "two")
    chunks += list(stream)
    choices = [chunk.choices[0] for chunk in chunks]
    tokens = [token for choice in choices if choice.logprobs for token in choice.logprobs.content or ()]
    text = "".join(choice.delta.content or "" for choice in choices)
    assert b"".join(bytes(token.bytes or ()) for token in tokens).decode() == text
    assert choices[-1].finish_reason == "stop" or len(tokens) == 300
    before = dict(ls.engine.stats().finished)
    assert api.chat.completions.create(**CHAT, max_tokens=4).choices[0].message.content
    assert ls.engine.stats().finished != tuple(before.items()), "the new engine answered"
    assert answer_of(ls).model == "two"
    with pytest.raises(openai.NotFoundError):
        api.chat.completions.create(model="one", messages=ASK)
    assert command(settings, "rollback").returncode == 0
    wait_until(lambda: served() == "one")
    assert api.chat.completions.create(model="one", messages=ASK, max_tokens=4).choices[0].message.content


def test_a_run_that_began_before_keeps_its_model_and_the_next_takes_the_new_one(
    ls: Localsmith, settings: Settings
) -> None:
    chat_model = ls.chat_model
    events = ls.events("Tell a story.", strategy="direct")
    first = next(event for event in events if isinstance(event, Delta))
    promote(settings, "two")
    wait_until(lambda: ls.engine.name == "two")
    answer = answer_of(ls, events)
    assert answer.model == "one" and answer.stop_reason == "answered" and answer.text.startswith(first.text)
    assert answer_of(ls).model == "two"
    assert chat_model.invoke("Say hello.", max_tokens=4).response_metadata["model_name"] == "two"
    rollback(settings)
    wait_until(lambda: ls.engine.name == "one")
    assert answer_of(ls).model == "one"
    assert ls.traces.get(answer.trace_id).info.model == "one"  # type: ignore[union-attr]


@pytest.mark.usefixtures("little_memory")
def test_with_memory_for_one_model_requests_wait_and_are_told_so(
    ls: Localsmith, settings: Settings, serve: Callable[..., Any]
) -> None:
    server = serve(parts=parts_of(ls))
    api = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    running = ls.events("Tell a story.", strategy="direct")
    next(event for event in running if isinstance(event, Delta))
    promote(settings, "two")
    wait_until(lambda: ls.loading[0].state == "loading")
    health = httpx.get(f"{server.url}/healthz")
    assert health.status_code == 503 and "one" in health.json()["parts"]["model"]["detail"]
    said: list[Any] = []
    asking = [
        threading.Thread(target=lambda: said.append(api.chat.completions.create(**CHAT, max_tokens=4))),
        threading.Thread(target=lambda: said.append(answer_of(ls).model)),
    ]
    for thread in asking:
        thread.start()
    waiting = ls.events("Tell a story.", strategy="direct")
    event = next(waiting)
    assert isinstance(event, Progress) and event.stage == "loading" and "one" in event.detail
    time.sleep(1.5)  # longer than the server waits for a model that loads for the first time
    assert not said and ls.engine.name == "one"
    assert answer_of(ls, running).model == "one"
    assert answer_of(ls, waiting).model == "two"
    for thread in asking:
        thread.join(WAIT_S)
    assert len(said) == 2 and "two" in said and ls.loading[0].state == "ready"


def test_a_promoted_model_that_cant_be_loaded_leaves_the_old_one_and_says_why(
    ls: Localsmith, settings: Settings, serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(parts=parts_of(ls))
    promote(settings, "two")
    (settings.models_dir / "two" / "SmolLM2-135M-Instruct.Q4_1.gguf").unlink()
    wait_until(lambda: "could not take over" in ls.loading[0].detail)
    part = httpx.get(f"{server.url}/healthz").json()["parts"]["model"]
    assert part["state"] == "ready" and "two could not take over" in part["detail"]
    assert answer_of(ls).model == "one"
    assert "promotion_failed" in caplog.text
    rollback(settings)
    wait_until(lambda: ls.loading[0].detail == "")
    assert answer_of(ls).model == "one"


def test_a_model_that_was_named_stays(settings: Settings) -> None:
    named = Localsmith("one", settings=settings)
    pinned = Localsmith(settings=settings, follows_promotions=False)
    following = Localsmith(settings=settings)
    with named, pinned, following:
        assert {front.engine.name for front in (named, pinned, following)} == {"one"}
        promote(settings, "two")
        wait_until(lambda: following.engine.name == "two")
        assert (named.engine.name, pinned.engine.name) == ("one", "one")


def test_the_commands_show_lineage_refuse_the_worse_and_go_back(settings: Settings) -> None:
    listed = command(settings, "list").stdout
    assert "two (from base)" in listed
    shown = command(settings, "show", "worse").stdout
    assert "run-7" in shown and "rouge_l 0.2 -> 0.1" in shown and "base (whole)" in shown
    refused = command(settings, "promote", "worse")
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert "rouge_l 0.2 -> 0.1" in refused.stderr and "--anyway" in refused.stderr
    assert in_use(settings) == "one"
    assert command(settings, "promote", "worse", "--anyway").returncode == 0
    assert "one is in use" in command(settings, "rollback").stdout
    assert "the automatic choice is in use" in command(settings, "rollback").stdout
    none_left = command(settings, "rollback")
    assert none_left.returncode == 1 and "no earlier model" in none_left.stderr
