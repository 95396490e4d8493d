from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.agents.reasoning.program import outcome, program_in, runnable
from localsmith.core.types import ProgramResult

CODE = "def solution():\n    return 6 * 7"


@pytest.mark.parametrize(
    "reply",
    [
        f"```python\n{CODE}\n```",
        f"```python\n{CODE}",  # the stop text has taken the last line
        f"```\n{CODE}\n```\nIt returns 42.",
        f"Here it is:\n\n```py\n{CODE}\n```",
        CODE,
        f"Sure, here it is:\n{CODE}",
        f"```python\nprint('first')\n```\n```python\n{CODE}\n```",
    ],
)
def test_the_program_is_cut_out_of_whatever_stands_around_it(reply: str) -> None:
    assert program_in(reply) == CODE


def test_imports_before_the_function_belong_to_it() -> None:
    code = f"import math\nfrom datetime import date\n\n{CODE}"
    assert program_in(f"Well:\n{code}") == code


@pytest.mark.parametrize("reply", ["", "I can't.", "```python\nprint(42)\n```", "define a solution()"])
def test_a_reply_without_the_function_has_no_program(reply: str) -> None:
    assert program_in(reply) is None


def printed(text: str) -> ProgramResult:
    mark = runnable("").partition('"\\n')[2].partition('"')[0]
    return ProgramResult("ok", f"noise\n\n{mark}\n{text}\n")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("42", "42"),
        ("42.0", "42"),
        ("33.333333333333336", "33.333333"),
        ("0.1000000000000001", "0.1"),
        ("1e+22", "1" + "0" * 22),
        ("-2225832.7999999998", "-2225832.8"),
        ("25.05.2031", "25.05.2031"),
        ("True", "True"),
        ("['a', 'b']", "['a', 'b']"),
        ("two\nlines", "two\nlines"),
    ],
)
def test_what_was_returned_is_the_answer(text: str, answer: str) -> None:
    assert outcome(printed(text)).answer == answer


@pytest.mark.parametrize("text", ["None", "nan", "inf", "", "x" * 2000])
def test_what_answers_nothing_is_an_error_in_words(text: str) -> None:
    done = outcome(printed(text))
    assert not done.answer and "solution() returned" in done.error


def test_what_a_program_prints_by_itself_is_not_its_answer() -> None:
    done = outcome(ProgramResult("ok", "17\n"))
    assert not done.answer and done.error


def test_an_error_goes_back_with_its_end() -> None:
    done = outcome(ProgramResult("error", error="x" * 5000 + "\nNameError: name 'y' is not defined"))
    assert done.error.endswith("NameError: name 'y' is not defined") and len(done.error) <= 600
    assert "timeout" in outcome(ProgramResult("timeout")).error


@given(st.text())
def test_no_reply_and_no_output_raises(text: str) -> None:
    program_in(text)
    program_in(f"```python\n{text}\ndef solution():")
    done = outcome(printed(text))
    assert bool(done.answer) != bool(done.error)
