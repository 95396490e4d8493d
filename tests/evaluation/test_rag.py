from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from localsmith.core.errors import EvaluationError
from localsmith.core.types import Answer, Chunk, Citation, Delta, Event, Final, Passage, Usage
from localsmith.evaluation.final_answers import short_answer
from localsmith.evaluation.journal import Journal
from localsmith.evaluation.question_files import Article, GoldQuestion, load_articles, load_questions
from localsmith.evaluation.rag import Record, is_relevant, rag_figures, run_rag
from localsmith.evaluation.results import write_results

ARTICLES = (
    Article("bridges.txt", ("The Tay Bridge was designed by Thomas Bouch.", "It fell in 1879.")),
    Article("france.txt", ("Paris is the capital of France.",)),
)
QUESTIONS = (
    GoldQuestion("q1", 0, 0, "Who designed the Tay Bridge?", ("Thomas Bouch",)),
    GoldQuestion("q2", 0, 1, "When did it fall?", ("1879",)),
    GoldQuestion("q3", 1, 0, "What is the capital of France?", ("Paris",)),
)


def passage(article: Article, start: int, end: int, rank: int = 1) -> Passage:
    chunk = Chunk(f"{article.file_name}{start}", "d", 0, article.text[start:end], start, end, None, (), 9)
    return Passage(chunk, article.file_name, rank, 1 / rank)


BOUCH = passage(ARTICLES[0], 0, 44)
FELL = passage(ARTICLES[0], 46, 62, rank=2)
PARIS = passage(ARTICLES[1], 0, 31)


def answer(text: str, cited: Sequence[Passage] = (), reason: str = "answered") -> Answer:
    citations = tuple(Citation(n, p, text, "", 1.0, True) for n, p in enumerate(cited, start=1))
    return Answer(text, reason, citations, (BOUCH, FELL), usage=Usage(prefill_s=0.0, decode_s=0.0))  # type: ignore[arg-type]


ANSWERS = {
    QUESTIONS[0].question: answer("**Thomas Bouch** [1]. He was knighted [2].", [BOUCH, FELL]),
    QUESTIONS[1].question: answer("In 1879 [1]", [FELL]),
    QUESTIONS[2].question: answer("The documents don't answer this.", reason="abstained"),
}


def ask(text: str, without: str) -> Iterable[Event]:
    found = ANSWERS[text] if not without else answer("The documents don't answer this.", reason="abstained")
    return [Delta(found.text), Final(found)]


def search(text: str) -> Sequence[Passage]:
    return {QUESTIONS[0].question: [BOUCH, FELL], QUESTIONS[1].question: [BOUCH, FELL]}.get(text, [BOUCH])


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("Thomas Bouch [1].", "Thomas Bouch"),
        ("**Thomas Bouch** [1]. He was knighted.", "Thomas Bouch"),
        ("It was Thomas Bouch. He was knighted [1].", "It was Thomas Bouch"),
        ("St. Louis Rams [2, 3]", "St. Louis Rams"),
        ('"4:51" [1]\nMore', "4:51"),
        ("", ""),
        ("[1]", ""),
        ("\n\n1,500.\n", "1,500"),
    ],
)
def test_the_short_answer_is_the_first_line_up_to_its_citation(text: str, short: str) -> None:
    assert short_answer(text) == short


def test_a_passage_is_relevant_if_it_lies_in_the_paragraph_and_holds_the_answer() -> None:
    assert is_relevant(BOUCH, QUESTIONS[0], ARTICLES[0])
    assert not is_relevant(FELL, QUESTIONS[0], ARTICLES[0])  # another paragraph
    elsewhere = Article("b.txt", ("Thomas Bouch was born in 1822.", "The Tay Bridge is by Thomas Bouch."))
    question = GoldQuestion("q", 0, 1, "Who designed the Tay Bridge?", ("Thomas Bouch",))
    assert not is_relevant(passage(elsewhere, 0, 30), question, elsewhere)
    assert is_relevant(passage(elsewhere, 32, 66), question, elsewhere)
    assert not is_relevant(passage(ARTICLES[0], 0, 14), QUESTIONS[0], ARTICLES[0])  # without the answer
    assert not is_relevant(PARIS, QUESTIONS[0], ARTICLES[0])  # another document


def test_offsets_that_are_not_the_documents_stop_the_evaluation() -> None:
    shifted = passage(Article("bridges.txt", ("x" * 99,)), 0, 44)
    with pytest.raises(EvaluationError, match="offsets"):
        is_relevant(shifted, QUESTIONS[0], ARTICLES[0])


