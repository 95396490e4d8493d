"""Speed and memory of fine-tuning, ours and TRL's in turn, and what a whole run brings.

Each round runs both sides, each in a process of its own; the figures are ratios of medians. With `--run NAME`
the figures of a finished `localsmith train sft` stand beside them: how much better it is than its base.

Example: `python -m benchmarks.training --data dialogsum/dev.jsonl --rounds 5 --run dialogues`
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from localsmith.core.settings import load_settings
from localsmith.core.whole_file import whole_file
from localsmith.training.runs.run_folder import RunFolder, open_run

from .results import add_figures
from .served import served_beside_trainer

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "python -m benchmarks.training"
TEXTS = ROOT / "benchmarks" / "results" / "training.served.jsonl"
SIDES = ("ours", "peer")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--base", default="smollm2-135m")
    parser.add_argument("--data", type=Path, default=None, help="else dialogsum/dev.jsonl of the data folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="optimizer steps a side and round")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--micro", type=int, default=4)
    parser.add_argument("--run", default="", help="a finished run whose gain is reported, too")
    parser.add_argument(
        "--rows", type=int, default=200, help="rows on which its file and its trainer's model are compared"
    )
    return parser.parse_args()


def side(name: str, options: argparse.Namespace, data: Path) -> dict[str, float]:
    """Run one side in its own process."""
    words = [options.base, str(data), options.steps, options.batch, options.micro]
    command = [sys.executable, "-m", "benchmarks.training.side", name, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {**figures, "tokens_per_s": figures["tokens"] / figures["seconds"]}


def compared(options: argparse.Namespace, data: Path) -> tuple[dict[str, float], list[Any]]:
    """Run the rounds; return the ratios and what they are made of."""
    rounds = []
    for number in range(options.rounds):
        order = SIDES if number % 2 == 0 else SIDES[::-1]
        rounds.append({name: side(name, options, data) for name in order})
        shown = {name: round(rounds[-1][name]["tokens_per_s"], 1) for name in SIDES}
        print(f"round {number + 1} of {options.rounds}, tokens/s: {shown}", flush=True)

    def median(name: str, figure: str) -> float:
        return statistics.median(one[name][figure] for one in rounds)

    figures = {f"{name}_tokens_per_s": median(name, "tokens_per_s") for name in SIDES}
    figures |= {f"{name}_peak_bytes": median(name, "peak_bytes") for name in SIDES}
    figures["tokens_per_s_vs_trl"] = figures["ours_tokens_per_s"] / figures["peer_tokens_per_s"]
    figures["peak_memory_vs_trl"] = figures["ours_peak_bytes"] / figures["peer_peak_bytes"]
    return figures, rounds


def gain(run: RunFolder) -> dict[str, float]:
    """Return what a finished run came to."""
    if run.state.status != "finished" or not run.state.figures:
        raise SystemExit(f"The run {run.run_id} is not finished.")
    figures = dict(run.state.figures)
    if "rouge_l_after" in figures:
        figures["rouge_l_gain_points"] = figures["rouge_l_after"] - figures["rouge_l_before"]
    return figures


def main() -> None:
    """Run the benchmark and write its results; figures that are not measured now are kept."""
    options = arguments()
    shared = Path(os.environ.get("LOCALSMITH_SHARED_DATA") or ROOT.parent / "shared" / "data")
    data = options.data or shared / "dialogsum" / "dev.jsonl"
    figures: dict[str, float] = {}
    if options.rounds:
        ratios, rounds = compared(options, data)
        details = {"rounds": rounds, "base": options.base, "steps": options.steps, "batch": options.batch}
        add_figures("rounds", ratios, command=f"{COMMAND} --rounds {options.rounds}", details=details)
        figures |= ratios
    if options.run:
        command = f"{COMMAND} --rounds 0 --run {options.run}"
        run = open_run(load_settings().runs_dir, options.run)
        add_figures("run", brought := gain(run), command=command, details={"sft": run.config["sft"]})
        served, texts = served_beside_trainer(run, options.rows)
        add_figures("served", served, command=f"{command} --rows {options.rows}")
        with whole_file(TEXTS) as partial:
            partial.write_text("".join(json.dumps(row) + "\n" for row in texts), encoding="utf-8")
        figures |= brought | served
    for name in (
        "tokens_per_s_vs_trl",
        "peak_memory_vs_trl",
        "rouge_l_gain_points",
        "rouge_l_served_minus_trainer",
    ):
        if name in figures:
            print(f"{name}: {figures[name]:.3f}")


if __name__ == "__main__":
    main()
