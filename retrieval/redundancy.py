"""Leaves out of a ranking what says the same again.

Place in the data's way: the ranked passages of a search -> here -> the budget. Chunks overlap by design, and
documents repeat themselves; a small prompt has no room for either.

Example:
    drop_redundant(passages)    # the same order, without repetitions
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..core.types import Passage
from .words import content_words

# Two chunks of one document that share half of the shorter one say the same.
MAX_OVERLAP_SHARE = 0.5
# Jaccard index of the content words from which two passages count as one; 0.85 lets tables whose rows differ
# in a few numbers stay apart and catches copies with another header line.
MAX_JACCARD = 0.85
MIN_WORDS = 8


def drop_redundant(passages: Sequence[Passage]) -> list[Passage]:
    """Return the passages, best first, without what a better one already says.

    A passage that overlaps a better one by a little, as neighbouring chunks do, loses the shared characters.
    """
    kept: list[Passage] = []
    words: list[set[str]] = []
    for passage in passages:
        if any(_is_mostly_inside(passage, better) for better in kept):
            continue
        own = content_words(passage.chunk.text)
        if any(_is_copy(own, other) for other in words):
            continue
        kept.append(_without_overlap(passage, kept))
        words.append(own)
    return kept


def excerpt(passage: Passage, start: int, end: int) -> Passage:
    """Return the passage with its text cut to `text[start:end]`, document offsets kept true."""
    chunk = passage.chunk
    piece = chunk.text[start:end]
    first = start + len(piece) - len(piece.lstrip())
    piece = piece.strip()
    return replace(
        passage,
        chunk=replace(
            chunk,
            text=piece,
            start_char=chunk.start_char + first,
            end_char=chunk.start_char + first + len(piece),
            num_tokens=max(1, round(chunk.num_tokens * len(piece) / max(1, len(chunk.text)))),
        ),
    )


def _is_mostly_inside(passage: Passage, better: Passage) -> bool:
    one, two = passage.chunk, better.chunk
    if one.document_id != two.document_id:
        return False
    shared = min(one.end_char, two.end_char) - max(one.start_char, two.start_char)
    shorter = max(1, min(one.end_char - one.start_char, two.end_char - two.start_char))
    return shared >= MAX_OVERLAP_SHARE * shorter


def _is_copy(one: set[str], two: set[str]) -> bool:
    if min(len(one), len(two)) < MIN_WORDS:
        return False
    return len(one & two) >= MAX_JACCARD * len(one | two)


def _without_overlap(passage: Passage, kept: Sequence[Passage]) -> Passage:
    chunk = passage.chunk
    start, end = chunk.start_char, chunk.end_char
    for better in kept:
        other = better.chunk
        if other.document_id != chunk.document_id:
            continue
        if other.start_char <= start < other.end_char:
            start = other.end_char
        if other.start_char < end <= other.end_char:
            end = other.start_char
    if (start, end) == (chunk.start_char, chunk.end_char) or not chunk.text[
        start - chunk.start_char : end - chunk.start_char
    ].strip():
        return passage
    return excerpt(passage, start - chunk.start_char, end - chunk.start_char)
