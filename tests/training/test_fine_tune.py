"""The whole loop at small size: a file of examples in, a model in the catalog out, better than its base."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from localsmith.core.errors import DatasetError
from localsmith.core.settings import Settings, load_settings
from localsmith.core.types import Message, SamplingParams
from localsmith.models.catalog.installed import installed
from localsmith.models.engine import Engine
from localsmith.training.config import SftConfig
from localsmith.training.data.prepare import prepare
from localsmith.training.data.recipe import Recipe
from localsmith.training.data.rows import TrainingRow
from localsmith.training.data.sources import FileSource
from localsmith.training.fine_tune import FineTuningPlan, fine_tune
from localsmith.training.runs.run_folder import RunFolder, list_runs, open_run
from typer.testing import CliRunner

from localsmith.cli import app


def load_module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random llama of two blocks as a GGUF file."""
    writer = load_module(Path(__file__).parent / "export" / "tiny_gguf.py")
    return writer.write_tiny(tmp_path_factory.mktemp("base") / "tiny.gguf", "llama")  # type: ignore[no-any-return]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own."""
    monkeypatch.setenv("LOCALSMITH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOCALSMITH_MODEL__N_THREADS", "1")
    monkeypatch.setenv("LOCALSMITH_MODEL__N_CTX", "1024")
    return tmp_path / "home"


def data_file(folder: Path, rows: Sequence[TrainingRow]) -> Path:
    path = folder / "colours.jsonl"
    lines = [json.dumps({"prompt": row.prompt[0].content, "completion": row.completion}) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def sft(base: Path, data: Path, *more: str) -> Any:
    words = ["train", "sft", "--base", str(base), "--data", str(data), "--epochs", "4", "--name", "mine"]
    return CliRunner().invoke(
        app, [*words, "--held-out", "0.2", "--quantization", "F16", *more], catch_exceptions=False
    )


def test_a_file_of_examples_becomes_a_better_model_in_the_catalog(
    tmp_path: Path, home: Path, tiny_gguf: Path, colour_rows: list[TrainingRow]
) -> None:
    result = sft(tiny_gguf, data_file(tmp_path, colour_rows), "--method", "lora", "--learning-rate", "0.01")
    assert result.exit_code == 0, result.output
    assert "localsmith models promote mine" in result.output
    settings: Settings = load_settings()
    run = open_run(settings.runs_dir, "mine")
    figures = run.state.figures
    assert run.state.status == "finished" and figures
    assert figures["held_out_loss_after"] < figures["held_out_loss_before"] - 1.0
    model = installed(settings)["mine"]
    assert model.lineage is not None
    assert model.lineage.run_id == "mine"
    assert model.lineage.method == "lora"
    assert model.lineage.data_version == run.config["sft"]["data_version"]
    assert {metric.name for metric in model.lineage.metrics} == {"rouge_l", "held_out_loss"}
    assert not any(metric.is_worse for metric in model.lineage.metrics)

    engine = Engine(model.verify().path, name="mine", settings=settings.model)
    try:
        written = "".join(
            getattr(part, "text", "")
            for part in engine.submit(
                [Message("user", colour_rows[0].prompt[0].content)],
                SamplingParams(max_tokens=40, temperature=0),
            )
        )
    finally:
        engine.close()
    assert written.startswith("The ")


def test_a_run_that_was_trained_but_not_exported_is_not_trained_again(
    tmp_path: Path, home: Path, tiny_gguf: Path, colour_rows: list[TrainingRow]
) -> None:
    def kill(stage: str, done: int, total: int, words: str) -> None:
        if stage.startswith("export"):
            raise Killed

    data = data_file(tmp_path, colour_rows)
    sft(tiny_gguf, data, "--method", "full", "--learning-rate", "0.003")
    settings = load_settings()
    plan = FineTuningPlan.from_json(open_run(settings.runs_dir, "mine").config)
    changed = plan.to_json() | {"name": "again"}
    with pytest.raises(Killed), RunFolder.create(settings.runs_dir, "sft", changed, "again") as run:
        fine_tune(settings, run, on_stage=kill)
    trained_at = (settings.runs_dir / "again" / "trained").stat().st_mtime_ns
    result = CliRunner().invoke(app, ["train", "resume", "again"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert (settings.runs_dir / "again" / "trained").stat().st_mtime_ns == trained_at
    assert "again" in installed(settings)


class Killed(BaseException):
    """Stands for a kill: nothing catches it on the way out."""


@pytest.mark.parametrize("is_damaged", [False, True])
def test_what_was_compared_and_exported_before_a_kill_is_not_done_again(
    tmp_path: Path, home: Path, tiny_gguf: Path, colour_rows: list[TrainingRow], is_damaged: bool
) -> None:
    def kill(stage: str, done: int, total: int, words: str) -> None:
        if stage == "evaluating":
            raise Killed

    settings = load_settings()
    version = prepare([FileSource(data_file(tmp_path, colour_rows))], Recipe(held_out_share=0.2), home)
    config = SftConfig(str(tiny_gguf), version.id, "full", max_steps=2, learning_rate=0.003)
    plan = FineTuningPlan(config, "mine", "F16", num_evaluated=4, max_completion_tokens=4)
    with pytest.raises(Killed), RunFolder.create(settings.runs_dir, "sft", plan.to_json(), "mine") as run:
        fine_tune(settings, run, on_stage=kill)
    (exported,) = (run.path / "export").glob("*.gguf")
    if is_damaged:
        with exported.open("ab") as file:
            file.write(b"x")
    told: list[str] = []
    with open_run(settings.runs_dir, "mine") as run:
        tuned = fine_tune(settings, run, on_stage=lambda stage, *_: told.append(stage))
    assert "training" not in told and "comparing" not in told and "evaluating" in told
    assert any(stage.startswith("export") for stage in told) == is_damaged
    for figure in ("train_s", "last_loss", "held_out_loss_before", "export_agreement", "rouge_l_after"):
        assert figure in tuned.figures
    assert tuned.figures["train_s"] > 0
    assert installed(settings)["mine"].verify()


def test_a_method_without_a_gguf_says_so_and_is_compared_all_the_same(
    tmp_path: Path, home: Path, tiny_gguf: Path, colour_rows: list[TrainingRow]
) -> None:
    result = sft(tiny_gguf, data_file(tmp_path, colour_rows), "--method", "bottleneck", "--max-steps", "4")
    assert result.exit_code == 0, result.output
    assert "has no GGUF" in result.output
    figures = open_run(load_settings().runs_dir, "mine").state.figures
    assert figures and "rouge_l_after" in figures
    assert "mine" not in installed(load_settings())


def test_training_rows_that_stand_in_the_evaluation_file_are_left_out(
    tmp_path: Path, home: Path, tiny_gguf: Path, colour_rows: list[TrainingRow]
) -> None:
    data = data_file(tmp_path, colour_rows)
    (tmp_path / "test").mkdir()
    test = data_file(tmp_path / "test", colour_rows[:5])
    result = sft(
        tiny_gguf,
        data,
        "--method",
        "selective",
        "--max-steps",
        "1",
        "--evaluation",
        str(test),
        "--held-out",
        "0",
    )
    assert result.exit_code == 0, result.output
    figures = open_run(load_settings().runs_dir, "mine").state.figures
    assert figures and figures["num_given_away"] >= 5
    assert figures["num_train"] <= len(colour_rows) - 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "magic"], "There is no method 'magic'"),
        (["--set", "rnk=8"], "Did you mean rank?"),
        (["--set", "rank=eight"], "rank=eight"),
        (["--batch-size", "6"], "multiple of micro_batch_size"),
        (["--max-tokens", "5"], "are longer than 5 tokens"),
        (["--held-out", "0"], "No row is held out"),
    ],
)
def test_a_mistake_is_named_before_anything_is_trained(
    tmp_path: Path,
    home: Path,
    tiny_gguf: Path,
    colour_rows: list[TrainingRow],
    options: list[str],
    message: str,
) -> None:
    from localsmith.core.errors import LocalsmithError

    with pytest.raises(LocalsmithError) as caught:
        sft(tiny_gguf, data_file(tmp_path, colour_rows), *options)
    assert message in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("text", ["", "\n\n", '{"prompt": "a", "completion": ""}\n'])
