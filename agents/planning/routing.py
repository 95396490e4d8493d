"""Which way to answer a question, where its words and the documents leave no doubt: no model is asked.

Place in the data's way: the planner looks for passages, hands them here with the question, and gets a `Plan`,
or None where the model has to choose. Rules in order, the first that holds decides; each says why in words.

Example:
    >>> route(Question("Ann has 3 apples and buys 4 more. How many has she?"), passages=()).strategy
    'pal'
    >>> route(Question("Good morning!"), passages=()).strategy
    'direct'
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from ...core.types import Passage, Question
from ...retrieval.words import numbers

# Cosine of question and best passage. Of questions whose document is in the library, nine in ten lie above
# the first; of those whose document isn't, nineteen in twenty below it, and none above the second (the table
# in docs/decisions/0006-budget-and-citations.md). A word problem passes as one of the documents' only above
# the second.
NEAR = 0.28
VERY_NEAR = 0.4
# Numbers in the question from which on it states a problem of its own.
MIN_STATED_NUMBERS = 2
# Things listed ("a flute, a piano and three trombones") from which on counting them is the problem.
MIN_LISTED = 3
_THE = r"(the|its|his|her|their)"
MAX_SMALL_TALK_WORDS = 6

_SMALL_TALK = re.compile(
    r"\s*(hi|hello|hey|good (morning|afternoon|evening|night)|thanks|thank you|bye|goodbye|how are you"
    r"|who are you|what can you do|what are you)\b",
    re.IGNORECASE,
)
_WRITING = re.compile(
    r"\s*(please\s+|can you\s+|could you\s+)*(write|compose|draft|translate|rephrase|paraphrase|reword"
    r"|proofread|brainstorm|invent|tell me a (joke|story)|make up)\b",
    re.IGNORECASE,
)
_QUANTITY = re.compile(
    r"\bhow (many|much|long|far|old|tall|fast|often|big|heavy)\b|\b(calculate|compute|evaluate|solve|find)\b"
    rf"|\bwhat(\s+(is|are|was|were|will be)|['’]s) {_THE} (\w+ ){{0,3}}?(total|sum|number|amount|cost|price"
    r"|average|mean|percent(age)?|difference|area|perimeter|volume|length|width|weight|speed|age|profit|ratio"
    r"|product|remainder)\b"
    r"|\bwhat (percent(age)?|fraction|number)\b|\bwhat (is|are) ([\d$]|(\w+ ){1,2}(more|less) than)"
    r"|^[\s\d(]+[\d\s().+*/^%x×÷-]+[=?\s]*$",
    re.IGNORECASE,
)
_STATED_QUANTITY = re.compile(
    r"\b(half|halves|twice|double|triple|third|thirds|quarter|quarters|dozen|dozens|couple|each|one)\b",
    re.IGNORECASE,
)
_DATES = re.compile(
    r"\b(how many (days|weeks|months|years) (are there )?(between|from|until|since|to)"
    r"|what (is the )?(date|day|weekday)|days? (before|after|from)|weeks? (before|after|from)"
    r"|convert \d|in (mm/dd/yyyy|miles|kilomet(er|re)s|celsius|fahrenheit|pounds|kilograms))\b",
    re.IGNORECASE,
)
_NOW = re.compile(
    r"\b(today('s)?|tomorrow|yesterday|now|current (date|time)|what time is it)\b", re.IGNORECASE
)
_DERIVED = re.compile(
    r"\b(how (many|much) (more|fewer|less|longer|older|higher|larger)|difference (between|in)|combined"
    r"|altogether|in total|sum of|add up|ratio (of|between)|percentage (change|increase|decrease|growth)"
    r"|times (as|larger|more)|average of)\b",
    re.IGNORECASE,
)
_CHOICES = re.compile(r"\([A-D]\)\s|\boptions:|\b(yes or no|true or false)\b", re.IGNORECASE)
_BETWEEN = re.compile(r",\s+and\b|,|\band\b")
_PUZZLE = re.compile(
    r"\b(if .{3,80}, (then )?(who|which|what|does|do|is|are|can|will)\b|which of the following|logic(al)?"
    r"|deduce|riddle|step by step|prove|plausible)\b",
    re.IGNORECASE,
)
_TABLES = frozenset({".csv", ".tsv", ".xlsx", ".xls", ".ods"})


@dataclass(frozen=True, slots=True)
class Plan:
    """What was decided.

    Attributes:
        strategy: Name in the registry.
        reason: Why, in a sentence for people.
    """

    strategy: str
    reason: str


def route(question: Question, passages: Sequence[Passage], *, has_own_tools: bool = False) -> Plan | None:
    """Choose by the question's words and by what search found; None where both leave doubt.

    Args:
        question: The question.
        passages: The best passages for it, best first; empty where there are no documents.
        has_own_tools: Whether the person added tools, which a question far from the documents may be for.
    """
    text = question.text
    if _SMALL_TALK.match(text) and len(text.split()) <= MAX_SMALL_TALK_WORDS:
        return Plan("direct", "It is small talk; it needs neither documents nor long thought.")
    if question.document_ids:
        return _from_documents(text, passages, "The question is put to chosen documents")
    nearest = max((passage.similarity or 0.0 for passage in passages), default=0.0)
    own = _of_itself(text, is_near=nearest >= VERY_NEAR)
    if own is not None:
        return own
    if _WRITING.match(text) and nearest < NEAR:
        return Plan("direct", "It asks for a text to be written, and the documents say nothing of it.")
    if passages and (nearest >= NEAR or not has_own_tools):
        return _from_documents(text, passages, "There are documents to answer from")
    if _CHOICES.search(text) or _PUZZLE.search(text):
        return Plan("cot", "It asks for a conclusion, not for a fact: steps of thought lead to it.")
    return None


def _of_itself(text: str, *, is_near: bool) -> Plan | None:
    """Return the plan for a question that holds all that its answer needs."""
    if is_near or _CHOICES.search(text):
        return None
    if _NOW.search(text) and _DATES.search(text) and not numbers(text):
        return Plan("react", "It depends on today's date, which a tool knows and the model doesn't.")
    if _DATES.search(text) and numbers(text):
        return Plan("pal", "It asks for dates or units, which a program gets right.")
    if not _QUANTITY.search(text):
        return None
    num_stated = len(numbers(text)) + len(_STATED_QUANTITY.findall(text))
    if num_stated >= MIN_STATED_NUMBERS:
        return Plan("pal", f"It asks for a quantity and states {num_stated} others: a program calculates it.")
    if 1 + len(_BETWEEN.findall(text)) >= MIN_LISTED:
        return Plan("pal", "It asks for a count of the things it lists: a program counts them.")
    return None


def _from_documents(text: str, passages: Sequence[Passage], because: str) -> Plan:
    tables = {PurePath(passage.document_name).suffix.lower() for passage in passages[:1]} & _TABLES
    if tables and (_QUANTITY.search(text) or _DERIVED.search(text)):
        return Plan("react", f"{because}, and the best is a table: it is asked with the tools for tables.")
    if passages and _DERIVED.search(text):
        return Plan("react", f"{because}, and the figure has to be worked out: search and calculator.")
    return Plan("rag", f"{because}.")
