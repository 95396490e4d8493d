"""What stands between the Training page and training: choices, requests, checks, processes, views."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from localsmith.core.errors import ConfigError, TrainingError
from localsmith.core.settings import Settings, load_settings
from localsmith.models.catalog.installed import installed_model
from localsmith.models.catalog.lineage import Lineage
from localsmith.models.catalog.pull import register_trained
from localsmith.training.methods.registry import METHODS, method_of
from localsmith.training.runs.holder import note_holder
from localsmith.training.runs.run_folder import RunFolder, open_run

from localsmith import training_choices, training_process
from localsmith.training_check import Check, check, check_from_json, check_to_json
from localsmith.training_request import TrainingRequest, free_name, plan_of
from localsmith.training_runs import TrainingRuns
from localsmith.training_view import view_of

WRITER = Path(__file__).parent.parent / "training" / "export" / "tiny_gguf.py"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A data folder with a random model of two blocks in it."""
    spec = importlib.util.spec_from_file_location("tiny_gguf", WRITER)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("training")
    settings = load_settings(home=folder / "home")
    lineage = Lineage("none", "0" * 64, "none", "none", "none", "F32", time.time())
    register_trained(settings, module.write_tiny(folder / "tiny.gguf", "llama"), "tiny", lineage)
    return settings


def rows(number: int = 40) -> bytes:
    colours = ("red", "green", "blue", "brown", "grey")
    lines = [
        {
            "prompt": f"What colour is thing {n * 7919}?",
            "completion": f"Thing {n * 7919} is {colours[n % 5]}.",
        }
        for n in range(number)
    ]
    return "\n".join(map(json.dumps, lines)).encode()


def data_file(folder: Path, content: bytes) -> str:
    path = folder / "rows.jsonl"
    path.write_bytes(content)
    return str(path)


def test_every_method_and_every_setting_of_it_has_words() -> None:
    assert set(training_choices.METHOD_WORDS) == set(METHODS)
    for choice in training_choices.method_choices():
        assert choice.words.endswith(".")
        assert all(option.words and option.label != option.name for option in choice.options), choice


def test_the_values_that_the_fields_begin_with_are_the_methods_own() -> None:
    for choice in training_choices.method_choices():
        options = {option.name: option.default for option in choice.options}
        assert method_of(choice.name, options) == method_of(choice.name)


def test_bases_are_chat_models_with_the_one_in_use_first(settings: Settings) -> None:
    assert training_choices.base_choices(settings) == ["tiny"]
    assert training_choices.base_choices(load_settings(home=settings.home / "nothing")) == []


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert training_choices.missing_packages() == []
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else find(name))
    assert training_choices.missing_packages() == ["peft"]


def test_a_request_becomes_the_plan_of_a_run() -> None:
    request = TrainingRequest("tiny", method="lora", method_options={"rank": 4}, epochs=2.0, batch_size=4)
    plan = plan_of(request, "0123456789abcdef", "mine")
    assert (plan.name, plan.sft.base, plan.sft.epochs, plan.sft.data_version) == (
        "mine",
        "tiny",
        2.0,
        "0123456789abcdef",
    )
    assert plan.sft.method_options["rank"] == 4
    assert TrainingRequest.from_json(json.loads(json.dumps(request.to_json()))) == request
    with pytest.raises(ConfigError, match="multiple of micro_batch_size"):
        plan_of(dataclasses.replace(request, batch_size=6), "", "mine")


