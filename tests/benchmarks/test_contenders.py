"""The processes of the engine's benchmark: our worker, the load over HTTP, the servers' command lines."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from localsmith.core.types import EngineStats, Message
from localsmith.models.scripted import ScriptedModel

Served = Callable[..., tuple[str, str]]


class CountingModel(ScriptedModel):
    """A scripted model whose statistics grow, as the engine's do."""

    calls = 0

    def stats(self) -> EngineStats:
        self.calls += 1
        return replace(super().stats(), decode_s=2.0 * self.calls, sampling_s=0.5 * self.calls, busy_s=3.0)


def echo(messages: Any) -> str:
    return "one two three four five six seven eight nine ten"


def test_text_is_cut_to_the_token() -> None:
    from benchmarks.engine.worker import Ours

    ours = Ours(ScriptedModel(echo))
    text = " ".join(f"word{number}" for number in range(300))
    model = ScriptedModel(echo)
    for wanted in (10, 101, 250):
        assert wanted - 2 <= model.count_text(ours.fit(text, wanted)) <= wanted
    assert ours.fit("short", 100) == "short"


def test_samples_differ_in_seed_only_and_the_statistics_are_those_of_the_run() -> None:
    from benchmarks.engine.worker import TEMPERATURE, Ours

    model = CountingModel(echo)
    answer = Ours(model).samples("Say something.", num=3, max_tokens=5)
    assert [sampling.seed for sampling in model.samplings] == [0, 1, 2]
    assert {sampling.temperature for sampling in model.samplings} == {TEMPERATURE}
    assert answer["completion_tokens"] == [5, 5, 5]
    assert (answer["decode_s"], answer["sampling_s"]) == (2.0, 0.5)
    assert answer["seconds"] > 0


def test_turns_keep_their_roles_and_report_usage() -> None:
    from benchmarks.engine.worker import Ours

    model = ScriptedModel(echo)
    usage = Ours(model).turns([["system", "Be brief."], ["user", "Hi"]], max_tokens=1)
    assert model.prompts[0] == (Message("system", "Be brief."), Message("user", "Hi"))
    assert usage["prompt_tokens"] > 0
    assert usage["completion_tokens"] == 1


def test_a_worker_survives_a_request_it_cannot_do() -> None:
    from benchmarks.engine.worker import Ours, serve

    answers = io.StringIO()
    requests = [
        '{"what": "fit", "text": "a"}\n',
        '{"what": "turns", "turns": [["user", "x"]], "max_tokens": 99999}\n',
        '{"what": "ready"}\n',
    ]
    serve(Ours(ScriptedModel(echo)), requests, answers)
    first, second, third = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert "TypeError" in first["error"]
    assert "ContextOverflow" in second["error"]
    assert third == {"result": "scripted"}


def test_eight_clients_are_served_at_once_and_their_tokens_counted(served: Served) -> None:
    from benchmarks.engine.load import generate_load

    model = ScriptedModel(echo, token_delay_s=0.02)
    url, _ = served(model)
    seconds, replies = generate_load(url, "scripted", [f"Question {n}" for n in range(8)], max_tokens=6)
    assert [reply.completion_tokens for reply in replies] == [6] * 8
    assert {reply.finish_reason for reply in replies} == {"length"}
    assert all(0 < reply.first_token_s < reply.seconds <= seconds for reply in replies)
    assert sorted(prompt[-1].content for prompt in model.prompts) == [f"Question {n}" for n in range(8)]


def test_a_refused_request_makes_the_run_fail(served: Served) -> None:
    from benchmarks.engine.load import LoadFailed, generate_load

    url, _ = served(ScriptedModel(echo, n_ctx=64))
    with pytest.raises(LoadFailed, match="HTTP 400"):
        generate_load(url, "scripted", ["word " * 500], max_tokens=6)


@pytest.mark.parametrize(
    ("lines", "tokens"),
    [
        (['{"choices": [{"delta": {"content": "a"}, "finish_reason": null}]}'] * 3, 3),
        (['{"choices": [{"delta": {"content": "a"}, "finish_reason": "length"}]}'], 96),
        (
            [
                '{"choices": [{"delta": {"content": "a"}}]}',
                '{"choices": [], "usage": {"completion_tokens": 7}}',
            ],
            7,
        ),
    ],
)
def test_tokens_are_counted_with_and_without_usage(lines: list[str], tokens: int) -> None:
    from benchmarks.engine.load import StreamReader

    reader = StreamReader(time.perf_counter(), max_tokens=96)
    for line in [*lines, '{"choices": [{"delta": {}, "finish_reason": null}]}']:
        reader.read(f"data: {line}")
    if tokens != 96:
        reader.read('data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}')
    reader.read("data: [DONE]")
    assert reader.reply().completion_tokens == tokens


