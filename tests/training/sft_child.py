"""Trains the tiny model in a process of its own, so that a test can kill it: RUNS_DIR BASE_FOLDER."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path

from localsmith.core.settings import load_settings
from localsmith.training.bases import find_base
from localsmith.training.config import SftConfig
from localsmith.training.runs.run_folder import RunFolder, open_run
from localsmith.training.sft import train

CONFIG = SftConfig(
    base="tiny",
    data_version="",
    method="full",
    batch_size=4,
    micro_batch_size=4,
    max_steps=24,
    save_every=4,
    learning_rate=3e-3,
)


def main() -> None:
    """Begin the run, or go on with it."""
    runs, base = Path(sys.argv[1]), Path(sys.argv[2])
    spec = importlib.util.spec_from_file_location("rows", Path(__file__).with_name("conftest.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    is_new = not (runs / "run").exists()
    run = RunFolder.create(runs, "sft", CONFIG.to_json(), "run") if is_new else open_run(runs, "run")

    def slowly(progress: object) -> None:
        sys.stdout.write(f"{getattr(progress, 'step', 0)}\n")
        sys.stdout.flush()
        time.sleep(0.03)

    with run:
        train(
            run,
            CONFIG,
            find_base(load_settings(), str(base)),
            module.rows_about_colours(),
            on_progress=slowly,
        )


if __name__ == "__main__":
    main()
