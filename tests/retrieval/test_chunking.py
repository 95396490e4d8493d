"""The splitter's promises, with random text of many scripts and with the real tokenizer."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from localsmith.core.types import Box
from localsmith.retrieval.chunking import ChunkDraft, split
from localsmith.retrieval.loaded import Block, LineBox, LoadedDocument
from localsmith.retrieval.loaders import load_document

TokenSpans = Callable[[str], list[tuple[int, int]]]


def words(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"\S+", text)]


def word_pieces(text: str) -> list[tuple[int, int]]:
    """Three letters a token, like a subword tokenizer; two tokens for what is beyond the basic plane."""
    spans = [match.span() for match in re.finditer(r"\w{1,3}|[^\w\s]", text)]
    return [span for span in spans for _ in range(1 + any(ord(c) > 0xFFFF for c in text[span[0] : span[1]]))]


def nervous(text: str) -> list[tuple[int, int]]:
    """Like `word_pieces`, but a text gives more tokens alone than within a longer one."""
    spans = word_pieces(text)
    return spans + spans[-1:] * 2


@pytest.fixture(scope="session")
def real_spans(embedder_path: Path) -> TokenSpans:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(next(embedder_path.rglob("tokenizer.json"))))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: tokenizer.encode(text, add_special_tokens=False).offsets


_ALPHABET = st.sampled_from(
    list("abcde XYZ.!?\n\t,;0123")
    + list("日本語。！漢字")
    + ["é", "e\u0301", "👩\u200d💻", "🏽", "ß", "ا", "\u00a0"]
)
_TEXTS = st.one_of(
    st.lists(_ALPHABET, min_size=1, max_size=400).map("".join),
    st.text(min_size=1, max_size=300),
    st.text(alphabet="漢字仮名交り文", min_size=50, max_size=500),
    st.lists(
        st.sampled_from(["One two three.", "Alpha beta!", "yes", "A | B: 3\n", "x" * 90]), max_size=60
    ).map(" ".join),
).filter(lambda text: bool(text.strip()))


@st.composite
def documents(draw: st.DrawFn) -> LoadedDocument:
    blocks = []
    for number in range(draw(st.integers(1, 8))):
        text = draw(_TEXTS).strip()
        kind = draw(st.sampled_from(["heading", "paragraph", "paragraph", "list", "table", "code"]))
        level = draw(st.integers(1, 4)) if kind == "heading" else 0
        page = draw(st.sampled_from([None, 1 + number // 3]))
        lines = ()
        if page is not None and draw(st.booleans()):
            lines = (LineBox(0, len(text), Box(page, 0.1, 0.1, 0.9, 0.2)),)
        blocks.append(Block(text, kind, level, page, lines))
    return LoadedDocument("text/plain", tuple(blocks), None)


def check(document: LoadedDocument, drafts: list[ChunkDraft], spans: TokenSpans, limit: int) -> None:
    text = document.text
    covered = 0
    for draft in drafts:
        assert text[draft.start_char : draft.end_char] == draft.text
        assert draft.text == draft.text.strip() != ""
        assert draft.num_tokens == len(spans(draft.text))
        assert draft.num_tokens <= limit or len(draft.text) == 1
        assert not text[covered : draft.start_char].strip(), "text was left out"
        assert draft.end_char > covered, "a chunk added nothing"
        covered = draft.end_char
    assert not text[covered:].strip(), "the end was left out"
    starts = [draft.start_char for draft in drafts]
    assert starts == sorted(starts)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(documents(), st.integers(8, 60), st.integers(0, 7), st.sampled_from([words, word_pieces, nervous]))
def test_chunks_are_exact_complete_in_order_and_never_too_long(
    document: LoadedDocument, limit: int, overlap: int, spans: TokenSpans
) -> None:
    check(document, split(document, spans, limit, overlap), spans, limit)


@pytest.mark.real_model
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(document=documents(), limit=st.integers(8, 60), overlap=st.integers(0, 7))
def test_the_promises_hold_with_the_real_tokenizer(
    real_spans: TokenSpans, document: LoadedDocument, limit: int, overlap: int
) -> None:
    check(document, split(document, real_spans, limit, overlap), real_spans, limit)


@pytest.mark.real_model
def test_a_long_book_is_split_within_seconds(real_spans: TokenSpans, shared_data: Path) -> None:
    article = (shared_data / "documents/more/norwich-city.txt").read_text(encoding="utf-8")
    paragraphs = [line for line in article.splitlines() if line.strip()]
    blocks = tuple(Block(paragraph) for paragraph in paragraphs * (3_200_000 // len(article) + 1))
    document = LoadedDocument("text/plain", blocks, None)
    start = time.perf_counter()
    drafts = split(document, real_spans, 200, 32)
    assert time.perf_counter() - start < 40  # 3 s on a free core
    check(document, drafts, real_spans, 200)


def test_chunks_end_at_sentences_and_repeat_whole_sentences() -> None:
    text = " ".join(f"Sentence number {n} has six words." for n in range(40))
    drafts = split(LoadedDocument("text/plain", (Block(text),), None), words, 30, 12)
    assert all(draft.text.startswith("Sentence") and draft.text.endswith("words.") for draft in drafts)
    for before, after in zip(drafts, drafts[1:], strict=False):
        repeated = before.end_char - after.start_char
        assert 0 < repeated and len(words(text[after.start_char : before.end_char])) <= 12


def test_a_chunk_knows_its_headings_and_keeps_to_its_section() -> None:
    body = "word " * 30
    document = LoadedDocument(
        "text/markdown",
        (
            Block("Guide", "heading", 1),
            Block("Install", "heading", 2),
            Block(body.strip()),
            Block("Use", "heading", 2),
            Block(body.strip()),
            Block("Appendix", "heading", 1),
            Block("Short."),
        ),
        None,
    )
    drafts = split(document, words, 40, 5)
    assert [draft.headings for draft in drafts] == [("Guide", "Install"), ("Guide", "Use"), ("Appendix",)]
    assert drafts[0].text.startswith("Guide\n\nInstall\n\nword")


def test_small_neighbours_share_a_chunk_under_their_common_heading() -> None:
    blocks = [Block("FAQ", "heading", 1), Block("Answers to what people ask most often here.")]
    for n in range(6):
        blocks += [Block(f"Question {n}", "heading", 2), Block("Yes, it is so.")]
    drafts = split(LoadedDocument("text/markdown", tuple(blocks), None), words, 60, 0)
    assert len(drafts) == 1 and drafts[0].headings == ("FAQ",)


def test_table_rows_are_never_cut_and_never_repeated() -> None:
    rows = "\n".join(f"Region: R{n} | Sales: {n} | Profit: {n * 2}" for n in range(50))
    drafts = split(LoadedDocument("text/csv", (Block(rows, "table"),), None), words, 40, 10)
    seen = [line for draft in drafts for line in draft.text.splitlines()]
    assert seen == rows.splitlines()


def test_a_slide_never_shares_a_chunk_with_another() -> None:
    blocks = [Block(f"Point {n}", "heading", 1, n) for n in range(1, 6)]
    drafts = split(LoadedDocument("x", tuple(blocks), 5), words, 50, 0)
    assert [draft.page for draft in drafts] == [1, 2, 3, 4, 5]


def test_no_heading_is_left_at_the_foot_of_a_chunk(shared_data: Path) -> None:
    document = load_document(shared_data / "documents/tracemonkey.pdf", "tracemonkey.pdf")
    titles = {block.text for block in document.blocks if block.kind == "heading"}
    drafts = split(document, word_pieces, 200, 32)
    check(document, drafts, word_pieces, 200)
    stranded = [d for d in drafts if len(d.text.split("\n\n")) > 1 and d.text.split("\n\n")[-1] in titles]
    assert len(stranded) <= 1, stranded


def test_boxes_are_those_of_the_chunks_own_lines(shared_data: Path) -> None:
    document = load_document(shared_data / "documents/tracemonkey.pdf", "tracemonkey.pdf")
    for draft in split(document, word_pieces, 120, 0):
        assert draft.boxes and draft.page == draft.boxes[0].page
        assert len(draft.boxes) <= draft.text.count("\n") + len(draft.text) / 15 + 6


def test_a_family_emoji_and_an_accent_are_not_cut_apart() -> None:
    text = "👩\u200d👩\u200d👧" * 30
    one_each = lambda value: [(n, n + 1) for n in range(len(value))]  # noqa: E731
    for draft in split(LoadedDocument("text/plain", (Block(text),), None), one_each, 12, 0):
        assert not draft.text.startswith("\u200d") and not draft.text.endswith("\u200d")


@pytest.mark.parametrize(("limit", "overlap"), [(0, 0), (10, 10), (10, -1)])
def test_sizes_that_contradict_each_other_are_refused(limit: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        split(LoadedDocument("text/plain", (Block("x"),), None), words, limit, overlap)
