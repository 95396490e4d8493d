r"""The final answer in what a model wrote, and the form in which answers can be compared.

Place in the data's way: `cot.py` cuts the answer out of each sample's reasoning with `final_answer` and votes
over `comparable` forms; `pal.py` does the same with what a program printed. Nothing here raises on any text.

Where an answer is looked for, first to last: "The answer is X" (Wei et al. 2022, "Chain-of-Thought Prompting
Elicits Reasoning in Large Language Models", appendix G), `\boxed{X}`, `#### X` (GSM8K's own files), a line
"Answer: X"; then, by format, the last number, choice, yes or no.

Example:
    >>> final_answer("3 boxes of 6 make 18. The answer is 1,018.00 dollars.")
    '1,018.00 dollars'
    >>> comparable("$1,018.00"), comparable("1018 dollars"), comparable("3/4"), comparable("(B) Rome")
    ('1018', '1018', '0.75', 'b')
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Literal, TypeAlias

from ...core.sentences import sentence_spans

AnswerFormat: TypeAlias = Literal["auto", "number", "choice", "yes_no", "text"]

# Longer than any answer that can be voted on; what follows it is not looked at.
MAX_ANSWER_CHARS = 400
# Digits beyond this are no number a person asked for; Python's own limit on them is an exception.
MAX_NUMBER_CHARS = 300
# Exponents beyond a float's would make numbers of millions of digits.
MAX_EXPONENT = 308

_MINUS = str.maketrans({"−": "-", "–": "-", "\u00a0": " ", "\u202f": " "})
_NUMBER = r"(?<![\w/.])[-+]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+|(?<=\d))(?:[eE][-+]?\d{1,3}(?!\w))?"
_QUANTITY = re.compile(rf"({_NUMBER})(?:\s*/\s*(\d+)(?![\d/]))?")
_MIXED = re.compile(r"([-+]?\d+)\s+(\d+)\s*/\s*(\d+)(?![\d/])")
_UNIT_AFTER = re.compile(r"\s*%?\s*(?:[a-z°]+[a-z0-9²³/.'-]*(?:\s+|$)){0,4}\.?", re.IGNORECASE)
_CURRENCY = "$€£¥₹ "
_CHOICE = re.compile(r"\(([A-Z])\)|^([A-Z])(?=[).:]|\s*$)")
_CHOICE_ANYWHERE = re.compile(r"\(([A-Z])\)")
_YES_NO = re.compile(r"\b(yes|no|true|false)\b", re.IGNORECASE)
_SAYS = re.compile(r"\banswer\b[^.:!?\n]{0,80}?(?:\bis\b\s*:?|:)", re.IGNORECASE)
_EQUALS = re.compile(r"=\s*(?=[-+$€£¥₹]?\s*\.?\d[^=]*$)")
_MARKUP = "*_`~\"'“”‘’ \t"


def final_answer(text: str, form: AnswerFormat = "auto") -> str | None:
    """Return the answer as the model wrote it, or None where there is none.

    Args:
        text: The model's words.
        form: What kind of answer is asked for; "auto" where that isn't known, which takes what is said to be
            the answer and else the last number.
    """
    stated = stated_answer(text)
    if form == "text" or (form == "auto" and stated):
        return stated
    in_statement = _of_form(stated, form, is_first=True) if stated else None
    return in_statement or _of_form(text, form, is_first=False)


def comparable(answer: str, form: AnswerFormat = "auto") -> str:
    """Return the form in which two answers that mean the same are equal: votes are counted in it."""
    answer = answer.translate(_MINUS).strip(_MARKUP)
    if form in ("auto", "choice") and (found := _CHOICE.search(answer)):
        return (found[1] or found[2]).lower()
    if form in ("auto", "yes_no") and (said := _YES_NO.match(answer)):
        return _yes_or_no(said[1])
    if form in ("auto", "number") and (number := number_of(answer)) is not None:
        return number
    return " ".join(answer.casefold().strip(" .,;:!?").split())


def number_of(text: str, num_decimals: int | None = None) -> str | None:
    """Return the number that a text consists of, as digits, or None where it is none or has other words.

    "$1,234.50" gives "1234.5", "3/4" gives "0.75", "1 1/2 cups" gives "1.5", "25%" gives "25", "1/3" stays
    "1/3". A unit of up to four words may follow.

    Args:
        text: The text.
        num_decimals: Digits kept behind the point; None for all.
    """
    text = text.translate(_MINUS).strip(_MARKUP).replace("\\$", "$").replace("\\%", "%")
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1].strip()
    negative = text.startswith("-") and text[1:2] in _CURRENCY
    text = text[1:].lstrip(_CURRENCY) if negative else text.lstrip(_CURRENCY)
    value, end = _leading_number(text)
    if value is None or len(text) > MAX_ANSWER_CHARS or not _UNIT_AFTER.fullmatch(text, end):
        return None
    value = -value if negative else value
    return _written(value if num_decimals is None else round(value, num_decimals))


def _leading_number(text: str) -> tuple[Fraction | None, int]:
    """Return the number at the text's beginning, and where it ends."""
    if (mixed := _MIXED.match(text)) and mixed.end() < MAX_NUMBER_CHARS and int(mixed[3]):
        whole, part = int(mixed[1]), Fraction(int(mixed[2]), int(mixed[3]))
        return Fraction(whole) + (-part if mixed[1].startswith("-") else part), mixed.end()
    found = _QUANTITY.match(text)
    if found is None or not found[1].strip("+-") or found.end() > MAX_NUMBER_CHARS:
        return None, 0
    mantissa, _, exponent = found[1].replace(",", "").lower().partition("e")
    if abs(int(exponent or 0)) > MAX_EXPONENT:
        return None, 0
    value = Fraction(mantissa) * Fraction(10) ** int(exponent or 0)
    if found[2] is None or not int(found[2]):
        return value, found.end(1)
    return value / int(found[2]), found.end()


