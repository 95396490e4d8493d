from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.agents.answering.rewrite import is_plainly_standalone, rewrite, usable_query
from localsmith.core.types import Message, Question
from localsmith.models.scripted import ScriptedModel

HISTORY = (Message("user", "Who designed the Tay Bridge?"), Message("assistant", "Thomas Bouch [1]."))


@pytest.mark.parametrize(
    ("question", "is_plain"),
    [
        ("When was Thomas Bouch born?", True),
        ("How many passengers died in the 1879 Tay Bridge disaster?", True),
        ("When was he born?", False),
        ("And the Forth Bridge in Scotland?", False),
        ("What about Benjamin Baker's design?", False),
        ("Why?", False),
        ("what happened next", False),
        ("how long is the bridge", False),  # which one?
        ("Wann wurde er in München geboren?", False),  # only English is judged
    ],
)
def test_only_plainly_standalone_questions_skip_the_model(question: str, is_plain: bool) -> None:
    assert is_plainly_standalone(question) is is_plain


@pytest.mark.parametrize(
    ("written", "query"),
    [
        ("When was Thomas Bouch born?", "When was Thomas Bouch born?"),
        (' "When was Thomas Bouch born?"\nBecause', "When was Thomas Bouch born?"),
        ("Rewritten question: When was Thomas Bouch born?", "When was Thomas Bouch born?"),
        ("", "When was he born?"),
        ("???", "When was he born?"),
        ("born " * 200, "When was he born?"),
        ("I cannot help with cooking.", "When was he born?"),
    ],
)
def test_a_useless_rewrite_falls_back_to_the_question(written: str, query: str) -> None:
    assert usable_query(written, "When was he born?") == query


@given(st.text(max_size=200), st.text(max_size=80))
def test_any_model_output_gives_a_query(written: str, question: str) -> None:
    query = usable_query(written, question)
    assert query == question or query.strip()


def test_the_model_sees_the_last_turns_and_the_question() -> None:
    model = ScriptedModel(["When was Thomas Bouch born?"])
    query, usage = rewrite(model, Question("When was he born?", HISTORY))
    assert query == "When was Thomas Bouch born?"
    assert usage.completion_tokens > 0
    prompt = model.prompts[0][-1].content
    assert "User: Who designed the Tay Bridge?\nAssistant: Thomas Bouch" in prompt
    assert "When was he born?" in prompt


def test_a_rewrite_that_ran_out_of_tokens_is_not_used() -> None:
    model = ScriptedModel(["born " * 500])
    assert rewrite(model, Question("When was he born?", HISTORY))[0] == "When was he born?"
