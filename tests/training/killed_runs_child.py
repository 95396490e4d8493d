"""Trains the tiny model with each method, kills it, goes on: RUNS_DIR BASE_FOLDER METHOD...

Everything is imported once. Each run is then a fork of this process that trains and tells every step through
a pipe, so that it can be killed between any two of them. Prints what came of it as JSON: by method, how the
forks ended and after which steps they were killed.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import torch
from localsmith.core.settings import load_settings
from localsmith.training import batches, watcher
from localsmith.training.bases import Base, find_base
from localsmith.training.config import SftConfig
from localsmith.training.data.rows import TrainingRow
from localsmith.training.runs.run_folder import RunFolder, open_run
from localsmith.training.sft import train
from transformers import LlamaForCausalLM, Trainer

# What a run would load late, so that every fork has it already.
LOADED = (peft, batches, watcher, LlamaForCausalLM, Trainer)
STEPS = 9
SECONDS_BETWEEN_STEPS = 0.01
CONFIG = SftConfig(
    base="tiny",
    data_version="",
    batch_size=4,
    micro_batch_size=4,
    max_steps=STEPS,
    save_every=3,
    learning_rate=3e-3,
    device="cpu",
)
# Dropout draws numbers in every step: its curve is right only if a resume goes on where they stopped.
OPTIONS: dict[str, dict[str, Any]] = {"lora": {"dropout": 0.1}}


def config_of(method: str) -> SftConfig:
    """Return the settings of a method's run."""
    return dataclasses.replace(CONFIG, method=method, method_options=OPTIONS.get(method, {}))


def begin_or_go_on(folder: Path, config: SftConfig, base: Base, rows: list[TrainingRow], pipe: int) -> None:
    """Train in this process; each step is told as a byte."""

    def tell(progress: watcher.TrainingProgress) -> None:
        os.write(pipe, bytes([progress.step]))
        time.sleep(SECONDS_BETWEEN_STEPS)

    is_new = not (folder / "run").exists()
    run = RunFolder.create(folder, "sft", config.to_json(), "run") if is_new else open_run(folder, "run")
    with run:
        train(run, config, base, rows, on_progress=tell)


def forked(work: Callable[[int], None], kill_after: int = 0) -> tuple[int, list[int]]:
    """Do the work in a fork; return (its exit status, or the signal that ended it below 0; steps it told).

    Args:
        work: Given the pipe to tell steps through.
        kill_after: The step after which it is killed; 0 for never.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        status = 1
        try:
            work(writer)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    steps: list[int] = []
    while told := os.read(reader, 1):
        steps.append(told[0])
        if kill_after and told[0] >= kill_after:
            os.kill(pid, signal.SIGKILL)
            break
    os.close(reader)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), steps


def main() -> None:
    """Train with each method: once whole, and once killed; the first method is killed twice."""
    runs, base_folder, *methods = sys.argv[1:]
    spec = importlib.util.spec_from_file_location("rows", Path(__file__).with_name("conftest.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.set_num_threads(1)
    rows = module.rows_about_colours()
    base = find_base(load_settings(), base_folder)
    rng = random.Random(3)
    found = {}
    for method in methods:
        config = config_of(method)
        whole, killed = Path(runs) / method / "whole", Path(runs) / method / "killed"
        ends = [forked(lambda pipe: begin_or_go_on(whole, config, base, rows, pipe))]  # noqa: B023
        kills = [rng.randint(4, 6), *([rng.randint(7, 8)] if not found else [])]
        for kill_after in (*kills, 0):
            ends.append(
                forked(lambda pipe: begin_or_go_on(killed, config, base, rows, pipe), kill_after)  # noqa: B023
            )
        found[method] = {"kills": kills, "ends": [end for end, _ in ends], "steps": [s for _, s in ends]}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
