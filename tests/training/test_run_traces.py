"""What a run leaves on disk for others to look at: its stage, its holder, its samples; and the trash."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from localsmith.core.errors import TrainingError
from localsmith.core.types import Message
from localsmith.training.data.rows import TrainingRow
from localsmith.training.runs.holder import interrupt_holder, note_holder, read_holder
from localsmith.training.runs.run_folder import RunFolder, list_runs, open_run
from localsmith.training.runs.stages import StageFile
from localsmith.training.runs.trash import discard_run, discarded_runs, purge_discarded, restore_run
from localsmith.training.samples import KeptWriter, load_samples, samples_of, save_samples

_WAITS_FOR_CTRL_C = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(7)
"""


def test_a_stage_tells_the_time_left_to_another_reader(tmp_path: Path) -> None:
    stages = StageFile(tmp_path / "stage.json")
    assert stages.read() is None
    stages.note("encoding", 0, 100, "")
    time.sleep(0.05)
    stages.note("encoding", 100, 100, "done")
    seen = StageFile(tmp_path / "stage.json").read()
    assert seen is not None
    assert (seen.name, seen.done, seen.words, seen.eta_s) == ("encoding", 100, "done", 0.0)
    stages.note("training", 1, 4, "")
    stages.note("training", 2, 4, "within half a second: left out")
    seen = stages.read()
    assert seen is not None and (seen.name, seen.done, seen.words) == ("training", 1, "")


def test_the_time_left_follows_the_pace_so_far(tmp_path: Path) -> None:
    stages = StageFile(tmp_path / "stage.json")
    stages.note("training", 1, 4, "")
    first = stages.read()
    assert first is not None
    seen = type(first)("training", 1, 4, "", begun_at=100.0, updated_at=110.0)
    assert seen.eta_s == pytest.approx(30.0)
    assert type(first)("training", 0, 4, "", 100.0, 110.0).eta_s is None


def test_who_holds_a_run_is_written_down_and_taken_away(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path, "sft", {}, "mine") as run:
        holder = read_holder(run.path)
        assert holder is not None and holder.pid == os.getpid() and holder.is_alive
    assert read_holder(run.path) is None


def test_a_holder_is_asked_to_stop_as_ctrl_c_does_and_is_dead_afterwards(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", _WAITS_FOR_CTRL_C], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        note_holder(tmp_path, process.pid)
        interrupt_holder(tmp_path)
        holder = read_holder(tmp_path)
        assert holder is not None and holder.is_stopping
        deadline = time.monotonic() + 10
        while holder.is_alive and time.monotonic() < deadline:  # a zombie until somebody waits for it
            time.sleep(0.01)
        assert not holder.is_alive
        assert process.wait(10) == 7
        with pytest.raises(TrainingError, match="No process"):
            interrupt_holder(tmp_path)
    finally:
        process.kill()
        process.wait()


def test_another_process_of_the_same_id_is_not_the_holder(tmp_path: Path) -> None:
    note_holder(tmp_path, os.getpid())
    holder = read_holder(tmp_path)
    assert holder is not None and holder.is_alive
    assert not type(holder)(holder.pid, holder.created_at - 3600).is_alive


def test_a_failure_keeps_its_hint(tmp_path: Path) -> None:
    with pytest.raises(TrainingError), RunFolder.create(tmp_path, "sft", {}, "bad"):
        raise TrainingError("The loss is nan.", hint="Lower the learning rate.")
    state = open_run(tmp_path, "bad").state
    assert (state.status, state.error, state.hint) == (
        "failed",
        "The loss is nan.",
        "Lower the learning rate.",
    )


def test_a_deleted_run_comes_back_whole_and_is_held_by_nobody(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "sft", {"base": "small"}, "mine")
    run.metrics.append(1, {"loss": 2.0})
    discard_run(run)
    assert list_runs(tmp_path) == [] and discarded_runs(tmp_path) == ["mine"]
    purge_discarded(tmp_path, older_than_days=7)
    back = restore_run(tmp_path, "mine")
    assert back.config == {"base": "small"} and back.metrics.series("loss") == [(1, 2.0)]
    assert read_holder(back.path) is None
    discard_run(back)
    purge_discarded(tmp_path, older_than_days=0)
    with pytest.raises(TrainingError, match="no deleted run"):
        restore_run(tmp_path, "mine")


def test_a_run_that_is_trained_is_not_deleted_and_a_new_name_not_overwritten(tmp_path: Path) -> None:
    with (
        RunFolder.create(tmp_path, "sft", {}, "mine"),
        pytest.raises(TrainingError, match="another process"),
    ):
        discard_run(open_run(tmp_path, "mine"))
    discard_run(open_run(tmp_path, "mine"))
    RunFolder.create(tmp_path, "sft", {"new": True}, "mine")
    with pytest.raises(TrainingError, match="by now"):
        restore_run(tmp_path, "mine")


def test_samples_are_what_both_models_wrote_of_the_first_rows(tmp_path: Path) -> None:
    class Counting:
        def write(self, prompts: object, on_written: object = None) -> list[str]:
            return [f"text {number}" for number in range(9)]

    rows = [
        TrainingRow((Message("system", "Be brief."), Message("user", f"{n}?"), Message("assistant", str(n))))
        for n in range(9)
    ]
    writer = KeptWriter(Counting())  # type: ignore[arg-type]
    assert len(writer.write([])) == 9
    samples = samples_of(rows, ["old"] * 5, writer.texts)
    save_samples(tmp_path, samples)
    assert load_samples(tmp_path) == samples and len(samples) == 5
    assert (samples[1].prompt, samples[1].reference) == ("Be brief.\n\n1?", "1")
    assert (samples[1].before, samples[1].after) == ("old", "text 1")
    assert load_samples(tmp_path / "elsewhere") == []