def test_a_stream_that_breaks_off_is_no_measurement() -> None:
    from benchmarks.engine.load import LoadFailed, StreamReader

    reader = StreamReader(time.perf_counter(), max_tokens=96)
    reader.read('data: {"choices": [{"delta": {"content": "a"}, "finish_reason": null}]}')
    with pytest.raises(LoadFailed, match="finish_reason"):
        reader.reply()
    reader.read('data: {"choices": [{"finish_reason": "stop"}], "usage": {"completion_tokens": 0}}')
    with pytest.raises(LoadFailed, match="without a token"):
        reader.reply()
    with pytest.raises(LoadFailed, match="boom"):
        reader.read('data: {"error": {"message": "boom"}}')


def test_all_servers_get_the_same_settings() -> None:
    from benchmarks.engine.servers import llama_cpp_python_command, llama_server_command, our_command
    from benchmarks.engine.setup import Setup
    from benchmarks.llama_server import LlamaServer

    setup = Setup(Path("m.gguf"), "m", "", n_threads=3, n_ctx=5000, n_batch=111, num_parallel=7)
    ours = our_command(setup, Path("home")).environment
    server = llama_server_command(setup, LlamaServer(Path("llama-server"), Path("lib"))).arguments
    python = llama_cpp_python_command(setup, Path("python"), Path("package")).arguments

    def option(arguments: tuple[str, ...], name: str) -> str:
        return arguments[arguments.index(name) + 1]

    for number, variable, flag, setting in (
        ("3", "N_THREADS", "--threads", "--n_threads"),
        ("3", "N_THREADS", "--threads-batch", "--n_threads_batch"),
        ("5000", "KV_CELLS", "--ctx-size", "--n_ctx"),
        ("111", "N_BATCH", "--ubatch-size", "--n_ubatch"),
    ):
        assert ours[f"LOCALSMITH_MODEL__{variable}"] == number
        assert option(server, flag) == number
        assert option(python, setting) == number
    assert ours["LOCALSMITH_MODEL__MAX_RUNNING"] == option(server, "--parallel") == "7"
    assert ours["LOCALSMITH_MODEL__FLASH_ATTENTION"] == option(server, "--flash-attn") == "on"
    assert option(python, "--flash_attn") == "true"
    assert option(python, "--interrupt_requests") == "false"


def test_our_settings_are_settings_that_exist() -> None:
    from localsmith.core.settings import ModelSettings

    from benchmarks.engine.setup import Setup
    from benchmarks.engine.worker import our_settings

    setup = Setup(Path("m.gguf"), "m", "", n_threads=2)
    assert ModelSettings.model_validate(our_settings(setup)).kv_cells == setup.n_ctx


def test_the_servers_own_requirements_are_found_and_no_others() -> None:
    from benchmarks.engine.servers import server_requirements

    names = {line.partition(">")[0].partition("<")[0].lower() for line in server_requirements()}
    assert {"numpy", "uvicorn", "fastapi", "sse-starlette", "starlette-context"} <= names
    assert names.isdisjoint({"pytest", "ruff", "mkdocs", "huggingface-hub"})


def test_a_model_by_path_is_served_from_a_folder_of_its_own(tmp_path: Path) -> None:
    from localsmith.core.settings import load_settings
    from localsmith.models.catalog.installed import path_of

    from benchmarks.engine.home import find_model, throwaway_home

    gguf = tmp_path / "tiny.gguf"
    gguf.write_bytes(b"GGUF and more")
    model = find_model(str(gguf))
    with throwaway_home(model) as home:
        settings = load_settings().model_copy(update={"home": home})
        assert path_of(settings, "tiny").read_bytes() == gguf.read_bytes()
    assert not home.exists()
    assert gguf.exists()
    with pytest.raises(FileNotFoundError, match="neither a file nor an installed model"):
        find_model("no-such-model")