def _written(value: Fraction) -> str:
    """Write a number in one way: decimals where they end, without zeros at their end; else a fraction."""
    rest, num_twos, num_fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest, num_twos = rest // 2, num_twos + 1
    while rest % 5 == 0:
        rest, num_fives = rest // 5, num_fives + 1
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    places = max(num_twos, num_fives)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    return sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)


def stated_answer(text: str) -> str | None:
    """Return what the text says is the answer, the last of several; None where it doesn't say."""
    if boxed := _boxed(text):
        return boxed
    lines = text[-20 * MAX_ANSWER_CHARS :].splitlines()
    for line in reversed(lines):
        _, marks, after = line.rpartition("####")
        for said in [after] * bool(marks) + [line[found.end() :] for found in _SAYS.finditer(line)][::-1]:
            if cleaned := _clean(said):
                return cleaned
    return None


def _boxed(text: str) -> str | None:
    r"""Return what the last \boxed{} holds, braces within it included."""
    begin = text.rfind("\\boxed{")
    if begin < 0:
        return None
    depth = 0
    for place in range(begin + len("\\boxed"), min(len(text), begin + MAX_ANSWER_CHARS)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return _clean(text[begin + len("\\boxed{") : place])
    return None


def _clean(said: str) -> str | None:
    """Return a statement up to its sentence's end, without markup."""
    said = said[:MAX_ANSWER_CHARS].replace("\\(", "").replace("\\)", "").replace("\\$", "$")
    said = re.sub(r"\\text\{([^{}]*)\}", r"\1", said)
    said = re.sub(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}", r"\1/\2", said)
    said = said.strip(_MARKUP + ":")
    if len(said) > 1 and said[0] == said[-1] == "$":
        said = said[1:-1]
    for start, end in sentence_spans(said)[:1]:
        said = said[start:end].rstrip(".!?")
    if equals := _EQUALS.search(said):
        said = said[equals.end() :]
    return said.strip(_MARKUP + ":,;") or None


def _of_form(text: str, form: AnswerFormat, *, is_first: bool) -> str | None:
    """Return the first or the last number, choice, yes or no of a text."""
    text = text.translate(_MINUS)[-20 * MAX_ANSWER_CHARS :]
    if form == "choice":
        if is_first and (found := _CHOICE.search(text)):
            return found[1] or found[2]
        choices = _CHOICE_ANYWHERE.findall(text)
    elif form == "yes_no":
        choices = [_yes_or_no(said) for said in _YES_NO.findall(text)]
    else:
        choices = [found[0] for found in _QUANTITY.finditer(text) if found[1].strip("+-")]
    return None if not choices else choices[0 if is_first else -1]


def _yes_or_no(said: str) -> str:
    return {"true": "yes", "false": "no"}.get(said.lower(), said.lower())
