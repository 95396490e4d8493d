from __future__ import annotations

import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.agents.reasoning.extraction import AnswerFormat, comparable, final_answer, number_of

FORMS: tuple[AnswerFormat, ...] = ("auto", "number", "choice", "yes_no", "text")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("3 + 4 = 7. The answer is 7.", "7"),
        ("The answer is 5. Wait, no. The answer is 6.", "6"),
        ("**The answer is $1,005.50**.", "$1,005.50"),
        ("The final answer is: 12 apples.\n\nI hope this helps with 3 things!", "12 apples"),
        ("The answer to the question is 42.", "42"),
        ("so 20 - 2\n#### 1,018", "1,018"),
        ("Thus \\boxed{\\frac{3}{4}} of it.", "3/4"),
        ("The answer is \\(x = 5\\).", "5"),
        ("The answer is 15 - 3 = 12.", "12"),
        ("Answer: (B) Rome", "(B) Rome"),
        ("The answer is Dr. Smith. He is a doctor.", "Dr. Smith"),
        ("First 12, then 13 apples.", "13"),
        ("It fell to −5 degrees", "-5"),
        ("I do not know.", None),
        ("The answer is", None),
        ("", None),
    ],
)
def test_the_answer_is_what_the_text_says_it_is_and_else_its_last_number(
    text: str, answer: str | None
) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("form", "text", "answer"),
    [
        ("number", "The answer is 3 apples for 2 dollars.", "3"),
        ("number", "She ate 3. The answer is unknown.", "3"),
        ("choice", "The answer is (C).", "C"),
        ("choice", "The answer is B. Because it is.", "B"),
        ("choice", "(A) is wrong, so it must be (D)", "D"),
        ("choice", "A dog is no choice", None),
        ("yes_no", "So the answer is no, it did not.", "no"),
        ("yes_no", "This is plausible. True", "yes"),
        ("yes_no", "Nobody knows", None),
        ("text", "The answer is the Tay Bridge, in Scotland.", "the Tay Bridge, in Scotland"),
        ("text", "12 and 13", None),
    ],
)
def test_a_format_finds_only_answers_of_its_kind(form: AnswerFormat, text: str, answer: str | None) -> None:
    assert final_answer(text, form) == answer


@pytest.mark.parametrize(
    "same",
    [
        ("18", "18.0", "$18", "(18)", "($18)", "18.00 dollars", " 18. ", "**18**", "18 km/h"),
        ("1018", "1,018", "$1,018.00", "1018 apples left over"),
        ("0.75", "3/4", ".75", "0.750", "6/8"),
        ("-5", "−5", "-$5", "$-5"),
        ("1.5", "1 1/2", "3/2 cups"),
        ("25", "25%", "25 percent"),
        ("(B)", "b", "(B) Rome", "B."),
        ("yes", "Yes.", "True", "Yes, it did"),
        ("The Tay Bridge", "the tay  bridge."),
    ],
)
def test_answers_that_mean_the_same_compare_equal(same: tuple[str, ...]) -> None:
    assert len({comparable(answer) for answer in same}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("18", "81"),
        ("1.5", "15"),
        ("1/3", "0.33"),
        ("3 dogs and 2 cats", "3 dogs"),
        ("(A)", "(B)"),
        ("-5", "5"),
    ],
)
def test_answers_that_differ_compare_unequal(one: str, other: str) -> None:
    assert comparable(one) != comparable(other)


@pytest.mark.parametrize(
    "text", ["1e400", "1/0", "9" * 5000, "12/25/2020", "3 dogs and 2 cats", "+", "²", "1,00"]
)
def test_what_is_no_number_is_none(text: str) -> None:
    assert number_of(text) is None


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=4))
def test_every_way_to_write_a_number_gives_the_same(number: Decimal) -> None:
    plain = number_of(f"{number:f}")
    assert plain is not None and Decimal(plain) == number
    assert number_of(f"{number:,f}") == number_of(f"${number:f}0 in all") == plain


@given(
    st.text()
    | st.lists(
        st.sampled_from(
            [
                "the answer is",
                "####",
                "\\boxed{",
                "}",
                "\\frac{",
                "1",
                ",",
                ".",
                "/",
                "-",
                "e9",
                " ",
                "\n",
                "(A)",
                "$",
                "²",
            ]
        )
    ).map("".join)
)
def test_no_text_raises(text: str) -> None:
    for form in FORMS:
        answer = final_answer(text, form)
        assert answer is None or answer.strip()
        assert isinstance(comparable(text, form), str)


@pytest.mark.parametrize(
    "piece", ["1,111", "answer ", "the answer is ", "\\boxed{", "1/", "9", "a-", "= ", "1 ", "(A"]
)
def test_long_texts_take_no_long_time(piece: str) -> None:
    begun = time.monotonic()
    for form in FORMS:
        final_answer(piece * 20_000, form)
        comparable(piece * 20_000, form)
    assert time.monotonic() - begun < 3
