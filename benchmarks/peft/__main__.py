"""Compares the fine-tuning methods on the same rows, steps and base.

Each entry is trained and scored in a process of its own. Stopped or killed and started again, this goes on
with the entry at hand from its last checkpoint; entries that were measured with the same sizes are not
measured again unless `--again` says so.

Example: `python -m benchmarks.peft --only full,lora`
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from localsmith.core.whole_file import whole_file
from localsmith.evaluation.results import machine

from .entries import BASE, ENTRIES, Plan, names_of
from .page import PAGE, page_text
from .picture import draw
from .report import RESULTS, Measured, Table, merged, read, write

ROOT = Path(__file__).resolve().parent.parent.parent
DATA_VARIABLE = "LOCALSMITH_SHARED_DATA"
_INTERRUPTED = 130


def arguments() -> argparse.Namespace:
    """Read the command line."""
    sizes = Plan()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peft", description=__doc__)
    parser.add_argument("--base", default=sizes.base, help="an installed chat model, a GGUF file or a folder")
    parser.add_argument("--rows", type=int, default=sizes.num_rows, help="rows to train on")
    parser.add_argument("--eval-rows", type=int, default=sizes.num_summaries, help="summaries to score")
    parser.add_argument("--other-rows", type=int, default=sizes.num_others, help="rows of each other task")
    parser.add_argument("--max-tokens", type=int, default=sizes.max_tokens, help="longest row trained on")
    parser.add_argument("--only", default="", help="entries with commas between them; the base is always one")
    parser.add_argument("--data", type=Path, default=None, help=f"folder of the files; else ${DATA_VARIABLE}")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build" / "peft", help="folder of unfinished runs"
    )
    parser.add_argument("--again", action="store_true", help="measure anew what is there already")
    parser.add_argument("--page", action="store_true", help="only write page and picture from the results")
    return parser.parse_args()


def measure(name: str, plan: Plan, data: Path, work: Path) -> dict[str, Any] | None:
    """Measure an entry in a process of its own; None where that failed."""
    work.mkdir(parents=True, exist_ok=True)
    plan_file, result_file = work / "plan.json", work / f"{name}.result.json"
    plan_file.write_text(json.dumps(asdict(plan)), encoding="utf-8")
    result_file.unlink(missing_ok=True)
    words = [name, plan_file, data, work, result_file]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.peft.child", *map(str, words)], cwd=ROOT, check=False
    )
    if done.returncode or not result_file.is_file():
        return None
    result: dict[str, Any] = json.loads(result_file.read_text(encoding="utf-8"))
    return result


def kept(name: str, plan: Plan, result: dict[str, Any], out: Path) -> Measured:
    """Keep the written summaries beside the results, and return the rest."""
    with whole_file(out.parent / out.stem / f"{name}.answers.jsonl") as partial:
        partial.write_text("".join(json.dumps(row) + "\n" for row in result["texts"]), encoding="utf-8")
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    return Measured(
        plan=asdict(plan),
        settings=ENTRIES[name].settings,
        date=date,
        machine=machine(),
        figures=result["figures"],
        nats=result["nats"],
    )


def remove_run(name: str, work: Path) -> None:
    """Remove what a measured entry's run has left: its checkpoints are large."""
    shutil.rmtree(work / name.replace("_", "-"), ignore_errors=True)
    (work / f"{name}.result.json").unlink(missing_ok=True)


def show(entries: Table, out: Path) -> None:
    """Draw the picture; where the results are the repository's, write the page, too."""
    draw(entries, out.with_suffix(".png"))
    if out == RESULTS:
        PAGE.write(page_text(entries))


def main() -> int:
    """Measure, and write after every entry; 0 where everything that was asked for could be measured."""
    options = arguments()
    try:
        plan = Plan(
            options.base, options.rows, options.eval_rows, options.other_rows, max_tokens=options.max_tokens
        )
        names = names_of(options.only)
    except ValueError as exc:
        print(exc, file=sys.stderr)
        return 2
    if options.page:
        show(read(options.out), options.out)
        return 0
    data = options.data or Path(os.environ.get(DATA_VARIABLE) or ROOT.parent / "shared" / "data")
    out, work = options.out.resolve(), options.work.resolve()
    entries = merged(read(out), {}, asdict(plan))
    todo = [name for name in names if options.again or name not in entries]
    failed: list[str] = []
    for number, name in enumerate(todo, 1):
        print(f"{name} ({number} of {len(todo)})", file=sys.stderr, flush=True)
        begun = time.monotonic()
        try:
            result = measure(name, plan, data.resolve(), work)
        except KeyboardInterrupt:
            print("Stopped; the same command goes on.", file=sys.stderr)
            return _INTERRUPTED
        if result is None:
            failed.append(name)
            if name == BASE:
                return 1  # there is nothing to compare with
            continue
        entries = merged(entries, {name: kept(name, plan, result, out)}, asdict(plan))
        figures = write(out, entries)
        remove_run(name, work)
        show(entries, out)
        print(summary(name, figures, time.monotonic() - begun), flush=True)
    return 1 if failed else 0


def summary(name: str, figures: dict[str, float], seconds: float) -> str:
    """Return what an entry came to, in one line."""
    shown = {"ROUGE-L": "rouge_l", "forgetting": "forgetting", "tokens/s": "tokens_per_s"}
    said = [
        f"{words} {figures[f'{name}_{key}']:.3g}"
        for words, key in shown.items()
        if f"{name}_{key}" in figures
    ]
    return f"{name}: {', '.join(said)} ({seconds:.0f} s)"


if __name__ == "__main__":
    sys.exit(main())
