"""`localsmith train pretrain`, and the commands about runs where a run is of this kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from localsmith.core.errors import ConfigError, DatasetError
from localsmith.training.runs.run_folder import RunState, open_run
from typer.testing import CliRunner, Result

from localsmith.cli import app

TEXT = Path(__file__).parents[1] / "data" / "documents" / "more" / "norwich-city.txt"
SMALL = ["--max-tokens", "16", "--batch-size", "2", "--vocabulary-size", "300", "--device", "cpu"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOCALSMITH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path / "home"


def train(*args: str) -> Result:
    return CliRunner().invoke(app, ["train", *args])


def test_a_model_is_pretrained_listed_shown_and_resumed_from_the_command_line(home: Path) -> None:
    made = train(
        "pretrain",
        "--architecture",
        "decoder",
        "--data",
        str(TEXT),
        "--max-steps",
        "4",
        "--name",
        "one",
        *SMALL,
    )
    assert made.exit_code == 0, made.output
    assert "perplexity" in made.output
    run = open_run(home / "runs", "one")
    assert (run.trained_dir / "tokenizer.json").is_file()

    listed = train("list").output.splitlines()[-1].split()
    assert listed[0] == "one" and {"decoder,", "causal", "finished"} <= set(listed)
    shown = train("show", "one").output
    assert "files: norwich-city.txt" in shown and "objective: causal" in shown and "Held-out text" in shown
    assert json.loads(train("show", "one", "--json").output)["config"]["architecture"] == "decoder"

    assert "is finished" in train("resume", "one").output
    run.write_state(RunState("stopped", 4, 4))
    resumed = train("resume", "one")
    assert resumed.exit_code == 0, resumed.output
    assert open_run(home / "runs", "one").state.status == "finished"


def test_what_makes_no_sense_is_refused_before_there_is_a_run(home: Path) -> None:
    wrong = train("pretrain", "--architecture", "decoder", "--objective", "masked", "--data", str(TEXT))
    assert isinstance(wrong.exception, ConfigError) and "causal" in str(wrong.exception)
    gone = train("pretrain", "--architecture", "encoder", "--data", str(home / "gone.txt"))
    assert isinstance(gone.exception, DatasetError)
    assert not (home / "runs").exists()
