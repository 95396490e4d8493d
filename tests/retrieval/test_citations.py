from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.core.types import Chunk, Passage
from localsmith.retrieval.citations import MIN_NEARNESS, check
from localsmith.retrieval.corrections import Corrections
from localsmith.retrieval.markers import MarkerStream, clean, parse, strip_markers
from localsmith.retrieval.support import support

CLAIM = "Paris is the capital of France"
TEXT = "The Broncos won Super Bowl 50. They beat Carolina 24-10 on February 7, 2016."
OTHER = "Paris is the capital of France. About 2,102,650 people live there."

# Text full of what the parser looks at, and any text at all.
MARKUP = st.lists(
    st.sampled_from(list("[]123,9;` \n.a0()") + ["[1]", "[2, 9]", " (1)", "(2).", "```", "passage "]),
    max_size=40,
)
ANY_TEXT = st.one_of(st.text(max_size=120), MARKUP.map("".join))


def passage(text: str, number: int = 1, start: int = 0, name: str = "report.pdf") -> Passage:
    chunk = Chunk(f"c{number}", "d", number, text, start, start + len(text), number, (), len(text) // 4)
    return Passage(chunk, name, number, 1 / number)


PASSAGES = [passage(TEXT, 1, start=1000), passage(OTHER, 2)]


@given(ANY_TEXT)
def test_parsing_never_raises_and_the_pieces_are_the_text(text: str) -> None:
    pieces = parse(text)
    assert "".join(piece.text for piece in pieces) == text
    assert all(piece.text for piece in pieces)


@given(ANY_TEXT, st.integers(0, 3))
def test_a_cleaned_answer_names_only_passages_and_cleaning_it_again_changes_nothing(
    text: str, num: int
) -> None:
    cleaned = clean(text, num).text
    assert all(1 <= number <= num for piece in parse(cleaned) for number in piece.numbers)
    assert (clean(cleaned, num).text, clean(cleaned, num).removed) == (cleaned, ())


@given(ANY_TEXT, st.integers(0, 3), st.data())
def test_what_was_streamed_is_the_cleaned_answer_however_it_was_cut(
    text: str, num: int, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    stream = MarkerStream(num)
    shown = "".join(
        stream.feed(text[start:end]) for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)
    )
    shown += stream.close()
    assert shown == clean(text.strip(), num).text.rstrip()


def test_code_is_streamed_as_written_a_letter_at_a_time() -> None:
    for text in ("use `a[9] + b` here [1]", "```\nb[9]\n``` and [9]", "an odd ` tick [9]\nnext [9] line"):
        stream = MarkerStream(1)
        shown = "".join(stream.feed(letter) for letter in text) + stream.close()
        assert shown == clean(text, 1).text.rstrip()


@given(ANY_TEXT)
def test_checking_never_raises_and_every_quote_is_the_passages_text(text: str) -> None:
    for citation in check(text, PASSAGES).citations:
        chunk = citation.passage.chunk
        offset = chunk.start_char
        assert citation.quote == chunk.text[citation.start_char - offset : citation.end_char - offset]
        assert 0 <= citation.support <= 1


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("Paris [1].", [(1,)]),
        ("Paris [1, 2].", [(1, 2)]),
        ("Paris [1][2].", [(1,), (2,)]),
        ("Paris [ 2 ; 1 ].", [(2, 1)]),
        ("Paris [Passage 2].", [(2,)]),
        ("`a[1]` and ```b[2]```", []),
        ("[a] [] [1.5] [-1]", []),
        ("[0[1]] [[2]1]", []),
    ],
)
def test_every_way_to_write_a_citation_is_read(text: str, numbers: list[tuple[int, ...]]) -> None:
    assert [piece.numbers for piece in parse(text) if piece.numbers] == numbers


def test_code_that_spans_sentences_holds_no_citation() -> None:
    assert check("```\n\n[3]", PASSAGES).text == "```\n\n[3]"
    assert check("```\n\n[1]", PASSAGES).citations == ()


def test_a_number_without_a_passage_is_taken_out_and_noted() -> None:
    checked = check("The Broncos won [1][7].", PASSAGES)
    assert checked.text == "The Broncos won [1]."
    assert any("[7]" in note for note in checked.notes)


def test_a_claim_the_passage_makes_is_supported_and_quoted() -> None:
    (citation,) = check("The Broncos beat Carolina 24-10 [1].", PASSAGES).citations
    assert citation.is_supported
    assert citation.quote == "They beat Carolina 24-10 on February 7, 2016."
    assert citation.claim == "The Broncos beat Carolina 24-10."
    assert citation.start_char == 1000 + TEXT.index("They")


@pytest.mark.parametrize(
    "text",
    [
        "The Broncos beat Carolina 24-12 [1].",  # a wrong number
        "The Broncos beat Denver 24-10 on February 7 [1].",  # a name that is not there
        "The Broncos won Super Bowl 50 [2].",  # the wrong passage
    ],
)
def test_a_claim_the_passage_does_not_make_is_not_supported(text: str) -> None:
    (citation,) = check(text, PASSAGES).citations
    assert not citation.is_supported


def test_a_bare_marker_belongs_to_the_sentence_before_it() -> None:
    (citation,) = check("Paris is the capital of France.\n\n[2]", PASSAGES).citations
    assert citation.claim == "Paris is the capital of France."
    assert citation.is_supported


def test_thousands_and_number_words_are_the_same_number() -> None:
    assert support("2102650 people live there", PASSAGES[1]).is_enough
    assert support("It has six rooms", passage("It has 6 rooms")).is_enough


