"""`localsmith evaluate rag`: figures for answers from documents, on any question file.

Place in the data's way: files in, a table and a results file out. The corpus goes into a library of its own,
kept in the data folder under the corpus's hash, so that the next run starts at once.

Example: `localsmith evaluate rag questions.jsonl --corpus articles.jsonl --limit 200 --json rag.json`
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .core.settings import Settings
    from .core.types import Event, Passage
    from .evaluation.journal import Journal
    from .evaluation.rag import Record
    from .front_door import Localsmith
    from .retrieval.library import Library

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
    """Ask documents questions whose answers are known.

    Reports recall, exact match, F1, citations and time.
    """
    from .core.settings import load_settings
    from .evaluation.question_files import load_articles, load_questions
    from .evaluation.rag import rag_figures, run_rag
    from .evaluation.results import write_results
    from .evaluation.timed_embedder import TimedEmbedder
    from .evaluation_corpus import add_corpus, corpus_dir
    from .evaluation_terminal import command_line, print_figures, progress_bar
    from .front_door import Localsmith
    from .models.embedding.embedder import load_embedder
    from .retrieval.library import Library

    articles = load_articles(corpus)
    gold = load_questions(questions, articles, limit)
    settings = load_settings(**({"answer": {"seconds_to_first_token": seconds}} if seconds else {}))
    one_model = Localsmith(model, settings=settings, follows_promotions=False)
    with load_embedder(settings) as process, one_model as ls:
        embedder = TimedEmbedder(process)
        with Library(corpus_dir(settings, articles), embedder, settings.retrieval) as library:
            with progress_bar("Indexing") as on_indexed:
                ids = add_corpus(library, articles, on_indexed)
            journal = _journal(json, ls, settings, questions, corpus, resume)
            search, ask = _callables(ls, library, ids)
            with progress_bar("Asking") as on_record:
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
        print_figures(figures, SHOWN_FIGURES, f"Answers of {ls.engine.name}")
    if json:
        write_results(json, figures, command=command_line())
        if journal is not None:
            journal.close(json.with_suffix(".answers.jsonl"))


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
