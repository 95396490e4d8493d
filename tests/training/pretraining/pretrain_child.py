"""Pre-trains a decoder in a process of its own, so that a test can kill it: RUNS_DIR."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path

import torch
from localsmith.training.pretrain import pretrain
from localsmith.training.runs.kinds import PRETRAIN
from localsmith.training.runs.run_folder import RunFolder, open_run


def main() -> None:
    """Begin the run, or go on with it."""
    torch.set_num_threads(1)
    runs = Path(sys.argv[1])
    spec = importlib.util.spec_from_file_location("settings", Path(__file__).with_name("conftest.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.config_of("decoder").to_json()
    is_new = not (runs / "run").exists()
    run = RunFolder.create(runs, PRETRAIN, config, "run") if is_new else open_run(runs, "run")

    def slowly(stage: str, done: int, total: int, words: str) -> None:
        if stage == "training":
            sys.stdout.write(f"{done}\n")
            sys.stdout.flush()
            time.sleep(0.03)

    with run:
        pretrain(run, on_stage=slowly)


if __name__ == "__main__":
    main()
