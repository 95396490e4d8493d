"""A run killed at any moment goes on from its last whole checkpoint, with the loss curve of a whole run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from localsmith.training.bases import Base
from localsmith.training.config import SftConfig
from localsmith.training.data.rows import TrainingRow
from localsmith.training.methods.registry import METHODS
from localsmith.training.runs.checkpoints import MARKER, complete, newest
from localsmith.training.runs.run_folder import RunFolder, open_run
from localsmith.training.sft import train

CHILD = Path(__file__).with_name("killed_runs_child.py")
STEPS, SAVE_EVERY = 9, 3


def curve(runs: Path) -> list[tuple[int, float]]:
    return open_run(runs, "run").metrics.series("loss")


def test_a_run_of_each_method_that_was_killed_ends_with_the_loss_curve_of_a_whole_run(
    tmp_path: Path, tiny_base: Base
) -> None:
    command = [sys.executable, str(CHILD), str(tmp_path), str(tiny_base.path), *METHODS]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert set(found) == set(METHODS)
    for method, what in found.items():
        kills, (whole, *parts) = what["kills"], what["steps"]
        assert what["ends"] == [0, *(-9 for _ in kills), 0], (method, ended.stderr)
        assert whole == list(range(1, STEPS + 1)), method
        assert [part[-1] for part in parts] == [*kills, STEPS], method
        # Each went on behind the last whole checkpoint, which may be that of the step that it was killed in.
        for killed, went_on in zip(parts, parts[1:], strict=False):
            last_whole = (killed[-1] - 1) // SAVE_EVERY * SAVE_EVERY
            assert went_on[0] - 1 in (last_whole, last_whole + SAVE_EVERY) and went_on[0] > 1, method
        runs = tmp_path / method
        after, before = curve(runs / "killed"), curve(runs / "whole")
        assert [step for step, _ in after] == list(range(1, STEPS + 1)), method
        assert [loss for _, loss in after] == pytest.approx([loss for _, loss in before], rel=1e-4), method
        assert open_run(runs / "killed", "run").state.step == STEPS


def test_a_checkpoint_without_its_marker_is_not_resumed_from(
    tmp_path: Path, tiny_base: Base, colour_rows: list[TrainingRow]
) -> None:
    config = SftConfig("tiny", "", "full", max_steps=8, save_every=2, learning_rate=3e-3)
    with RunFolder.create(tmp_path, "sft", config.to_json(), "run") as run:
        train(run, config, tiny_base, colour_rows)
    last = complete(run.checkpoints_dir)[-1]
    (last.path / MARKER).unlink()
    earlier = newest(run.checkpoints_dir)
    assert earlier is not None and earlier.step < last.step
    shutil.rmtree(run.trained_dir)
    before, told = curve(tmp_path), []
    with open_run(tmp_path, "run") as run:
        train(run, config, tiny_base, colour_rows, on_progress=lambda progress: told.append(progress.step))
    assert told == list(range(earlier.step + 1, 9))
    assert dict(curve(tmp_path)) == pytest.approx(dict(before), rel=1e-4)