def test_a_check_shows_rows_steps_memory_and_what_could_not_be_used(
    settings: Settings, tmp_path: Path
) -> None:
    content = rows(40) + b"\n" + rows(1) + b"\nno json\n"
    request = TrainingRequest(
        "tiny", files=(data_file(tmp_path, content),), held_out_share=0.2, max_tokens=256, epochs=3
    )
    result = check(settings, request)
    assert check_from_json(json.loads(json.dumps(check_to_json(result)))) == result
    assert (result.imports[0].num_records, result.imports[0].num_bad) == (42, 1)
    assert "rows.jsonl:42" in result.imports[0].bad_examples[0]
    assert (result.filters[0].name, result.filters[0].num_dropped) == ("exact duplicates", 1)
    assert result.num_train + result.num_held_out == 40
    assert result.num_steps == -(-3 * result.num_train // 8)
    assert result.rows[0].prompt.startswith("<|im_start|>What colour")
    assert result.rows[0].num_completion > 10
    assert result.memory is not None and result.memory.total_bytes < result.memory.free_bytes
    assert result.memory.total_bytes == sum(size for _, size in result.memory.parts)
    assert result.refusal == ""

    again = check(settings, request, result.data_version)
    assert (again.data_version, again.num_train) == (result.data_version, result.num_train)
    short = check(settings, dataclasses.replace(request, max_tokens=20), result.data_version)
    assert short.num_long == result.num_train and "longer than 20 tokens" in short.refusal
    assert f"{result.longest_tokens:,}" in short.hint
    unheld = check(settings, dataclasses.replace(request, held_out_share=0.0))
    assert "No row is held out" in unheld.refusal


def test_a_run_that_does_not_fit_is_refused_with_what_would(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from localsmith.training import sft
    from localsmith.training.estimate.verdict import Device

    request = TrainingRequest("tiny", files=(data_file(tmp_path, rows(40)),), method="full")
    total = check(settings, request).memory.total_bytes  # type: ignore[union-attr]
    small = Device("this machine", "cpu", total - 1_000_000)
    monkeypatch.setattr(sft, "this_device", lambda name: small)
    result = check(settings, request)
    assert "but this machine has" in result.refusal and result.hint.startswith("This would fit: ")
    with pytest.raises(TrainingError, match="but this machine has"):
        TrainingRuns(settings).start(request, result)


def test_a_job_checks_in_a_process_of_its_own_and_leaves_no_upload_behind(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    request = TrainingRequest("tiny", held_out_share=0.2, max_tokens=256)
    job = TrainingRuns(settings).check(request, [("../rows.jsonl", rows(40))])
    result = wait_for_result(job)
    assert result.num_train + result.num_held_out == 40
    assert result.imports[0].source == "rows.jsonl"
    wait(lambda: list(tmp_path.iterdir()) == [])


def test_a_job_says_what_is_wrong_with_the_data(settings: Settings) -> None:
    job = TrainingRuns(settings).check(TrainingRequest("tiny"), [("rows.jsonl", b"")])
    wait(lambda: job.view().has_ended)
    view = job.view()
    assert view.result is None and "it is empty" in view.error and view.hint


def wait_for_result(job: Any) -> Check:
    wait(lambda: job.view().has_ended)
    result = job.view().result
    assert isinstance(result, Check), job.view()
    return result


def wait(is_so: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def test_a_name_that_runs_or_models_have_gets_a_number(settings: Settings) -> None:
    assert free_name(settings, "Qwen2.5-1.5b", "lora") == "qwen2-5-1-5b-lora"
    RunFolder.create(settings.runs_dir, "sft", {}, "named-lora")
    assert free_name(settings, "named", "lora") == "named-lora-2"
    TrainingRuns(settings).delete("named-lora")
    assert free_name(settings, "named", "lora") == "named-lora-2"  # it may come back


def test_where_a_run_stands(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "sft", {"sft": {"base": "tiny", "method": "lora"}}, "mine")
    assert view_of(run).phase == "never begun"
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        note_holder(run.path, process.pid)
        assert view_of(run).phase == "starting"
        run.stages.note("training", 2, 10, "loss 2.5")
        run.write_state(dataclasses.replace(run.state, status="running", step=2, num_steps=10))
        for step in (1, 2):
            run.metrics.append(step, {"loss": 3.0 - step / 4})
        view = view_of(run)
        assert (view.phase, view.stage_done, view.step, view.num_steps) == ("running", 2, 2, 10)
        assert view.is_active and not view.can_be_resumed
        with pytest.raises(TrainingError, match="already"):
            training_process.start_training(load_settings(home=tmp_path), run)
    finally:
        process.kill()
        process.wait()
    view = view_of(run)
    assert (view.phase, view.step, view.stage) == ("interrupted", 2, "")
    assert view.can_be_resumed
    with run:  # the stage of the process before is not taken for this one's
        assert view_of(run).phase == "starting"
    run.stop()
    assert view_of(run).phase == "stopped"
    run.finish({"last_loss": 1.0})
    assert view_of(run).phase == "finished" and not view_of(run).can_be_resumed


def test_the_time_left_is_that_of_the_last_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder.create(tmp_path, "sft", {}, "mine")
    note_holder(run.path, os.getpid())
    run.stages.note("training", 5, 10, "")
    clock = time.time()
    for step in range(1, 6):
        monkeypatch.setattr(time, "time", lambda step=step: clock + 2.0 * step)
        run.metrics.append(step, {"loss": 1.0})
    assert view_of(run).eta_s == pytest.approx(10.0)


def test_a_process_that_dies_early_is_explained_by_its_last_words(settings: Settings) -> None:
    run = RunFolder.create(settings.runs_dir, "sft", {"sft": {}}, "broken")
    TrainingRuns(settings).resume("broken")
    wait(lambda: not training_process.is_worked_on(run.path))
    view = view_of(open_run(settings.runs_dir, "broken"))
    assert view.phase == "failed" and "settings can't be read" in view.error and view.hint
    assert "settings can't be read" in training_process.log_tail(run.path)


def test_the_process_gives_way_to_the_chat() -> None:
    command = training_process.lowered(["true"])
    assert command[-1] == "true" and str(training_process.NICENESS) in command


def test_a_model_is_put_in_use_and_taken_back(settings: Settings) -> None:
    from localsmith.models.catalog.installed import in_use

    runs = TrainingRuns(settings)
    assert installed_model(settings, "tiny").lineage is not None
    runs.promote("tiny")
    assert in_use(settings) == "tiny"
    runs.rollback()
    assert in_use(settings) is None
    assert runs.named_model() == ""
