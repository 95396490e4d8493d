from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.core.sentences import sentence_spans


@given(st.text(max_size=200))
def test_sentences_hold_every_character_that_is_not_white_space_once(text: str) -> None:
    spans = sentence_spans(text)
    assert all(start < end for start, end in spans)
    assert all(left[1] <= right[0] for left, right in zip(spans, spans[1:], strict=False))
    outside = set(range(len(text))) - {i for start, end in spans for i in range(start, end)}
    assert all(text[i].isspace() for i in outside)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        (
            "Dr. Li paid $1.5 million. Then J. R. Smith left.",
            ["Dr. Li paid $1.5 million.", "Then J. R. Smith left."],
        ),
        ("See e.g. the U.S. Army. Done.", ["See e.g. the U.S. Army.", "Done."]),
        ("你好。再见！", ["你好。", "再见！"]),
        ("هل هذا صحيح؟ نعم.", ["هل هذا صحيح؟", "نعم."]),
        ("Paris. [1] Lyon [2].", ["Paris. [1]", "Lyon [2]."]),
        ("A title\n\nText\n- one\n- two", ["A title", "Text", "- one", "- two"]),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, sentences: list[str]) -> None:
    assert [text[start:end] for start, end in sentence_spans(text)] == sentences
