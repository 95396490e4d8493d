"""Several processes train one run: the same losses, half the memory, and a kill does no harm.

Each launch of processes costs seconds, so one launch carries several runs; see `shards_work`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from localsmith.core.errors import TrainingError
from localsmith.training.bases import Base
from localsmith.training.config import SftConfig
from localsmith.training.data.rows import TrainingRow
from localsmith.training.estimate.memory import estimate_run
from localsmith.training.estimate.sft_plan import sft_plan
from localsmith.training.estimate.shape import read_shape
from localsmith.training.parallel.local_processes import in_processes
from localsmith.training.parallel.sharing import check_shared
from localsmith.training.runs.checkpoints import newest
from localsmith.training.runs.run_folder import RunFolder, open_run
from localsmith.training.sft import load_trained, train

CONFIG = SftConfig(
    base="tiny",
    data_version="",
    method="full",
    batch_size=8,
    micro_batch_size=2,
    max_steps=9,
    save_every=3,
    learning_rate=3e-3,
    device="cpu",
)
DDP = dataclasses.replace(CONFIG, parallel="ddp")
FSDP = dataclasses.replace(CONFIG, parallel="fsdp")
MIXED = dataclasses.replace(FSDP, precision="bf16", is_checkpointed=True, max_steps=4)
LORA = dataclasses.replace(FSDP, method="lora", learning_rate=3e-2)


@pytest.fixture(scope="module")
def work() -> Iterator[Any]:
    """The module whose functions the processes import by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield importlib.import_module("shards_work")


def launch(work: Any, runs: Path, trials: list[Any], base: Base, rows: list[TrainingRow]) -> dict[str, float]:
    for trial in trials:
        if not (runs / trial.name).exists():
            RunFolder.create(runs, "sft", trial.config.to_json(), trial.name)
    held: dict[str, float] = in_processes(
        functools.partial(work.train_all, runs, trials, base, rows),
        2,
        on_told=lambda _: None,
        cancel=threading.Event(),
        is_on_gpu=False,
    )
    return held


def alone(runs: Path, name: str, config: SftConfig, base: Base, rows: list[TrainingRow]) -> dict[str, float]:
    """Train in this process; return the figures."""
    is_new = not (runs / name).exists()
    with RunFolder.create(runs, "sft", config.to_json(), name) if is_new else open_run(runs, name) as run:
        return train(run, config, base, rows).figures


def losses(runs: Path, name: str) -> list[float]:
    return [loss for _, loss in open_run(runs, name).metrics.series("loss")]


@dataclasses.dataclass
class Trained:
    """What a launch of two processes came to, and the same runs in one."""

    runs: Path
    held: dict[str, float]


@pytest.fixture(scope="module")
def trained(
    work: Any, tmp_path_factory: pytest.TempPathFactory, tiny_base: Base, colour_rows: list[TrainingRow]
) -> Trained:
    runs = tmp_path_factory.mktemp("shards")
    trials = [
        work.Trial("ddp", DDP),
        work.Trial("fsdp", FSDP, stop_at=4, copy_to="moved"),
        work.Trial("fsdp", FSDP),
        work.Trial("mixed", MIXED),
        work.Trial("lora", LORA, stop_at=4),
        work.Trial("lora", LORA),
    ]
    held = launch(work, runs, trials, tiny_base, colour_rows)
    singles = {"one": CONFIG, "one-mixed": MIXED, "one-lora": LORA}
    for name, config in singles.items():
        plain = dataclasses.replace(config, parallel="none")
        held[name] = alone(runs, name, plain, tiny_base, colour_rows)["held_bytes"]
    return Trained(runs, held)


@pytest.mark.parametrize(
    ("name", "single", "tolerance"),
    [("ddp", "one", 1e-5), ("fsdp", "one", 1e-5), ("lora", "one-lora", 1e-5), ("mixed", "one-mixed", 2e-3)],
)
def test_two_processes_have_the_losses_of_one(
    trained: Trained, name: str, single: str, tolerance: float
) -> None:
    """Also of those that were stopped after four steps and went on from their shards."""
    curve = losses(trained.runs, name)
    assert len(curve) == (4 if name == "mixed" else 9)
    assert curve == pytest.approx(losses(trained.runs, single), rel=tolerance)


def test_a_process_with_shards_holds_half_the_bytes(trained: Trained) -> None:
    assert trained.held["ddp"] == trained.held["one"]
    assert trained.held["fsdp"] / trained.held["one"] == pytest.approx(0.5, abs=0.005)
    assert trained.held["lora"] / trained.held["one-lora"] == pytest.approx(0.5, abs=0.005)


def test_shards_are_put_together_to_the_model_that_one_process_trains(
    trained: Trained, tiny_base: Base
) -> None:
    import torch

    for name, single, config in (("fsdp", "one", FSDP), ("lora", "one-lora", LORA)):
        models = [load_trained(open_run(trained.runs, run), config, tiny_base)[0] for run in (name, single)]
        theirs = dict(models[1].named_parameters())
        for key, ours in models[0].named_parameters():
            torch.testing.assert_close(ours, theirs[key], atol=1e-4, rtol=1e-3)


def test_a_checkpoint_of_two_processes_goes_on_in_one(
    trained: Trained, tiny_base: Base, colour_rows: list[TrainingRow]
) -> None:
    checkpoint = newest(open_run(trained.runs, "moved").checkpoints_dir)
    assert checkpoint is not None and checkpoint.step == 4
    parts = list(checkpoint.path.glob("pytorch_model_fsdp_0/*.distcp"))
    assert len(parts) == 2
    figures = alone(trained.runs, "moved", FSDP, tiny_base, colour_rows)
    assert figures["held_bytes"] == trained.held["one"]
    assert losses(trained.runs, "moved") == pytest.approx(losses(trained.runs, "one"), rel=1e-5)


