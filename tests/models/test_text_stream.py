"""What reaches the reader is the text up to the first stop text, whole characters only."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from localsmith.models.text_stream import TextStream

TEXT = st.text(alphabet="ab\nQ:é漢🙂", max_size=60)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in zip(edges, edges[1:], strict=False)]


@given(TEXT, st.lists(st.integers(min_value=0, max_value=500), max_size=30))
def test_any_cut_into_tokens_gives_the_text_back(text: str, cuts: list[int]) -> None:
    stream = TextStream()
    shown = [stream.push(piece) for piece in split(text.encode(), cuts)]
    assert "".join(shown) + stream.finish() == text
    assert not any("\ufffd" in piece for piece in shown)


@given(TEXT, st.lists(st.integers(min_value=0, max_value=500), max_size=30), st.lists(TEXT, max_size=3))
def test_nothing_of_a_stop_text_or_after_it_is_ever_shown(
    text: str, cuts: list[int], stops: list[str]
) -> None:
    stream = TextStream(stop=stops)
    shown = "".join(stream.push(piece) for piece in split(text.encode(), cuts))
    shown += stream.finish()
    places = [text.find(stop) for stop in stops if stop and stop in text]
    if not places:
        assert shown == text
        assert not stream.is_stopped
    else:
        assert stream.is_stopped
        assert text.startswith(shown)
        assert not any(stop in shown for stop in stops if stop)


def test_of_two_stop_texts_in_one_token_the_earlier_counts() -> None:
    assert TextStream(stop=("b", "a")).push(b"xyabz") == "xy"


def test_a_broken_character_at_the_end_is_shown_as_a_replacement() -> None:
    stream = TextStream()
    assert stream.push(b"ok\xe6\xbc") == "ok"
    assert stream.finish() == "\ufffd"
