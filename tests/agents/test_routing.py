"""Rules by which questions are routed without asking a model."""

from __future__ import annotations

import pytest
from localsmith.agents.planning.routing import route
from localsmith.core.types import Chunk, Passage, Question


def passage(similarity: float, name: str = "handbook.pdf") -> Passage:
    chunk = Chunk("c", "d", 0, "Every employee has thirty days of leave.", 0, 40, 1, (), 9)
    return Passage(chunk, name, 1, 1.0, 1, 1, similarity)


def chosen(text: str, *passages: Passage, **more: object) -> str:
    plan = route(Question(text, **more), passages)  # type: ignore[arg-type]
    return plan.strategy if plan else "model"


@pytest.mark.parametrize(
    ("text", "similarity", "expected"),
    [
        ("Hello!", 0.15, "direct"),
        ("Write a poem about the sea.", 0.1, "direct"),
        ("How many days of leave does an employee have?", 0.6, "rag"),
        ("Who founded the company?", 0.2, "rag"),  # unclear: whoever has documents asks them
        ("If Ann buys 3 pens at 2 crowns each, how much does she pay?", 0.15, "pal"),
        ("How many more days of leave do managers have than interns?", 0.5, "react"),
        ("With 30 days of leave, 12 of them taken, how many days are left for employees?", 0.5, "rag"),
    ],
)
def test_with_documents_only_what_is_plainly_something_else_leaves_them(
    text: str, similarity: float, expected: str
) -> None:
    assert chosen(text, passage(similarity)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("thanks a lot", "direct"),
        ("A box holds 12 eggs. How many eggs are in 7 boxes?", "pal"),
        ("What is 12.5 % of 34,567?", "pal"),
        ("(3 + 4) * 12 =", "pal"),
        ("I have a flute, a piano and three trombones. How many instruments do I have?", "pal"),
        ("Today is 3 March 2021. What is the date 10 days from today?", "pal"),
        ("What day is it today?", "react"),
        ("Which is true? (A) all swans are white (B) some are black", "cot"),
        ("Who wrote Faust?", "model"),
        ("Could a llama give birth twice during the siege?", "model"),
    ],
)
def test_without_documents_the_words_decide_or_the_model_is_asked(text: str, expected: str) -> None:
    assert chosen(text) == expected


def test_a_question_to_chosen_documents_is_answered_from_them() -> None:
    text = "A box holds 12 eggs. How many eggs are in 7 boxes?"
    assert chosen(text, passage(0.1), document_ids=("d",)) == "rag"


def test_quantities_in_a_table_are_asked_with_the_tools_for_tables() -> None:
    assert chosen("What is the total of all sales in May?", passage(0.5, "sales.csv")) == "react"
    assert chosen("Which regions are there?", passage(0.5, "sales.csv")) == "rag"


def test_with_own_tools_a_question_far_from_the_documents_is_the_models_to_choose() -> None:
    question = Question("Is it raining in Leeds?")
    assert route(question, [passage(0.2)], has_own_tools=True) is None
    near = route(question, [passage(0.35)], has_own_tools=True)
    assert near is not None and near.strategy == "rag"


def test_every_plan_says_why() -> None:
    for text in ("Hello!", "A box holds 12 eggs. How many are in 7?", "What day is it today?"):
        plan = route(Question(text), ())
        assert plan is not None and len(plan.reason.split()) > 4


@pytest.mark.parametrize(
    "text",
    [
        "Mo reads 14 pages a day. He has a book of 200 pages and has read for 9 days. How many are left?",
        "A rope of 12 m is cut into 4 equal parts. How long is each part?",
        "Eve earns $18 an hour and works half of 40 hours. What's her total pay?",
        "Tom had thirty marbles, lost a third of them and won twelve. How many has he now?",
        "A shirt costs 25 dollars. There is a discount of 20%. What is the price of 3 shirts?",
    ],
)
def test_word_problems_are_calculated(text: str) -> None:
    assert chosen(text) == "pal"
    assert chosen(text, passage(0.2)) == "pal"