def test_killed_processes_end_the_run_with_an_error_and_it_goes_on(
    work: Any, trained: Trained, tiny_base: Base, colour_rows: list[TrainingRow]
) -> None:
    runs = trained.runs
    for kill_at, is_killed_wholly in ((5, True), (8, False)):
        trial = work.Trial("killed", FSDP, kill_at=kill_at, is_killed_wholly=is_killed_wholly)
        with pytest.raises(TrainingError, match=r"Process [12] of 2 was ended by SIGKILL") as caught:
            launch(work, runs, [trial], tiny_base, colour_rows)
        assert "localsmith train resume" in caught.value.hint
        run = open_run(runs, "killed")
        kept = newest(run.checkpoints_dir)
        assert kept is not None and kept.step == kill_at // 3 * 3
        assert run.state.status == ("interrupted" if is_killed_wholly else "failed")
    assert "Another process of this run has ended" in open_run(runs, "killed").state.error
    alone(runs, "killed", FSDP, tiny_base, colour_rows)
    assert losses(runs, "killed") == pytest.approx(losses(runs, "one"), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "num_processes", "message"),
    [
        ({"parallel": "ddp"}, 3, "can't be shared by 3 processes that compute 2 rows"),
        ({"parallel": "none"}, 2, "each train the whole model"),
        ({"parallel": "fsdp", "method": "prompt"}, 2, "prompt can't be trained in shards"),
    ],
)
def test_what_can_not_be_shared_is_refused_with_a_way_out(
    changes: dict[str, Any], num_processes: int, message: str
) -> None:
    with pytest.raises(TrainingError, match=message) as caught:
        check_shared(dataclasses.replace(CONFIG, **changes), num_processes)
    assert caught.value.hint


def test_the_estimate_counts_the_shards_of_a_process(tiny_base: Base) -> None:
    shape = read_shape(tiny_base.path)
    plans = [sft_plan(FSDP, shape, "cpu", num_processes=number) for number in (1, 2)]
    one, two = (estimate_run(shape, plan).moments["optimizer step"] for plan in plans)
    for part in ("weights", "gradients", "optimizer states"):
        assert two[part] == pytest.approx(one[part] / 2, rel=1e-3)
    assert [plan.num_accumulated for plan in plans] == [4, 2]
    mixed = sft_plan(MIXED, shape, "cpu", num_processes=2)
    assert estimate_run(shape, mixed).moments["optimizer step"]["weights"] == two["weights"]


def test_an_unknown_way_to_share_is_refused() -> None:
    with pytest.raises(ValueError, match="none, ddp or fsdp, not 'zero'"):
        dataclasses.replace(CONFIG, parallel="zero")  # type: ignore[arg-type]


def test_a_run_that_torchrun_began_and_a_kill_ended_is_finished_by_two_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colour_rows: list[TrainingRow]
) -> None:
    """By the command line, from a file of examples to the catalog; the first process alone exports."""
    import psutil
    from localsmith.core.settings import load_settings
    from localsmith.models.catalog.installed import installed
    from typer.testing import CliRunner

    from localsmith.cli import app

    for name, value in {
        "HOME": str(tmp_path / "home"),
        "MODEL__N_THREADS": "1",
        "MODEL__N_CTX": "512",
    }.items():
        monkeypatch.setenv(f"LOCALSMITH_{name}", value)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    tiny_gguf = load_module(Path(__file__).parent / "export" / "tiny_gguf.py")
    base = tiny_gguf.write_tiny(tmp_path / "tiny.gguf", "llama")
    data = tmp_path / "colours.jsonl"
    lines = [
        json.dumps({"prompt": row.prompt[0].content, "completion": row.completion}) for row in colour_rows
    ]
    data.write_text("\n".join(lines), encoding="utf-8")
    words = ["train", "sft", "--base", str(base), "--data", str(data), "--held-out", "0.2", "--name", "mine"]
    words += ["--method", "full", "--learning-rate", "0.003", "--max-steps", "40", "--device", "cpu"]
    words += ["--micro-batch-size", "2", "--quantization", "F16", "--parallel", "fsdp"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    log = (tmp_path / "log").open("w+")
    begun = subprocess.Popen([*torchrun, "-m", "localsmith.cli", *words], stdout=log, stderr=log)
    runs = load_settings().runs_dir
    while (
        not (curve := losses(runs, "mine") if (runs / "mine" / "run.json").exists() else []) or len(curve) < 6
    ):
        assert begun.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.05)
    processes = [begun, *psutil.Process(begun.pid).children(recursive=True)]
    for process in processes:
        process.kill()
    begun.wait()
    psutil.wait_procs(processes[1:])
    run = open_run(runs, "mine")
    assert run.state.status == "interrupted"
    kept = newest(run.checkpoints_dir)
    assert kept is not None and kept.step >= 4

    resumed = CliRunner().invoke(app, ["train", "resume", "mine", "--processes", "2"], catch_exceptions=False)
    assert resumed.exit_code == 0, resumed.output
    assert [step for step, _ in run.metrics.series("loss")] == list(range(1, 41))
    figures = run.state.figures
    assert run.state.status == "finished" and figures
    assert figures["held_out_loss_after"] < figures["held_out_loss_before"]
    assert "mine" in installed(load_settings())


def load_module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
