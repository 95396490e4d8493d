"""Questions with known answers from any JSON Lines file; what kind a row is, its fields tell.

Place in the data's way: a file -> one `Task` a row, which is the text to ask and the grader of what comes
back -> `evaluation.reasoning`. `FORMS` is the list of what is recognised; docs/reference/evaluation.md has it
in words.

Example:
    for task in load_tasks(Path("gsm8k/test.jsonl"), limit=100):
        print(task.text, task.grader.gold)
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import EvaluationError
from .grading import ChoiceGrader, Grader, NumberGrader, Option, TextGrader
from .json_lines import bad_field, json_rows, text_field, texts_field

LETTER_INSTRUCTION = "The final answer is one option's letter in brackets."
CLAIM_QUESTION = "Do the facts support or refute this claim, or is there not enough information?\nClaim: "
YES_NO = (Option("yes", ("true",)), Option("no", ("false",)))
VERDICTS = (
    Option("SUPPORTS", ("supported", "support")),
    Option("REFUTES", ("refuted", "refute")),
    Option("NOT ENOUGH INFO", ("not enough information",)),
)

_OPTIONS = re.compile(r"\bOptions:[ \t]*\n")
_LETTER_OPTION = re.compile(r"^\(([A-Z])\)[ \t]*(.*)$", re.MULTILINE)
_DASH_OPTION = re.compile(r"^-[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)
_PLAIN_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Task:
    """One question of a file.

    Attributes:
        id: Its line in the file, from 1.
        text: What is asked, with the form of the answer where the question doesn't show it.
        grader: Grades the answer.
        solution: A worked answer of the file itself, which examples can be made of; "" for none.
    """

    id: str
    text: str
    grader: Grader
    solution: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A row and where it stands, for messages."""

    path: Path
    line: int
    fields: dict[str, Any]

    def text(self, name: str) -> str:
        """Return a text that must not be empty."""
        return text_field(self.path, self.line, self.fields, name)

    def bad(self, name: str, problem: str) -> EvaluationError:
        """Return the error that names a field."""
        return bad_field(self.path, self.line, name, problem)


@dataclass(frozen=True, slots=True)
class Form:
    """A form of rows.

    Attributes:
        fields: What a row of this form has, besides others.
        meaning: What it is, for people.
        fits: Whether a row that has the fields is of this form.
        read: Makes the question's text, the grader and the solution.
    """

    fields: tuple[str, ...]
    meaning: str
    fits: Callable[[dict[str, Any]], bool]
    read: Callable[[Row], tuple[str, Grader, str]]


def load_tasks(path: Path, limit: int | None = None, context: str = "") -> list[Task]:
    """Read the questions of a file.

    Args:
        path: JSON Lines; see `FORMS` for the rows that are recognised. A row's `context`, where it has one,
            goes before its question. Further fields are ignored.
        limit: Only the first so many; None for all.
        context: A text put before every question, for files whose rows lean on one; "" for none.

    Raises:
        EvaluationError: A row is of no known form, or not as its form wants it; line and field are named.
    """
    tasks: list[Task] = []
    for line, row in json_rows(path):
        if limit is not None and len(tasks) >= limit:
            break
        tasks.append(_task(Row(path, line, row), context))
    if not tasks:
        raise EvaluationError(f"{path} has no rows.")
    return tasks


def _task(row: Row, shared: str) -> Task:
    form = next(
        (form for form in FORMS if row.fields.keys() >= set(form.fields) and form.fits(row.fields)), None
    )
    if form is None:
        known = "; ".join(f"{' and '.join(form.fields)} ({form.meaning})" for form in FORMS)
        raise EvaluationError(
            f"{row.path}, line {row.line}: a row with the fields {', '.join(row.fields) or 'none'} "
            "is no question with a known answer.",
            hint=f"Accepted are rows with {known}.",
        )
    question, grader, solution = form.read(row)
    own = row.text("context") if row.fields.get("context") else ""
    parts = (shared.strip(), own.strip(), question.strip(), grader.instruction)
    return Task(str(row.line), "\n\n".join(part for part in parts if part), grader, solution)


# -- the forms


def _read_claim(row: Row) -> tuple[str, Grader, str]:
    label = row.text("label")
    if label not in (names := [option.name for option in VERDICTS]):
        raise row.bad("label", f"must be {', '.join(names[:-1])} or {names[-1]}, not {label!r}")
    return f"{CLAIM_QUESTION}{row.text('claim')}", _choice(VERDICTS, {label}), ""


def _read_scores(row: Row) -> tuple[str, Grader, str]:
    scores = row.fields["target_scores"]
    are_numbers = isinstance(scores, dict) and all(
        isinstance(score, int | float) for score in scores.values()
    )
    if not are_numbers or len(scores) < 2 or not any(score > 0 for score in scores.values()):
        raise row.bad("target_scores", "must give at least two options a number, a right one more than 0")
    right = {name for name, score in scores.items() if score > 0}
    # The right one often stands first in such files; in the order of the alphabet the place says nothing.
    return row.text("input"), _choice(tuple(map(Option, sorted(scores))), right), ""