def test_data_without_a_row_are_named_and_leave_no_run(
    tmp_path: Path, home: Path, tiny_gguf: Path, text: str
) -> None:
    (tmp_path / "empty.jsonl").write_text(text)
    with pytest.raises(DatasetError, match="empty.jsonl holds no row that can be learned"):
        sft(tiny_gguf, tmp_path / "empty.jsonl")
    assert list_runs(load_settings().runs_dir) == []


def test_too_few_rows_to_hold_one_out_are_refused_and_leave_no_run(
    tmp_path: Path, home: Path, tiny_gguf: Path, colour_rows: list[TrainingRow]
) -> None:
    with pytest.raises(DatasetError, match="No row is held out") as caught:
        sft(tiny_gguf, data_file(tmp_path, colour_rows[:3]), "--held-out", "0.01")
    assert "--evaluation" in caught.value.hint
    assert list_runs(load_settings().runs_dir) == []


def test_a_base_without_a_template_says_what_to_do(
    tmp_path: Path, home: Path, colour_rows: list[TrainingRow]
) -> None:
    from localsmith.core.errors import TrainingError

    tests = load_module(Path(__file__).with_name("conftest.py"))
    tests.save_tiny_model(tmp_path / "bare", [row.text for row in colour_rows], template=None)
    with pytest.raises(TrainingError, match="no chat template") as caught:
        sft(tmp_path / "bare", data_file(tmp_path, colour_rows))
    assert "--chat-template chatml" in caught.value.hint


def test_lists_and_shows_and_deletes(
    tmp_path: Path, home: Path, tiny_gguf: Path, colour_rows: list[TrainingRow]
) -> None:
    sft(tiny_gguf, data_file(tmp_path, colour_rows), "--method", "full", "--learning-rate", "0.003")
    runner = CliRunner(env={"COLUMNS": "200"})
    listed = runner.invoke(app, ["train", "list"], catch_exceptions=False).output
    assert "mine" in listed and "finished" in listed and "24 of 24" in listed
    shown = json.loads(runner.invoke(app, ["train", "show", "mine", "--json"], catch_exceptions=False).output)
    assert [line["step"] for line in shown["metrics"]] == list(range(1, 25))
    assert "▁" in runner.invoke(app, ["train", "show", "mine"], catch_exceptions=False).output
    runner.invoke(app, ["train", "delete", "mine", "--yes"], catch_exceptions=False)
    assert "mine" not in runner.invoke(app, ["train", "list"], catch_exceptions=False).output
    assert "mine" in installed(load_settings())
