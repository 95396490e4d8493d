from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.evaluation.final_answers import MAX_READ_CHARS, numbers, stated_answer
from localsmith.evaluation.grading import ChoiceGrader, Grader, NumberGrader, Option, TextGrader
from localsmith.evaluation.tasks import LETTER_INSTRUCTION, VERDICTS, YES_NO

LETTERS = ChoiceGrader(
    (Option("(A)", ("Paris",)), Option("(B)", ("Rome",)), Option("(C)", ("New Rome",))),
    frozenset({"(B)"}),
    LETTER_INSTRUCTION,
)
YES = ChoiceGrader(YES_NO, frozenset({"yes"}), "")
COUNTS = ChoiceGrader(tuple(map(Option, ("0", "zero", "1", "one", "10"))), frozenset({"1", "one"}), "")
CLAIM = ChoiceGrader(VERDICTS, frozenset({"NOT ENOUGH INFO"}), "")
TEXT = TextGrader(("Denver Broncos", "the Broncos of Denver"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("6*3 = 18. The answer is 18.", "18."),
        ("The answer is 4.\nNo: the answer is **5**", "5"),
        ("**Answer:** 42", "42"),
        ("**Final Answer**: 42", "42"),
        ("So the final answer would be: 7", "7"),
        ("The answer is:\n\n  $12", "$12"),
        ("Steps.\n#### 1,024", "1,024"),
        (r"Thus \boxed{\text{B}} follows", "B"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        ("I looked for the answer in vain", None),
        ("", None),
        ("Answer:", None),
    ],
)
def test_the_last_statement_of_an_answer_is_found_in_every_usual_form(text: str, said: str | None) -> None:
    assert stated_answer(text) == said


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,234.50 of 3/4", [1234.5, 0.75]),
        ("-3, −4, $5, $-6, -$7", [-3, -4, 5, -6, -7]),
        ("10-5", [10, 5]),
        (".5 and 2e6 and 1e999", [0.5, 2_000_000]),
        ("page 3.", [3]),
        ("1/0", []),
        (r"\frac{3}{4} and 1{,}000", [0.75, 1000]),
        ("version 1.2.3", [1.2, 3]),
        ("none", []),
    ],
)
def test_numbers_are_read_as_people_write_them(text: str, values: list[float]) -> None:
    assert [number.value for number in numbers(text)] == pytest.approx(values)


@pytest.mark.parametrize(
    ("target", "text", "is_right"),
    [
        (160, "She needs 160 minutes.", True),
        (160, "160", True),
        (160, "First 120, then 40 more. The answer is 160 minutes, not 40.", True),
        (160, "The answer is 4 * 40 = 160.", True),
        (160, "The answer is 40 = 160 / 4", False),
        (160, "160 minutes, of which 20 are lost", False),  # without a statement, the last number counts
        (5, "The total is 5 [2].", True),  # a citation is no number
        (2, "The total is 5 [2].", False),
        (18, "#### 18", True),
        (18, r"\[ 9 \times 2 = \boxed{18} \]", True),
        (1386.6666666667, "The answer is 1386.67", True),  # rounded to cents
        (1386.6666666667, "The answer is 1387", False),
        (1386.6666666667, "The answer is 1386.7", False),
        (45, "The answer is 45.004", False),
        (45, "The answer is 45.00", True),
        (51196733.33333333, "51196733.333333336", True),
        (51196733.33333333, "51196734", False),
        (-5218728.25, "-5218728.25", True),
        (-5218728.25, "5218728.25", False),
        (7, "The answer is seven", False),
        (7, "", False),
    ],
)
def test_numbers_are_compared_as_numbers(target: float, text: str, is_right: bool) -> None:
    grade = NumberGrader(target).grade(text)
    assert grade.value == float(is_right), grade
    assert grade.is_exact is is_right


@pytest.mark.parametrize(
    ("grader", "text", "prediction"),
    [
        (LETTERS, "(B)", "(B)"),
        (LETTERS, "B", "(B)"),
        (LETTERS, "B) Rome", "(B)"),
        (LETTERS, "**B.**", "(B)"),
        (LETTERS, "Not (A), so the answer is (B).", "(B)"),
        (LETTERS, "The answer is Rome.", "(B)"),
        (LETTERS, "The answer is New Rome.", "(C)"),  # the longest option that stands there
        (LETTERS, "A capital is asked for. It is Rome, not Paris.\nSo it is Rome.", "(B)"),
        (LETTERS, "I do not know", None),
        (LETTERS, "The answer is (D).", None),
        (YES, "Yes. There is no doubt.", "yes"),
        (YES, "**No**, for yes would be wrong.", "no"),
        (YES, "It is plausible. The answer is true.", "yes"),
        (YES, "Nobody knows yesterday's noise.", None),
        (COUNTS, "There is 1 pen.", "1"),
        (COUNTS, "1.0", "1"),
        (COUNTS, "The answer is 10.", "10"),
        (COUNTS, "1,000 and 1.5", None),
        (CLAIM, "The answer is NOT ENOUGH INFO", "NOT ENOUGH INFO"),
        (CLAIM, "There is not enough information to tell.", "NOT ENOUGH INFO"),
        (CLAIM, "It is REFUTED by the passage.", "REFUTES"),
    ],
)
def test_the_option_a_text_names_is_found(grader: ChoiceGrader, text: str, prediction: str | None) -> None:
    grade = grader.grade(text)
    assert grade.prediction == prediction
    assert grade.is_exact == (prediction in grader.right)
    assert grade.value == float(grade.is_exact)


def test_several_options_may_be_right() -> None:
    assert [COUNTS.grade(text).is_exact for text in ("1", "one", "zero")] == [True, True, False]
    assert COUNTS.gold == "1 or one"


@pytest.mark.parametrize(
    ("text", "value", "is_exact"),
    [
        ("The Denver Broncos [1].", 1.0, True),
        ("I read two passages.\nThe answer is the Denver Broncos.", 1.0, True),
        ("The Broncos", 2 / 3, False),
        ("Carolina", 0.0, False),
        ("", 0.0, False),
    ],
)
def test_free_words_are_compared_by_f1_and_exact_match(text: str, value: float, is_exact: bool) -> None:
    grade = TEXT.grade(text)
    assert grade.value == pytest.approx(value)
    assert grade.is_exact is is_exact


@pytest.mark.parametrize(
    "grader", [NumberGrader(3), LETTERS, YES, COUNTS, CLAIM, TEXT], ids=lambda grader: type(grader).__name__
)
@given(text=st.text() | st.text(alphabet="0123456789.,-+/eE$(){}ABC \n#*answer is:\\boxed"))
def test_no_text_breaks_a_grader(grader: Grader, text: str) -> None:
    grade = grader.grade(text)
    assert 0 <= grade.value <= 1
    assert grade.explanation
    if grade.prediction is None:
        assert grade.value == 0 and not grade.is_exact


def test_only_the_end_of_an_endless_answer_is_read() -> None:
    text = "The answer is 5. " + "1 " * MAX_READ_CHARS + "The answer is 7."
    assert NumberGrader(7).grade(text).is_exact
    assert NumberGrader(3).grade("9" * 100_000).value == 0