def _read_choices(row: Row) -> tuple[str, Grader, str]:
    choices = texts_field(row.path, row.line, row.fields, "choices")
    if (target := row.text("target")) not in choices:
        raise row.bad("target", f"{target!r} is none of the choices")
    return row.text("input"), _choice(tuple(map(Option, sorted(choices))), {target}), ""


def _read_target(row: Row) -> tuple[str, Grader, str]:
    question, target = row.text("input"), row.fields["target"]
    if isinstance(target, bool) or not isinstance(target, int | float | str):
        raise row.bad("target", f"must be a number or a text, not {type(target).__name__}")
    if isinstance(target, str):
        return question, _grader_of_words(question, row.text("target").strip()), ""
    return question, _number(row, "target", target), ""


def _grader_of_words(question: str, target: str) -> Grader:
    """Return the grader of a BIG-Bench Hard target: an option, a truth value, a number, or free words."""
    lettered, dashed = _options(question)
    if target in [option.name for option in lettered]:
        return ChoiceGrader(lettered, frozenset({target}), LETTER_INSTRUCTION)
    if target in [option.name for option in dashed]:
        return _choice(dashed, {target})
    if target.casefold() in ("yes", "no"):
        return _choice(YES_NO, {target.casefold()})
    if target.casefold() in ("true", "false"):
        return _choice((Option("True", ("yes",)), Option("False", ("no",))), {target.capitalize()})
    if any(map(str.isdigit, target)) and _PLAIN_NUMBER.fullmatch(target):
        return NumberGrader(float(target.replace(",", "")))
    return TextGrader((target,))


def _options(question: str) -> tuple[tuple[Option, ...], tuple[Option, ...]]:
    """Return the options that a question lists by letters, and those by dashes."""
    listed = _OPTIONS.split(question)[-1] if _OPTIONS.search(question) else ""
    lettered = tuple(
        Option(f"({letter})", (text,) * bool(text)) for letter, text in _LETTER_OPTION.findall(listed)
    )
    return lettered, tuple(map(Option, _DASH_OPTION.findall(listed)))


def _read_truth(row: Row) -> tuple[str, Grader, str]:
    return row.text("question"), _choice(YES_NO, {"yes" if row.fields["answer"] else "no"}), ""


def _read_solution(row: Row) -> tuple[str, Grader, str]:
    solution, _, target = row.text("answer").rpartition("####")
    target = target.strip().lstrip("$")
    if not any(map(str.isdigit, target)) or not _PLAIN_NUMBER.fullmatch(target):
        raise row.bad("answer", f"must have a number behind ####, not {target!r}")
    grader = _number(row, "answer", float(target.replace(",", "")))
    steps = re.sub(r"<<[^<>]*>>", "", solution).strip()  # the calculator's annotations
    return row.text("question"), grader, f"{steps}\nThe answer is {target}."


def _read_text(row: Row) -> tuple[str, Grader, str]:
    return row.text("question"), TextGrader((row.text("answer"),)), ""


def _read_texts(row: Row) -> tuple[str, Grader, str]:
    answers = texts_field(row.path, row.line, row.fields, "answers")
    return row.text("question"), TextGrader(answers), ""


def _choice(options: tuple[Option, ...], right: set[str]) -> ChoiceGrader:
    names = [option.name for option in options]
    listed = f"{', '.join(names[:-1])} or {names[-1]}" if len(names) <= 3 else f"one of: {', '.join(names)}"
    return ChoiceGrader(options, frozenset(right), f"The final answer is {listed}.")


def _number(row: Row, field: str, value: float) -> NumberGrader:
    if not math.isfinite(value):
        raise row.bad(field, f"must be a finite number, not {value}")
    return NumberGrader(float(value))


def _always(_: dict[str, Any]) -> bool:
    return True


def _is_solution(row: dict[str, Any]) -> bool:
    return isinstance(row["answer"], str) and "####" in row["answer"]


FORMS = (
    Form(("claim", "label"), "a claim to be judged, as in FEVER", _always, _read_claim),
    Form(("input", "target_scores"), "options with scores, as in BIG-Bench", _always, _read_scores),
    Form(("input", "target", "choices"), "options in a list", _always, _read_choices),
    Form(("input", "target"), "a number or words, as in PAL and BIG-Bench Hard", _always, _read_target),
    Form(("question", "answers"), "accepted words, as in SQuAD", _always, _read_texts),
    Form(
        ("question", "answer"),
        "yes or no as true or false, as in StrategyQA",
        lambda row: isinstance(row["answer"], bool),
        _read_truth,
    ),
    Form(
        ("question", "answer"), "a solution with #### and a number, as in GSM8K", _is_solution, _read_solution
    ),
    Form(
        ("question", "answer"),
        "a few words, as in HotpotQA",
        lambda row: isinstance(row["answer"], str),
        _read_text,
    ),
)
