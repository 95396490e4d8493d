"""Untrusted text stays text."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from localsmith.core.types import Chunk, Citation, Passage
from localsmith.ui import words
from localsmith.ui.text import escaped, highlighted, plain, safe_markdown, with_markers
from markdown_it import MarkdownIt

MARKUP = st.lists(
    st.sampled_from(
        ["!", "[", "]", "(", ")", "http://h/a.png", "`", "```", "~~~", "\n", "\n\n", "\\", "<", ">", "a", " ",
         "[a]: http://h/x"]
    ),
    max_size=30,
).map("".join)  # fmt: skip


def citation(number: int, is_supported: bool) -> Citation:
    chunk = Chunk("c", "d", 0, "text", 0, 4, None, (), 1)
    return Citation(number, Passage(chunk, "d.txt", 1, 1.0), "claim", "text", 1.0, is_supported)


def images(markdown: str) -> int:
    tokens = MarkdownIt("commonmark").parse(markdown)
    return sum(child.type == "image" for token in tokens for child in token.children or [])


@given(text=MARKUP | st.text())
def test_no_text_becomes_a_picture(text: str) -> None:
    assert images(safe_markdown(text)) == 0
    assert images(with_markers(text, [citation(1, True)])) == 0


def test_the_picture_check_can_fail() -> None:
    assert images("![a](http://h/a.png)") == 1


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])) | MARKUP)
def test_a_label_shows_the_text_letter_by_letter(text: str) -> None:
    [inline] = [t for t in MarkdownIt("commonmark").parse("x" + plain(text)) if t.type == "inline"]
    shown = "".join(
        child.content if child.type.startswith("text") else f"<{child.type}>"
        for child in inline.children or []
    )
    assert shown == "x" + " ".join(text.split())  # fmt: skip


def test_html_is_escaped() -> None:
    assert escaped("<b onclick='x'>\"&") == "&lt;b onclick=&#x27;x&#x27;&gt;&quot;&amp;"


def test_a_quote_is_marked_across_line_breaks_and_escaped() -> None:
    assert highlighted("a <b\nc> d", "<b c>") == "a <mark>&lt;b\nc&gt;</mark> d"
    assert highlighted("a < b", "not there") == "a &lt; b"
    assert highlighted("a < b", "") == "a &lt; b"


def test_markers_of_real_citations_stand_out_and_others_stay() -> None:
    text = "Yes [1]. No [2]. Code `x[1]` and [3]."
    shown = with_markers(text, [citation(1, True), citation(2, False)])
    assert shown == "Yes :blue-badge[1]. No :orange-badge[2?]. Code `x[1]` and [3]."


def test_two_prices_are_no_formula() -> None:
    assert safe_markdown("$5 or $10, `$1`") == "\\$5 or \\$10, `$1`"


def test_numbers_for_people() -> None:
    assert [words.duration(s) for s in (0.04, 9.96, 59, 60, 125, 3700)] == [
        "0.0 s", "10.0 s", "59 s", "1 min", "2 min 5 s", "1 h 1 min",
    ]  # fmt: skip
    assert [words.size(n) for n in (0, 999, 1500, 200_000_000, 5_000_000_000_000)] == [
        "0 bytes", "999 bytes", "1.5 kB", "200 MB", "5000 GB",
    ]  # fmt: skip
    assert words.count(1, "page") == "1 page" and words.count(1234, "page") == "1,234 pages"


def test_the_welcome_examples_are_about_the_welcome_documents() -> None:
    from localsmith.ui.first_visit import EXAMPLES
    from localsmith.ui.welcome_documents import welcome_files

    text = " ".join(path.read_text() for path in welcome_files()).lower()
    for question in EXAMPLES:
        asked = [w for w in re.findall(r"[a-z]{4,}", question.lower()) if w not in ("what", "does", "which")]
        assert sum(word in text for word in asked) >= len(asked) - 1, question
