"""Pre-training: what is learned from a small real text, and what a stop, a kill or a fault leaves behind."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from localsmith.core.errors import DatasetError, TrainingError
from localsmith.training.pretrain import load_pretrained, pretrain
from localsmith.training.pretraining.architectures import new_objective
from localsmith.training.pretraining.config import Architecture, PretrainConfig, text_file
from localsmith.training.pretraining.held_out import held_out_loss
from localsmith.training.runs.checkpoints import newest
from localsmith.training.runs.kinds import PRETRAIN
from localsmith.training.runs.run_folder import RunFolder, open_run

from .conftest import ARCHITECTURES, TEXT, config_of, pretrained_in

RunsOf = Callable[[Architecture], Path]


def curve(runs: Path) -> list[tuple[int, float]]:
    return open_run(runs, "run").metrics.series("loss")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_loss_falls_on_what_is_learned_and_on_what_is_held_out(
    architecture: Architecture, runs_of: RunsOf
) -> None:
    losses = [loss for _, loss in curve(runs_of(architecture))]
    assert len(losses) == 40
    # A new model says all tokens alike: ln(vocabulary) nats, somewhat more where its first weights are large.
    assert math.log(500) - 0.5 < losses[0] < 2 * math.log(512)
    # Masked tokens are few a step, and a model learns their frequencies long before their neighbours.
    least = 0.4 if architecture == "encoder" else 0.8
    assert sum(losses[-10:]) / 10 < losses[0] - least
    run = open_run(runs_of(architecture), "run")
    assert run.state.status == "finished"
    figures = dict(run.state.figures or {})
    assert figures["held_out_loss_after"] < figures["held_out_loss_before"] - least
    assert figures["perplexity_after"] == pytest.approx(math.exp(figures["held_out_loss_after"]))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_was_saved_is_the_model_that_was_measured(architecture: Architecture, runs_of: RunsOf) -> None:
    from localsmith.training.pretraining.blocks import pack
    from localsmith.training.pretraining.texts import read_texts, split_texts

    run, config = open_run(runs_of(architecture), "run"), config_of(architecture)
    loaded = load_pretrained(run)
    _, held_out = split_texts(read_texts(config.files, config.fields), config.held_out_share, config.seed)
    blocks = pack(held_out, loaded.tokenizer, architecture, config.max_tokens)
    assert config.objective
    objective = new_objective(config.objective, loaded.tokenizer)
    loss = held_out_loss(loaded.model, objective, blocks, config.seed)
    assert loss == pytest.approx(dict(run.state.figures or {})["held_out_loss_after"], rel=1e-4)


def test_denoising_is_learned_too(tmp_path: Path) -> None:
    config = replace(config_of("encoder-decoder"), objective="denoising", max_steps=20, save_every=20)
    figures = pretrained_in(tmp_path, config).figures
    assert figures["held_out_loss_after"] < figures["held_out_loss_before"] - 0.5


@pytest.mark.parametrize("architecture", ["encoder", "encoder-decoder"])
def test_a_stopped_run_goes_on_with_the_loss_curve_of_a_whole_one(
    architecture: Architecture, tmp_path: Path, runs_of: RunsOf
) -> None:
    cancel = threading.Event()
    with RunFolder.create(tmp_path, PRETRAIN, config_of(architecture).to_json(), "run") as run:
        stopped = pretrain(
            run,
            on_stage=lambda stage, done, *_: cancel.set() if (stage, done) == ("training", 21) else None,
            cancel=cancel,
        )
    assert stopped.is_stopped
    assert open_run(tmp_path, "run").state.status == "stopped"
    with pytest.raises(TrainingError, match="has not been finished"):
        load_pretrained(open_run(tmp_path, "run"))
    with open_run(tmp_path, "run") as run:
        assert not pretrain(run).is_stopped
    whole = curve(runs_of(architecture))
    assert [step for step, _ in curve(tmp_path)] == list(range(1, 41))
    assert [loss for _, loss in curve(tmp_path)] == pytest.approx([loss for _, loss in whole], rel=1e-4)


def test_a_killed_run_goes_on_with_the_loss_curve_of_a_whole_one(tmp_path: Path, runs_of: RunsOf) -> None:
    command = [sys.executable, str(Path(__file__).with_name("pretrain_child.py")), str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 24:
            process.kill()
            break
    assert process.wait() == -9
    run = open_run(tmp_path, "run")
    assert run.state.status == "interrupted"
    kept = newest(run.checkpoints_dir)
    assert kept is not None and kept.step == 16
    with run:
        pretrain(run)
    whole = curve(runs_of("decoder"))
    assert [step for step, _ in curve(tmp_path)] == list(range(1, 41))
    assert [loss for _, loss in curve(tmp_path)] == pytest.approx([loss for _, loss in whole], rel=1e-4)


def test_accumulated_batches_give_the_loss_curve_of_whole_ones(tmp_path: Path) -> None:
    """With masked tokens, for there each block has another number of labels."""
    curves = []
    for size in (8, 2):
        config = replace(config_of("encoder"), micro_batch_size=size, max_steps=6, save_every=6)
        pretrained_in(tmp_path / str(size), config)
        curves.append([loss for _, loss in curve(tmp_path / str(size))])
    assert curves[1] == pytest.approx(curves[0], rel=1e-3)


def test_another_seed_is_another_run(tmp_path: Path, runs_of: RunsOf) -> None:
    config = replace(config_of("decoder"), seed=8, max_steps=2)
    pretrained_in(tmp_path, config)
    assert curve(tmp_path)[0] != curve(runs_of("decoder"))[0]


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    config = replace(
        config_of("decoder"), learning_rate=1e30, max_grad_norm=0.0, save_every=1, warmup_share=0.5
    )
    with pytest.raises(TrainingError, match="is (nan|inf)"):
        pretrained_in(tmp_path, config)
    run = open_run(tmp_path, "run")
    assert run.state.status == "failed"
    kept = newest(run.checkpoints_dir)
    assert kept is not None and kept.step == len(curve(tmp_path))


def config_with(tmp_path: Path, name: str, content: bytes, **options: object) -> PretrainConfig:
    file = tmp_path / name
    file.write_bytes(content)
    return replace(config_of("decoder"), files=(text_file(file),), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "hold no text"),
        ("blank.txt", b"  \n\n ", "hold no text"),
        ("short.txt", b"A short text.", "tokens, which do not fill one block of 32"),
        ("latin.txt", "Größe".encode("latin-1"), "is not UTF-8"),
        ("other.jsonl", b'{"title": "a", "body": "b"}\n', "its fields are body, title"),
        ("broken.jsonl", b"{\n", "1 lines can't be read"),
        ("table.xlsx", b"PK", "not a data file"),
    ],
)
def test_what_can_not_be_learned_from_is_said_before_anything_is_trained(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        pretrained_in(tmp_path / "runs", config_with(tmp_path, name, content))
    assert caught.value.hint
    run = open_run(tmp_path / "runs", "run")
    assert run.state.status == "failed"
    assert not run.checkpoints_dir.exists()


def test_a_file_that_has_changed_stops_the_run(tmp_path: Path) -> None:
    config = config_with(tmp_path, "text.txt", TEXT.read_bytes())
    (tmp_path / "text.txt").write_text("Another text altogether.")
    with pytest.raises(DatasetError, match="not what it was"):
        pretrained_in(tmp_path / "runs", config)
    with pytest.raises(DatasetError, match="can't be read"):
        text_file(tmp_path / "gone.txt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "transformer"}, "architecture"),
        ({"objective": "masked"}, "must be one of causal"),
        ({"max_tokens": 4}, "max_tokens must be at least 16"),
        ({"batch_size": 6, "micro_batch_size": 4}, "multiple"),
        ({"held_out_share": 0.0}, "held_out_share"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"files": ()}, "files"),
    ],
)
def test_a_setting_out_of_range_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(config_of("decoder"), **options)  # type: ignore[arg-type]


def test_settings_come_back_as_they_were() -> None:
    config = config_of("encoder-decoder")
    assert PretrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert config.objective == "span-corruption"
    with pytest.raises(TrainingError, match="can't be read"):
        PretrainConfig.from_json({"architecture": "decoder", "epochs": 3, "files": [], "fields": []})