def test_the_figures_are_those_counted_by_hand() -> None:
    figures = rag_figures(run_rag(QUESTIONS, ARTICLES, ask=ask, search=search, num_unanswerable=2))
    assert figures["num_questions"] == 3
    assert figures["recall_at_1"] == pytest.approx(1 / 3)  # q1 at rank 1, q2 at rank 2, q3 not found
    assert figures["recall_at_5"] == pytest.approx(2 / 3)
    assert figures["exact_match"] == pytest.approx(1 / 3)  # q1; "In 1879" has a word too many
    assert figures["f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert figures["contains_answer"] == pytest.approx(2 / 3)
    assert figures["citation_precision"] == pytest.approx(2 / 3)  # of three, q1's second is wrong
    assert figures["abstention_rate"] == pytest.approx(1 / 3)
    assert figures["abstention_rate_unanswerable"] == 1
    assert figures["overhead_share"] == 1  # nothing here was computed by a model
    assert figures["recall_at_5_low"] <= figures["recall_at_5"] <= figures["recall_at_5_high"]


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    path, about = tmp_path / "rag.json.partial.jsonl", {"model": "m"}

    def ask_twice_then_die(text: str, without: str) -> Iterable[Event]:
        if text == QUESTIONS[2].question:
            raise KeyboardInterrupt
        return ask(text, without)

    with pytest.raises(KeyboardInterrupt):
        run_rag(
            QUESTIONS,
            ARTICLES,
            ask=ask_twice_then_die,
            search=search,
            journal=Journal.open(path, Record, about, resume=False),
        )
    with path.open("a") as file:
        file.write('{"key": "q3", "rec')  # cut by the kill
    asked = []

    def ask_and_note(text: str, without: str) -> Iterable[Event]:
        asked.append(text)
        return ask(text, without)

    journal = Journal.open(path, Record, about, resume=True)
    assert len(journal) == 2
    records = run_rag(QUESTIONS, ARTICLES, ask=ask_and_note, search=search, journal=journal)
    assert asked == [QUESTIONS[2].question]
    fresh = run_rag(QUESTIONS, ARTICLES, ask=ask, search=search)
    assert [r.text for r in records] == [r.text for r in fresh]
    assert rag_figures(records)["f1"] == rag_figures(fresh)["f1"]


def test_a_journal_is_neither_overwritten_nor_mixed_with_another(tmp_path: Path) -> None:
    path = tmp_path / "partial.jsonl"
    Journal.open(path, Record, {"model": "a"}, resume=False)
    with pytest.raises(EvaluationError) as caught:
        Journal.open(path, Record, {"model": "a"}, resume=False)
    assert "--resume" in caught.value.hint
    with pytest.raises(EvaluationError, match="another evaluation"):
        Journal.open(path, Record, {"model": "b"}, resume=True)


GOOD_ROW = {"id": "1", "article": 0, "paragraph": 0, "question": "Who?", "answers": ["Bouch"]}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"answers": []}, "answers"),
        ({"answers": "Bouch"}, "answers"),
        ({"answers": [3]}, "answers"),
        ({"article": "0"}, "article"),
        ({"article": 7}, "article"),
        ({"article": True}, "article"),
        ({"paragraph": -1}, "paragraph"),
        ({"question": " "}, "question"),
        ({"id": None}, "id"),
    ],
)
def test_a_bad_row_is_named_by_line_and_field(tmp_path: Path, change: dict[str, object], field: str) -> None:
    path = tmp_path / "questions.jsonl"
    rows = [GOOD_ROW, {**GOOD_ROW, "id": "2", **change}]
    path.write_text("\n\n".join(json.dumps(row) for row in rows))
    with pytest.raises(EvaluationError, match=f"line 3, field '{field}'"):
        load_questions(path, ARTICLES)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff"])
def test_a_file_that_is_no_json_lines_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(EvaluationError):
        load_questions(path, ARTICLES)


def test_the_limit_takes_the_first_questions_and_missing_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps({**GOOD_ROW, "id": str(i)}) + "\n" for i in range(5)))
    assert [q.id for q in load_questions(path, ARTICLES, limit=2)] == ["0", "1"]
    with pytest.raises(EvaluationError, match=r"nothing\.jsonl"):
        load_articles(tmp_path / "nothing.jsonl")


def test_the_shared_question_file_loads_and_every_answer_stands_in_its_paragraph(shared_data: Path) -> None:
    articles = load_articles(shared_data / "squad" / "articles.jsonl")
    questions = load_questions(shared_data / "squad" / "questions.jsonl", articles)
    assert len(questions) == 400 and len(articles) == 48
    assert len({article.file_name for article in articles}) == 48
    for question in questions:
        article = articles[question.article]
        start, end = article.span(question.paragraph)
        assert any(" ".join(gold.split()) in article.text[start:end] for gold in question.answers)


def test_a_results_file_has_figures_command_machine_and_date(tmp_path: Path) -> None:
    path = tmp_path / "results" / "rag.json"
    write_results(path, {"f1": 0.5}, command="localsmith evaluate rag q.jsonl")
    content = json.loads(path.read_text())
    assert set(content) == {"figures", "command", "machine", "date"}
    assert content["figures"] == {"f1": 0.5}
    assert [file.name for file in path.parent.iterdir()] == ["rag.json"]
    with pytest.raises(EvaluationError, match="f1"):
        write_results(path, {"f1": float("nan")}, command="x")
    assert json.loads(path.read_text()) == content  # the old results are unharmed
