"""Runs the strategies over the question files and fills the scoreboard.

Each entry keeps its answers in a journal while it runs; killed and started again, this goes on where it was.
What was measured before with the same model, as many questions, the same prompts and settings is not measured
again unless `--again` says so.

Example: `python -m benchmarks.reasoning --model qwen2.5-coder-1.5b --limit 100 --only gsm8k_cot,gsm8k_pal`
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from localsmith.core.errors import LocalsmithError
from localsmith.evaluation.reasoning import reasoning_figures
from localsmith.evaluation.results import machine

from localsmith.evaluation_run import PreparedRun
from localsmith.evaluation_terminal import progress_bar

from . import sandbox_timing, tool_calls
from .entries import ENTRIES, PROBES
from .page import PAGE, scoreboard_text
from .report import RESULTS, Measured, draw, flat_figures, merged, misses, names_of, read, write

ROOT = Path(__file__).resolve().parent.parent.parent
DATA_VARIABLE = "LOCALSMITH_SHARED_DATA"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reasoning", description=__doc__)
    parser.add_argument("--model", default="qwen2.5-coder-1.5b", help="catalog name")
    parser.add_argument("--limit", type=int, default=100, help="questions an entry")
    parser.add_argument("--only", default="", help="entries with commas between them, or all")
    parser.add_argument("--at-once", type=int, default=8, help="questions asked at the same time")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--data", type=Path, default=None, help=f"folder of the files; else ${DATA_VARIABLE}")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results file")
    parser.add_argument("--again", action="store_true", help="measure anew what is there already")
    parser.add_argument("--page", action="store_true", help="only write page and picture from the results")
    return parser.parse_args()


def data_folder(given: Path | None) -> Path:
    """Return the folder of the question files: as given, by the environment, or shared/data beside us."""
    return given or Path(os.environ.get(DATA_VARIABLE) or ROOT.parent / "shared" / "data")


def measure(name: str, options: argparse.Namespace, earlier: Measured | None) -> Measured | None:
    """Measure an entry; None where it has been measured already.

    Raises:
        LocalsmithError: A part of it can't run here, or a file is not there.
    """
    run = ENTRIES[name].run(
        data_folder(options.data),
        model=options.model,
        limit=options.limit,
        at_once=options.at_once,
        seed=options.seed,
    )
    answers = answers_path(options.out, name)
    answers.parent.mkdir(parents=True, exist_ok=True)
    with PreparedRun(run) as prepared:
        asked = len(prepared.tasks)
        is_done = earlier is not None and (earlier.about, earlier.num_questions) == (prepared.about, asked)
        if is_done and not options.again:
            return None
        prepared.index()
        journal = prepared.journal(answers, resume=True)
        with progress_bar(name) as on_record:
            records = prepared.ask(journal, on_record)
        journal.close(answers.with_suffix(".answers.jsonl"))
        figures = reasoning_figures(records)
        command = f"python -m benchmarks.reasoning --model {options.model} --limit {asked} --only {name}"
        return _measured(prepared.about["model"], asked, command, figures, prepared.about)


def answers_path(out: Path, name: str) -> Path:
    """Return the name beside which an entry's journal and answers lie."""
    return out.parent / out.stem / f"{name}.json"


def _measured(
    model: str, asked: int, command: str, figures: dict[str, float], about: dict[str, object]
) -> Measured:
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    return Measured(model, asked, date, machine(), command, figures, dict(about))


def measure_probe(name: str) -> Measured:
    """Measure what asks no questions of a file: malformed calls, or the sandbox.

    Raises:
        SandboxError: No sandbox can run here.
        ModelError: The model of the calls is not installed or can't be loaded.
    """
    command = f"python -m benchmarks.reasoning --only {name}"
    if name == "tool_calls":
        with progress_bar(name) as on_run:
            figures, counted = tool_calls.measure(on_run=on_run)
        return _measured(tool_calls.MODEL, tool_calls.NUM_RUNS, command, figures, counted)
    figures, sandbox = sandbox_timing.measure()
    return _measured("", 0, command, figures, {"sandbox": sandbox})


def main() -> int:
    """Measure, and write after every entry; 0 where everything that was asked for could be measured."""
    options = arguments()
    try:
        names = [] if options.page else names_of(options.only)
    except ValueError as exc:
        print(exc, file=sys.stderr)
        return 2
    entries, failed = read(options.out), []
    for name in names:
        try:
            measured = measure_probe(name) if name in PROBES else measure(name, options, entries.get(name))
        except LocalsmithError as exc:
            print(f"{name}: {exc} {exc.hint}".rstrip(), file=sys.stderr)
            failed.append(name)
            continue
        except KeyboardInterrupt:
            print("Stopped; the same command goes on.", file=sys.stderr)
            return 130
        if measured is None:
            print(f"{name}: measured already")
            continue
        entries = merged(entries, {name: measured}, options.model)
        figures = write(entries, f"python -m benchmarks.reasoning --model {options.model}", options.out)
        own = PROBES.get(name, (name,))
        print(f"{name}: " + ", ".join(f"{k} {v:.3f}" for k, v in figures.items() if k.startswith(own)))
        show(entries, options.out)
    if options.page:
        show(entries, options.out)
    return 1 if failed else 0


def show(entries: dict[str, Measured], out: Path) -> None:
    """Draw the picture; where the results are the repository's, write the page, too."""
    draw(entries, out.with_suffix(".png"))
    if out == RESULTS:
        PAGE.write(scoreboard_text(entries))
    for line in misses(flat_figures(entries)):
        print(f"  missed: {line}")


if __name__ == "__main__":
    sys.exit(main())
