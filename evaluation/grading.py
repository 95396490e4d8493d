"""Whether an answer is right: one grader a kind of task, the same for evaluation and for rewards in training.

Place in the data's way: `evaluation.tasks` gives each question its grader; an answer's text -> `Grade`. A
grader reads the text alone, never the run that made it, and raises on no text.

Example:
    >>> NumberGrader(18).grade("3 boxes of 6 make 18 pens. The answer is 18.").value
    1.0
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from .final_answers import MAX_READ_CHARS, Number, numbers, short_answer, stated_answer
from .metrics import exact_match, f1

# Source: github.com/reasoning-machines/pal at f81ca2a9777f, scripts/gsm_eval.py: abs(answer - target) < 1e-3.
TOLERANCE = 1e-3
# Amounts rounded to cents are right where the gold answer goes on behind them.
MIN_ROUNDED_DECIMALS = 2

_EMPHASIS = re.compile(r"[*`]+")
_LONE_LETTER = re.compile(r"\W*([A-Z])(?=[).:,]|\W*$)")


@dataclass(frozen=True, slots=True)
class Grade:
    """How good an answer is.

    Attributes:
        value: 1 for right, 0 for wrong; F1 of words where the task is answered in free text.
        explanation: What was compared, in one line for people.
        prediction: What was taken from the text as its answer; None where nothing could be.
        is_exact: Whether it equals the gold answer after normalisation.
    """

    value: float
    explanation: str
    prediction: str | None
    is_exact: bool


class Grader(Protocol):
    """Compares a text with the gold answer."""

    @property
    def instruction(self) -> str:
        """What the question has to say about the form of the answer; "" where it says so itself."""
        ...

    @property
    def gold(self) -> str:
        """The gold answer, for people."""
        ...

    def grade(self, text: str) -> Grade:
        """Grade an answer as shown; "" for a run that has none."""
        ...


@dataclass(frozen=True)
class NumberGrader:
    """The answer is a number.

    The number in the stated answer counts, behind the last "=" there; without a statement, the last one of
    all (Wei et al. 2022, "Chain-of-Thought Prompting Elicits Reasoning in Large Language Models", appendix).
    """

    target: float
    instruction = ""

    @property
    def gold(self) -> str:
        """The number, in its shortest form."""
        return str(int(self.target)) if self.target == int(self.target) else repr(self.target)

    def grade(self, text: str) -> Grade:
        """Compare the text's number with the gold one; see the module."""
        number = self._number(text)
        if number is None:
            return Grade(0.0, "The text has no number.", None, False)
        said = f"{number.value:.{number.num_decimals}f}" if abs(number.value) < 1e15 else repr(number.value)
        is_right = self._is_right(number)
        sign = "=" if is_right else "≠"
        return Grade(float(is_right), f"{said} {sign} {self.gold}", said, is_right)

    def _number(self, text: str) -> Number | None:
        stated = stated_answer(text)
        if stated is not None and (found := numbers(stated.rpartition("=")[2]) or numbers(stated)):
            return found[0]
        return next(reversed(numbers(text)), None)

    def _is_right(self, number: Number) -> bool:
        distance = abs(number.value - self.target)
        if distance < TOLERANCE:
            return True
        rounded = 0.5 * 10.0**-number.num_decimals
        return number.num_decimals >= MIN_ROUNDED_DECIMALS and distance <= rounded * (1 + 1e-9)


@dataclass(frozen=True, slots=True)
class Option:
    """One of the answers to choose from.

    Attributes:
        name: As the gold answer has it.
        aliases: Other words for the same.
    """

    name: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChoiceGrader:
    """The answer is one of a few options, named by a letter or by its words.

    Counted is the option that the stated answer names first; without a statement, the one that the text
    begins with; else the last one named in its last line; else the last one named at all.

    Attributes:
        options: All there are.
        right: Names of those that are right, at least one.
        instruction: What the question says about the form of the answer.
    """

    options: tuple[Option, ...]
    right: frozenset[str]
    instruction: str

    @property
    def gold(self) -> str:
        """The right options, joined."""
        return " or ".join(option.name for option in self.options if option.name in self.right)

    def grade(self, text: str) -> Grade:
        """Compare the option the text names with the right ones; see the class."""
        name = self._named(_EMPHASIS.sub("", text[-MAX_READ_CHARS:]).strip())
        if name is None:
            return Grade(0.0, "The text names none of the options.", None, False)
        is_right = name in self.right
        sign = "=" if is_right else "≠"
        return Grade(float(is_right), f"{name} {sign} {self.gold}", name, is_right)

    def _named(self, text: str) -> str | None:
        stated = stated_answer(text)
        if stated is not None and (found := self._mentions(stated)):
            return found[0][1]
        opening = self._mentions(text[:200])
        if opening and not any(char.isalnum() for char in text[: opening[0][0]]):
            return opening[0][1]
        lines = [line for line in text.splitlines() if line.strip()]
        found = (self._mentions(lines[-1]) if lines else []) or self._mentions(text)
        return found[-1][1] if found else None

    def _mentions(self, text: str) -> list[tuple[int, str]]:
        """Return (place, option's name) of every option named in the text, in order."""
        if self._has_letters and (lone := _LONE_LETTER.match(text)) and f"({lone[1]})" in self._names:
            return [(lone.start(1), f"({lone[1]})")]
        return [(found.start(), self._names[found[1].casefold()]) for found in self._pattern.finditer(text)]

    @cached_property
    def _has_letters(self) -> bool:
        return all(re.fullmatch(r"\([A-Z]\)", option.name) for option in self.options)

    @cached_property
    def _names(self) -> dict[str, str]:
        pairs = [(word, option.name) for option in self.options for word in (option.name, *option.aliases)]
        return {word.casefold(): name for word, name in pairs} | {name: name for _, name in pairs}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """The options' words, longest first, on word borders; a number with zeros behind its point, too."""
        words = sorted({word for option in self.options for word in (option.name, *option.aliases)}, key=len)
        joined = "|".join(re.escape(word) for word in reversed(words))
        return re.compile(rf"(?<![\w.])({joined})(?:\.0+)?(?!\w|[.,]\d)", re.IGNORECASE)


@dataclass(frozen=True)
class TextGrader:
    """The answer is a few free words, compared as SQuAD and HotpotQA do: exact match and F1.

    Counted is the stated answer up to its sentence's end, else the text's short answer.

    Attributes:
        golds: Accepted answers, at least one.
    """

    golds: tuple[str, ...]
    instruction = "The final answer is a few words: a name, a date, a number, yes or no."

    @property
    def gold(self) -> str:
        """The accepted answers, joined."""
        return " or ".join(dict.fromkeys(self.golds))

    def grade(self, text: str) -> Grade:
        """Compare the words; see the class."""
        prediction = short_answer(stated_answer(text) or text)
        if not prediction:
            return Grade(0.0, "The text has no words.", None, False)
        value, is_exact = f1(prediction, self.golds), bool(exact_match(prediction, self.golds))
        if not is_exact and not math.isclose(value, 1.0):
            explanation = f"{prediction!r} ≠ {self.gold!r}, F1 {value:.2f}"
        else:
            explanation = f"{prediction!r} = {self.gold!r}"
        return Grade(value, explanation, prediction, is_exact)
