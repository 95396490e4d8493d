"""`localsmith evaluate`: figures for answers from documents, on any question file.

Place in the data's way: files in, a table and a results file out. The corpus goes into a library of its own,
kept in the data folder under the corpus's hash, so that the next run starts at once.

Example: `localsmith evaluate rag questions.jsonl --corpus articles.jsonl --limit 200 --json rag.json`
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .core.contracts import Embedder
    from .core.settings import Settings
    from .core.types import Document, Event, Passage
    from .evaluation.journal import Journal
    from .evaluation.question_files import Article
    from .evaluation.rag import Record
    from .front_door import Localsmith
    from .retrieval.library import Library

app = typer.Typer(help="Measure answers against questions with known answers.", no_args_is_help=True)

SHOWN_FIGURES = (
    "num_questions",
    "recall_at_1",
    "recall_at_5",
    "exact_match",
    "f1",
    "contains_answer",
    "gold_passage_read",
    "citation_precision",
    "citations_supported",
    "citations_attached",
    "answers_with_citation",
    "abstention_rate",
    "abstention_rate_unanswerable",
    "overhead_share",
    "seconds_to_first_token_median",
    "seconds_per_answer_median",
    "passages_read_mean",
)


@app.callback()
def _group() -> None:
    """Measure answers against questions with known answers."""


@app.command()
def rag(
    questions: Annotated[
        Path, typer.Argument(help="JSON Lines: id, article, paragraph, question, answers.", metavar="FILE")
    ],
    corpus: Annotated[Path, typer.Option(help="JSON Lines: title, paragraphs.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many questions.")] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    model: Annotated[str | None, typer.Option(help="Catalog name of the chat model.")] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", help="Time budget for reading, in seconds to the first token."),
    ] = None,
    unanswerable: Annotated[
        int, typer.Option(min=0, help="Ask the first so many once more with their document left out.")
    ] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
) -> None:
    """Ask questions whose answers are known; report recall, exact match, F1, citations and time."""
    from .core.settings import load_settings
    from .evaluation.question_files import load_articles, load_questions
    from .evaluation.rag import rag_figures, run_rag
    from .evaluation.results import write_results
    from .evaluation.timed_embedder import TimedEmbedder
    from .front_door import Localsmith
    from .models.embedding.embedder import load_embedder

    articles = load_articles(corpus)
    gold = load_questions(questions, articles, limit)
    settings = load_settings(**({"answer": {"seconds_to_first_token": seconds}} if seconds else {}))
    with load_embedder(settings) as process, Localsmith(model, settings=settings) as ls:
        embedder = TimedEmbedder(process)
        with _library(settings, embedder, articles) as library:
            ids = _add_corpus(library, articles)
            journal = _journal(json, ls, settings, questions, corpus, resume)
            search, ask = _callables(ls, library, ids)
            with _bar("Asking") as on_record:
                records = run_rag(
                    gold,
                    articles,
                    ask=ask,
                    search=search,
                    embedder_seconds=lambda: embedder.seconds,
                    num_unanswerable=unanswerable,
                    journal=journal,
                    on_record=on_record,
                )
        figures = rag_figures(records)
        _print_table(figures, ls.engine.name)
    if json:
        write_results(json, figures, command=_command())
        if journal is not None:
            journal.close(json.with_suffix(".answers.jsonl"))


def _library(settings: Settings, embedder: Embedder, articles: Sequence[Article]) -> Library:
    """Open the library of this corpus, a folder of its own a corpus."""
    import hashlib

    from .retrieval.library import Library

    digest = hashlib.sha256("\0".join(f"{a.file_name}\0{a.text}" for a in articles).encode()).hexdigest()
    retrieval = settings.retrieval
    cut = f"{retrieval.chunk_tokens}-{retrieval.chunk_overlap_tokens}"
    return Library(settings.home / "evaluation" / f"{digest[:16]}-{cut}", embedder, retrieval)


def _add_corpus(library: Library, articles: Sequence[Article]) -> dict[str, str]:
    """Add what is missing; return document ids by file name."""
    documents: dict[str, Document] = {document.name: document for document in library.documents()}
    with _bar("Indexing") as on_done:
        for done, article in enumerate(articles, start=1):
            if article.file_name not in documents:
                document = library.add(article.text.encode(), name=article.file_name)
                documents[article.file_name] = document
            on_done(done, len(articles))
    return {name: document.id for name, document in documents.items()}


def _callables(
    ls: Localsmith, library: Library, ids: dict[str, str]
) -> tuple[Callable[[str], Sequence[Passage]], Callable[[str, str], Iterable[Event]]]:
    from .agents.rag import RagStrategy
    from .core.types import DEFAULT_COLLECTION, Question
    from .evaluation.rag import NUM_SEARCHED

    strategy = RagStrategy(ls.engine, library, ls.settings.answer, ls.settings.retrieval.k)

    def search(text: str) -> Sequence[Passage]:
        return library.search(text, DEFAULT_COLLECTION, NUM_SEARCHED)

    def ask(text: str, without: str) -> Iterable[Event]:
        others = tuple(id for name, id in ids.items() if name != without) if without else ()
        return strategy.events(Question(text, document_ids=others))

    return search, ask


def _journal(
    json: Path | None, ls: Localsmith, settings: Settings, questions: Path, corpus: Path, resume: bool
) -> Journal[Record] | None:
    from .agents.prompts import load_prompt
    from .evaluation.journal import Journal
    from .evaluation.rag import Record

    if json is None:
        return None
    about = {
        "model": ls.engine.name,
        "questions": questions.name,
        "corpus": corpus.name,
        "answer": settings.answer.model_dump(),
        "k": settings.retrieval.k,
        "prompts": {name: load_prompt(name).version for name in ("rag_system", "rag_user")},
    }
    return Journal.open(json.with_name(json.name + ".partial.jsonl"), Record, about, resume=resume)


def _print_table(figures: dict[str, float], model: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "value", "95 % interval", title=f"Answers of {model}")
    for name in SHOWN_FIGURES:
        if name not in figures:
            continue
        low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
        interval = f"{low:.3f} to {high:.3f}" if low is not None and high is not None else ""
        table.add_row(name, f"{figures[name]:.3f}".removesuffix(".000"), interval)
    Console().print(table)


@contextmanager
def _bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar with the time left, on standard error; yield what moves it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _command() -> str:
    """Return the command as typed, without this machine's folders."""
    words = ["/".join(Path(word).parts[-2:]) if "/" in word else word for word in sys.argv[1:]]
    return " ".join(["localsmith", *words])
