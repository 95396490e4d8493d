"""What a process holds when two share a model by FSDP, beside one process that holds it all; and the losses.

Both sides take the same steps of full fine-tuning in float32 on the same rows, each side in processes of its
own, one side after the other. `fsdp_memory_per_rank_share` is exact: the bytes of weights, gradients and
optimizer state in the fuller of the two processes, over those of the single one. The share of peak resident
memory beside it counts libraries, activations, loading and gathered layers as well. Writes
`benchmarks/results/shards.json`, and the first share into `benchmarks/results/training.json`.

Example: `python -m benchmarks.shards --data dialogsum/dev.jsonl`
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from localsmith.core.settings import load_settings
from localsmith.evaluation.results import write_results
from localsmith.training.bases import find_base
from localsmith.training.config import SftConfig
from localsmith.training.data.rows import TrainingRow
from localsmith.training.data.sources import FileSource, import_source
from localsmith.training.parallel.local_processes import Tell, in_processes
from localsmith.training.parallel.ranks import Flag, launched
from localsmith.training.runs.run_folder import RunFolder

from .training.results import add_figures

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
COMMAND = "python -m benchmarks.shards"
SIDES = {"one": 1, "shards": 2}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--base", default="smollm2-135m", help="installed model, GGUF file or folder")
    parser.add_argument("--data", type=Path, default=None, help="else dialogsum/dev.jsonl of the data folder")
    parser.add_argument("--steps", type=int, default=4, help="optimizer steps a side")
    parser.add_argument("--batch", type=int, default=4, help="rows of a step")
    parser.add_argument("--micro", type=int, default=2, help="rows that a process computes at once")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--side", choices=tuple(SIDES), help=argparse.SUPPRESS)
    return parser.parse_args()


def peak_bytes() -> int:
    """Return the highest resident memory of this process so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def train(path: Path, config: SftConfig, rows: Sequence[TrainingRow], tell: Tell, stop: Flag) -> Any:
    """Train as one of the processes; return what each held, its peak, the losses and the speed."""
    from localsmith.training import sft

    run = RunFolder(path)
    base = find_base(load_settings(), config.base)
    if launched().is_first:
        with run:
            figures = sft.train(run, config, base, rows).figures
    else:
        figures = sft.train(run, config, base, rows).figures
    mine = {"held_bytes": figures["held_bytes"], "peak_bytes": peak_bytes()}
    ranks: list[Any] = [mine]
    if launched().num_processes > 1:
        import torch.distributed as dist

        ranks = [None] * launched().num_processes
        dist.all_gather_object(ranks, mine)
    losses = [loss for _, loss in run.metrics.series("loss")]
    return {"ranks": ranks, "losses": losses, "tokens_per_s": figures["tokens_per_s"]}


def side(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one side in processes of its own."""
    rows = import_source(FileSource(options.data), 7).rows
    config = SftConfig(
        base=options.base,
        data_version="",
        method="full",
        max_steps=options.steps,
        batch_size=options.batch,
        micro_batch_size=options.micro,
        max_tokens=1024,
        long_rows="drop",
        save_every=options.steps,
        device="cpu",
        parallel="none" if name == "one" else "fsdp",
    )
    with tempfile.TemporaryDirectory() as folder:
        path = RunFolder.create(Path(folder), "sft", config.to_json(), "run").path
        if name == "one":
            return dict(train(path, config, rows, lambda _: None, threading.Event()))
        work = functools.partial(train, path, config, rows)
        done = in_processes(
            work, SIDES[name], on_told=lambda _: None, cancel=threading.Event(), is_on_gpu=False
        )
        return dict(done)


def measured(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one side, taken in a process of its own, which may start others."""
    words = ["--base", options.base, "--data", str(options.data), "--steps", str(options.steps)]
    words += ["--batch", str(options.batch), "--micro", str(options.micro), "--side", name]
    command = [sys.executable, "-m", "benchmarks.shards", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def compared(one: dict[str, Any], shards: dict[str, Any]) -> dict[str, float]:
    """Return the ratios of the two sides, by the fuller process of the second."""

    def most(which: dict[str, Any], figure: str) -> float:
        return max(float(rank[figure]) for rank in which["ranks"])

    pairs = list(zip(one["losses"], shards["losses"], strict=True))
    return {
        "fsdp_memory_per_rank_share": most(shards, "held_bytes") / most(one, "held_bytes"),
        "fsdp_peak_per_rank_share": most(shards, "peak_bytes") / most(one, "peak_bytes"),
        "fsdp_loss_difference_max": max(abs(ours - theirs) for theirs, ours in pairs),
        "one_held_bytes": most(one, "held_bytes"),
        "rank_held_bytes": most(shards, "held_bytes"),
        "one_peak_bytes": most(one, "peak_bytes"),
        "rank_peak_bytes": most(shards, "peak_bytes"),
        "one_tokens_per_s": one["tokens_per_s"],
        "shards_tokens_per_s": shards["tokens_per_s"],
    }


def main() -> None:
    """Measure both sides, print and write; or one side, as a child."""
    options = arguments()
    shared = Path(os.environ.get("LOCALSMITH_SHARED_DATA") or ROOT.parent / "shared" / "data")
    options.data = (options.data or shared / "dialogsum" / "dev.jsonl").resolve()
    if options.side:
        out, sys.stdout = sys.stdout, sys.stderr  # the libraries print
        figures = side(options.side, options)
        out.write(json.dumps(figures) + "\n")
        return
    sides = {name: measured(name, options) for name in SIDES}
    ratios = compared(sides["one"], sides["shards"])
    settings = {"base": options.base, "steps": options.steps, "batch": options.batch, "micro": options.micro}
    details = {**settings, "sides": sides}
    write_results(options.results / "shards.json", ratios, command=COMMAND, details=details)
    share = "fsdp_memory_per_rank_share"
    path = options.results / "training.json"
    add_figures("shards", {share: ratios[share]}, command=COMMAND, path=path)
    for name, value in ratios.items():
        print(f"{name}: {value:,.6g}")


if __name__ == "__main__":
    main()
