"""Measures answers from documents: was the passage found, is the answer right, is the citation right.

Place in the data's way: gold questions and two callables, which ask and search -> one record a question, kept
in a journal -> figures. What answers is none of this file's business.

What is compared, so that the figures can be read:

- A passage is **relevant** if it overlaps the gold paragraph's characters in the document and contains a gold
  answer. `recall_at_k` is the share of questions with a relevant passage among the first k of the search.
- `exact_match` and `f1` compare `short_answer(text)`: the first line up to its first citation marker or
sentence
  end. Nothing is asked of the model that the product does not ask. An abstention scores 0.
- `citation_precision` is the share of all citations shown, attached ones included, that name a relevant
passage. - Every question of the file can be answered from the corpus, so `abstention_rate` counts refusals
that are
  wrong; `abstention_rate_unanswerable` is measured with the gold document left out, where refusing is right.

Example:
    records = run_rag(questions, articles, ask=ask, search=search)
    figures = rag_figures(records)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from ..core.errors import EvaluationError
from ..core.types import Answer, Delta, Event, Final, Passage
from .final_answers import short_answer
from .journal import Journal
from .metrics import bootstrap, contains_answer, exact_match, f1, recall_at
from .question_files import Article, GoldQuestion

Ask = Callable[[str, str], Iterable[Event]]
"""Called with a question and the file name of a document to leave out, "" for none."""
Search = Callable[[str], Sequence[Passage]]
OnRecord = Callable[[int, int], None]
"""Called with (questions done, questions in all)."""

NUM_SEARCHED = 5


@dataclass(frozen=True, slots=True)
class Record:
    """What came of one question.

    Attributes:
        id: The question's identifier; with " without its document" behind it where that was left out.
        is_answerable: Whether the gold document was in the library.
        question: The question.
        answers: The gold answers.
        text: The answer as shown.
        stop_reason: Why the run ended.
        rank: Rank from 1 of the first relevant passage of the search; None where there was none.
        has_read_gold: Whether a relevant passage was in the prompt.
        exact_match: 0 or 1.
        f1: 0 to 1.
        contains_answer: Whether a gold answer stands anywhere in the text.
        num_citations: Citations in the answer.
        num_right_citations: Those that name a relevant passage.
        num_attached: Those that the check added.
        num_supported: Those that passed the check.
        num_passages: Passages in the prompt.
        prompt_tokens: Tokens of the prompt.
        seconds: Wall time of the run.
        seconds_to_first_token: From the question to the first text shown.
        model_seconds: Time the model computed.
        embedder_seconds: Time the embedder computed.
    """

    id: str
    is_answerable: bool
    question: str
    answers: tuple[str, ...]
    text: str
    stop_reason: str
    rank: int | None
    has_read_gold: bool
    exact_match: float
    f1: float
    contains_answer: bool
    num_citations: int
    num_right_citations: int
    num_attached: int
    num_supported: int
    num_passages: int
    prompt_tokens: int
    seconds: float
    seconds_to_first_token: float
    model_seconds: float
    embedder_seconds: float


def is_relevant(passage: Passage, question: GoldQuestion, article: Article) -> bool:
    """Tell whether a passage overlaps the gold paragraph and contains a gold answer.

    Raises:
        EvaluationError: The passage's characters are not those of the document, so nothing could be judged.
    """
    if passage.document_name != article.file_name:
        return False
    chunk = passage.chunk
    if article.text[chunk.start_char : chunk.end_char] != chunk.text:
        raise EvaluationError(
            f"Passage {chunk.id} of {article.file_name} is not the text at its offsets.",
            hint="The library was built from other files; delete its folder and start again.",
        )
    start, end = article.span(question.paragraph)
    overlaps = chunk.start_char < end and start < chunk.end_char
    return overlaps and contains_answer(chunk.text, question.answers)


def run_rag(
    questions: Sequence[GoldQuestion],
    articles: Sequence[Article],
    *,
    ask: Ask,
    search: Search,
    embedder_seconds: Callable[[], float] = lambda: 0.0,
    num_unanswerable: int = 0,
    journal: Journal[Record] | None = None,
    on_record: OnRecord | None = None,
) -> list[Record]:
    """Ask every question once and judge the answers.

    Args:
        questions: The questions, each answerable from the corpus.
        articles: The corpus, in the order the questions count in.
        ask: Answers a question.
        search: Returns passages for a question, best first.
        embedder_seconds: Time the embedder has computed so far.
        num_unanswerable: Ask the first so many once more with their document left out.
        journal: Keeps every record as soon as it is there, and gives back those of an interrupted run.
        on_record: Told after each record.

    Returns:
        One record a question, in order, the unanswerable ones behind.

    Raises:
        EvaluationError: The library does not hold the corpus.
    """
    tasks = [(question, True) for question in questions]
    tasks += [(question, False) for question in questions[:num_unanswerable]]
    records = []
    for done, (question, is_answerable) in enumerate(tasks, start=1):
        key = question.id if is_answerable else f"{question.id} without its document"
        record = journal.get(key) if journal is not None else None
        if record is None:
            article = articles[question.article]
            record = _record(key, question, article, is_answerable, ask, search, embedder_seconds)
            if journal is not None:
                journal.add(key, record)
        records.append(record)
        if on_record:
            on_record(done, len(tasks))
    return records


def rag_figures(records: Sequence[Record]) -> dict[str, float]:
    """Add up the records.

    Args:
        records: As `run_rag` returns them; at least one of an answerable question.

    Returns:
        The figures; `_low` and `_high` are the ends of the 95 % bootstrap interval over questions.
    """
    asked = [record for record in records if record.is_answerable]
    refused = [record for record in records if not record.is_answerable]
    ranks = [record.rank for record in asked]
    figures = {"num_questions": float(len(asked))}
    figures |= _with_interval("recall_at_1", [recall_at([rank], 1) for rank in ranks])
    figures |= _with_interval("recall_at_5", [recall_at([rank], 5) for rank in ranks])
    figures |= _with_interval("exact_match", [record.exact_match for record in asked])
    figures |= _with_interval("f1", [record.f1 for record in asked])
    figures |= {
        "contains_answer": fmean(record.contains_answer for record in asked),
        "gold_passage_read": fmean(record.has_read_gold for record in asked),
        "abstention_rate": fmean(_abstained(record) for record in asked),
    }
    figures |= dict(_citation_figures(asked))
    figures |= dict(_time_figures(asked))
    if refused:
        figures["num_unanswerable"] = float(len(refused))
        figures |= _with_interval("abstention_rate_unanswerable", [_abstained(record) for record in refused])
    return figures


def _citation_figures(asked: Sequence[Record]) -> Iterator[tuple[str, float]]:
    answered = [record for record in asked if not _abstained(record)]
    shown = sum(record.num_citations for record in answered)
    attached = sum(record.num_attached for record in answered)
    yield "citation_precision", sum(r.num_right_citations for r in answered) / shown if shown else 0.0
    yield "citations_supported", sum(r.num_supported for r in answered) / shown if shown else 0.0
    yield "citations_attached", attached / shown if shown else 0.0
    yield "answers_with_citation", fmean(r.num_citations > 0 for r in answered) if answered else 0.0


def _time_figures(asked: Sequence[Record]) -> Iterator[tuple[str, float]]:
    whole = sum(record.seconds for record in asked)
    computed = sum(record.model_seconds + record.embedder_seconds for record in asked)
    first = sorted(record.seconds_to_first_token for record in asked)
    yield "overhead_share", max(0.0, whole - computed) / whole if whole else 0.0
    yield "overhead_seconds_mean", max(0.0, whole - computed) / len(asked)
    yield "seconds_to_first_token_median", median(first)
    yield "seconds_to_first_token_p90", first[int(0.9 * (len(first) - 1))]
    yield "seconds_per_answer_median", median(record.seconds for record in asked)
    yield "prompt_tokens_mean", fmean(record.prompt_tokens for record in asked)
    yield "passages_read_mean", fmean(record.num_passages for record in asked)


def _with_interval(name: str, values: Sequence[float]) -> dict[str, float]:
    found = bootstrap(values)
    return {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}


def _abstained(record: Record) -> float:
    return float(record.stop_reason == "abstained")


def _record(
    key: str,
    question: GoldQuestion,
    article: Article,
    is_answerable: bool,
    ask: Ask,
    search: Search,
    embedder_seconds: Callable[[], float],
) -> Record:
    passages = search(question.question)[:NUM_SEARCHED] if is_answerable else []
    relevant = [passage.rank for passage in passages if is_relevant(passage, question, article)]
    before_s = embedder_seconds()
    begun = time.perf_counter()
    first_s: float | None = None
    answer: Answer | None = None
    for event in ask(question.question, "" if is_answerable else article.file_name):
        if isinstance(event, Delta) and first_s is None:
            first_s = time.perf_counter() - begun
        elif isinstance(event, Final):
            answer = event.answer
    seconds = time.perf_counter() - begun
    if answer is None:
        raise EvaluationError(f"Question {question.id} ended without an answer.")
    right = [c for c in answer.citations if is_relevant(c.passage, question, article)]
    is_answer = answer.stop_reason != "abstained"
    short = short_answer(answer.text) if is_answer else ""
    return Record(
        id=key,
        is_answerable=is_answerable,
        question=question.question,
        answers=question.answers,
        text=answer.text,
        stop_reason=answer.stop_reason,
        rank=min(relevant, default=None),
        has_read_gold=any(is_relevant(passage, question, article) for passage in answer.passages),
        exact_match=exact_match(short, question.answers),
        f1=f1(short, question.answers),
        contains_answer=is_answer and contains_answer(answer.text, question.answers),
        num_citations=len(answer.citations),
        num_right_citations=len(right),
        num_attached=sum(citation.is_attached for citation in answer.citations),
        num_supported=sum(citation.is_supported for citation in answer.citations),
        num_passages=len(answer.passages),
        prompt_tokens=answer.budget.prompt_tokens if answer.budget else 0,
        seconds=seconds,
        seconds_to_first_token=seconds if first_s is None else first_s,
        model_seconds=answer.usage.prefill_s + answer.usage.decode_s,
        embedder_seconds=embedder_seconds() - before_s,
    )