def test_the_name_of_the_document_counts_as_said() -> None:
    about = passage("The event took place in Santa Clara.", name="Super_Bowl_50.txt")
    assert support("Super Bowl 50 took place in Santa Clara", about).is_enough


def test_an_answer_without_citation_gets_the_passage_that_says_it_and_says_so() -> None:
    checked = check("The Broncos", PASSAGES)
    assert checked.text == "The Broncos [1]"
    assert checked.citations[0].is_attached
    assert checked.notes


def test_an_answer_that_no_passage_supports_gets_no_citation() -> None:
    checked = check("Berlin lies on the Spree.", PASSAGES)
    assert checked.text == "Berlin lies on the Spree."
    assert checked.citations == ()
    assert checked.notes


def test_stripping_leaves_the_words() -> None:
    assert strip_markers("Paris [1], Lyon [2].") == "Paris, Lyon."
    assert not re.search(r"\[", strip_markers("[1] Paris [2, 3]"))


def test_round_brackets_at_the_end_of_a_line_are_read_as_a_citation_and_years_are_not() -> None:
    assert clean("Sydney (1)", 3).text == "Sydney [1]"
    assert clean("Sydney (1).\nBorn there (2)", 3).text == "Sydney [1].\nBorn there [2]"
    assert clean("Written in (19) and f (1) more", 3).text == "Written in (19) and f (1) more"
    assert clean("Outside (7)", 3).text == "Outside (7)"
    assert clean("Sydney (1)[9]", 3).text == "Sydney [1]"
    assert clean("Sydney (1).[9]\nBorn (2) [7]", 3).text == "Sydney [1].\nBorn [2]"
    assert clean("f (1)[2] and more", 3).text == "f (1)[2] and more"


def test_a_wrong_number_is_corrected_to_the_passage_that_says_it() -> None:
    wrong = next(n for n in (1, 2) if not support(CLAIM, PASSAGES[n - 1]).is_enough)
    right = 3 - wrong
    stream = MarkerStream(2, Corrections(PASSAGES))
    shown = stream.feed(f"{CLAIM} [{wrong}].") + stream.close()
    assert shown == f"{CLAIM} [{right}]."
    assert stream.corrected == (True,)
    checked = check(shown, PASSAGES, corrected=stream.corrected)
    assert [(c.number, c.is_supported, c.is_attached) for c in checked.citations] == [(right, True, True)]
    assert checked.notes == (f"[{right}] was named in place of a passage that doesn't say it.",)


def test_only_the_marker_that_was_corrected_counts_as_attached() -> None:
    stream = MarkerStream(2, Corrections(PASSAGES))
    shown = stream.feed(f"{CLAIM} [2]. About 2,102,650 people live there [1].") + stream.close()
    assert shown == f"{CLAIM} [2]. About 2,102,650 people live there [2]."
    citations = check(shown, PASSAGES, corrected=stream.corrected).citations
    assert [(c.number, c.is_attached) for c in citations] == [(2, False), (2, True)]


def test_a_number_the_model_wrote_beside_a_corrected_one_is_its_own() -> None:
    for written in ("[1, 2]", "[2, 1]"):
        assert clean(f"{CLAIM} {written}", 2, Corrections(PASSAGES)).corrected == (False,)
    assert clean(f"{CLAIM} [1]", 2, Corrections(PASSAGES)).corrected == (True,)


@given(ANY_TEXT, st.integers(0, 3), st.integers(1, 3))
def test_every_number_shown_has_one_flag(text: str, num: int, to: int) -> None:
    cleaned = clean(text, num, lambda claim, number: min(to, num))
    shown = [number for piece in parse(cleaned.text) for number in piece.numbers]
    assert len(cleaned.corrected) == len(shown)


# -- answers without a citation that no passage says in its words

OWN_WORDS = "The winners of the final were the Broncos, who took the trophy home"


def near(*cosines: float) -> object:
    return lambda claim: list(cosines)


def test_an_answer_in_its_own_words_gets_the_passage_nearest_in_meaning_and_says_so() -> None:
    assert not any(support(OWN_WORDS, passage).is_enough for passage in PASSAGES)
    checked = check(OWN_WORDS, PASSAGES, nearness=near(0.7, 0.2))  # type: ignore[arg-type]
    assert checked.text == f"{OWN_WORDS} [1]"
    (citation,) = checked.citations
    assert (citation.is_attached, citation.is_supported, citation.similarity) == (True, False, 0.7)
    assert 0 < citation.support < 0.6
    assert citation.quote == "The Broncos won Super Bowl 50."
    assert any("nearest to it in meaning" in note for note in checked.notes)


@pytest.mark.parametrize(
    ("text", "cosines"),
    [
        (OWN_WORDS, (MIN_NEARNESS - 0.01, 0.2)),  # not near enough
        (OWN_WORDS, ()),  # the search doesn't know
        (OWN_WORDS + " in 2,102,650 ways", (0.9, 0.2)),  # a number of another passage
        ("Their triumph", (0.9, 0.2)),  # so short that only the question is near
    ],
)
def test_nothing_is_cited_for_what_is_far_off_or_has_other_numbers(
    text: str, cosines: tuple[float, ...]
) -> None:
    checked = check(text, PASSAGES, nearness=near(*cosines))  # type: ignore[arg-type]
    assert (checked.text, checked.citations) == (text, ())


def test_the_search_is_not_asked_where_words_suffice() -> None:
    def unexpected(claim: str) -> list[float]:
        raise AssertionError(claim)

    for text in ("The Broncos won Super Bowl 50", "The Broncos won [1]."):
        assert check(text, PASSAGES, nearness=unexpected).citations[0].similarity is None
