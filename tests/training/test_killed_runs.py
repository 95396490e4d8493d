"""A run killed at any moment goes on from its last whole checkpoint, with the loss curve of a whole run."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from localsmith.training.bases import Base
from localsmith.training.runs.checkpoints import MARKER, complete, newest
from localsmith.training.runs.run_folder import open_run

CHILD = Path(__file__).with_name("sft_child.py")


def child(runs: Path, base: Base) -> subprocess.Popen[str]:
    command = [sys.executable, str(CHILD), str(runs), str(base.path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def curve(runs: Path) -> list[tuple[int, float]]:
    return open_run(runs, "run").metrics.series("loss")


def test_a_run_killed_twice_ends_with_the_loss_curve_of_a_whole_run(tmp_path: Path, tiny_base: Base) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert child(whole, tiny_base).wait() == 0
    rng = random.Random(3)
    for lower, upper in ((5, 9), (13, 22)):
        process = child(killed, tiny_base)
        assert process.stdout is not None
        stop_at = rng.randint(lower, upper)
        for line in process.stdout:
            if int(line) >= stop_at:
                process.kill()
                break
        assert process.wait() == -9
        run = open_run(killed, "run")
        assert run.state.status == "interrupted"
        assert newest(run.checkpoints_dir) is not None
    assert child(killed, tiny_base).wait() == 0
    assert [step for step, _ in curve(killed)] == list(range(1, 25))
    assert [loss for _, loss in curve(killed)] == pytest.approx([loss for _, loss in curve(whole)], rel=1e-4)
    assert open_run(killed, "run").state.step == 24


def test_a_checkpoint_without_its_marker_is_not_resumed_from(tmp_path: Path, tiny_base: Base) -> None:
    assert child(tmp_path, tiny_base).wait() == 0
    run = open_run(tmp_path, "run")
    last = complete(run.checkpoints_dir)[-1]
    (last.path / MARKER).unlink()
    earlier = newest(run.checkpoints_dir)
    assert earlier is not None and earlier.step < last.step
    shutil.rmtree(run.trained_dir)
    before = curve(tmp_path)
    assert child(tmp_path, tiny_base).wait() == 0
    assert dict(curve(tmp_path)) == pytest.approx(dict(before), rel=1e-4)
