"""`localsmith evaluate direct|few-shot|cot|cot-sc|pal|pal-vote|react|auto FILE`: how often each is right.

Place in the data's way: a file of questions with known answers -> `evaluation_run.py`, which asks several at
once -> a table, a results file, and the answers beside it. A command a strategy of `agents/registry.py`.

Example: `localsmith evaluate pal-vote gsm8k.jsonl --samples 5 --limit 100 --json pal.json`
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .agents.registry import STRATEGIES

if TYPE_CHECKING:
    from .evaluation_run import StrategyRun

SHOWN_FIGURES = (
    "num_questions",
    "accuracy",
    "exact_match",
    "f1",
    "no_answer_share",
    "limit_share",
    "abstained_share",
    "failed_share",
    "tokens_mean",
    "prompt_tokens_mean",
    "cached_tokens_mean",
    "completion_tokens_mean",
    "seconds_per_question",
    "seconds_to_answer_median",
    "seconds_to_answer_p90",
)
CALL_FIGURES = ("tool_calls_mean", "malformed_calls", "cut_calls")
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def _command(strategy: str) -> Callable[..., None]:
    def command(
        file: Annotated[
            Path, typer.Argument(help="JSON Lines; the fields tell what kind of questions they are.")
        ],
        limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many questions.")] = None,
        json: Annotated[
            Path | None, typer.Option("--json", help="Write the figures to this file, the answers beside it.")
        ] = None,
        model: Annotated[str | None, typer.Option(help="Catalog name of the chat model.")] = None,
        samples: Annotated[
            int | None, typer.Option(min=1, max=64, help="Samples that vote; cot-sc and pal-vote only.")
        ] = None,
        corpus: Annotated[
            Path | None,
            typer.Option(help="Documents to search, JSON Lines: title, and paragraphs or text."),
        ] = None,
        context: Annotated[
            Path | None,
            typer.Option(help="A text put before every question, such as a table they ask about."),
        ] = None,
        examples: Annotated[
            Path | None,
            typer.Option(help="Examples for few-shot: a TOML set, or JSON Lines like the questions."),
        ] = None,
        at_once: Annotated[int, typer.Option(min=1, max=64, help="Questions asked at the same time.")] = 8,
        seed: Annotated[int | None, typer.Option(min=0, help="Seed of the sampler.")] = None,
        resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    ) -> None:
        from .evaluation_run import StrategyRun

        run = StrategyRun(
            strategy=strategy,
            file=file,
            limit=limit,
            model=model,
            num_samples=samples,
            corpus=corpus,
            context=context,
            examples=examples,
            at_once=at_once,
            seed=seed,
        )
        _evaluate(run, json, resume=resume)

    command.__doc__ = f"{STRATEGIES[strategy].description} Report how often it is right, and what it costs."
    return command


def _evaluate(run: StrategyRun, json: Path | None, *, resume: bool) -> None:
    from .evaluation.reasoning import reasoning_figures
    from .evaluation.results import write_results
    from .evaluation_run import PreparedRun
    from .evaluation_terminal import command_line, print_figures, progress_bar
    from .terminal import console

    with PreparedRun(run) as prepared:
        if run.corpus is not None:
            with progress_bar("Indexing") as on_indexed:
                prepared.index(on_indexed)
        journal = prepared.journal(json, resume=resume) if json else None
        try:
            with progress_bar("Asking") as on_record:
                records = prepared.ask(journal, on_record)
        except KeyboardInterrupt:
            kept = (
                f"; {len(journal)} answers are kept, --resume goes on with them"
                if journal is not None
                else ""
            )
            console.print(f"Stopped{kept}.", style="yellow", markup=False)
            raise typer.Exit(INTERRUPTED) from None
        figures = reasoning_figures(records)
        title = f"{run.strategy} on {run.file.name}, {prepared.about['model']}"
        has_calls = any(figures[name] for name in CALL_FIGURES)
        print_figures(figures, SHOWN_FIGURES + CALL_FIGURES * has_calls, title)
        if json:
            write_results(json, figures, command=command_line(), details=prepared.about)
            if journal is not None:
                journal.close(json.with_suffix(".answers.jsonl"))


COMMANDS: Mapping[str, Callable[..., None]] = {name: _command(name) for name in STRATEGIES if name != "rag"}
