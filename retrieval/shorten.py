"""Shortens a passage at sentence edges, keeping what the question asks for.

Place in the data's way: the budget calls it for the passage that does not fit whole.

Example:
    growing_excerpts(passage, "Who won?")   # one sentence, two, three ... the whole passage
"""

from __future__ import annotations

from ..core.sentences import sentence_spans
from ..core.types import Passage
from .redundancy import excerpt
from .words import content_words

# A single sentence longer than this may also be cut between words, for it may be a table or a text in which
# no sentence edge was found.
MAX_SENTENCE_CHARS = 400


def growing_excerpts(passage: Passage, question: str) -> list[Passage]:
    """Return ever longer excerpts around the sentence that shares most words with the question.

    Args:
        passage: What to shorten.
        question: By which the first sentence is chosen; the earliest of equals.

    Returns:
        Excerpts of adjacent sentences, each one sentence longer than the one before; the last is the passage.
    """
    text = passage.chunk.text
    spans = _pieces(text)
    if len(spans) < 2:
        return [passage]
    asked = content_words(question)
    shared = [len(asked & content_words(text[start:end])) for start, end in spans]
    first = last = shared.index(max(shared))
    excerpts = []
    while last - first + 1 < len(spans):
        excerpts.append(excerpt(passage, spans[first][0], spans[last][1]))
        # What follows a sentence explains it more often than what precedes it.
        if last + 1 < len(spans) and (
            first == 0 or last - first < 2 or shared[last + 1] >= shared[first - 1]
        ):
            last += 1
        else:
            first -= 1
    return [*excerpts, passage]


def _pieces(text: str) -> list[tuple[int, int]]:
    pieces = []
    for start, end in sentence_spans(text):
        while end - start > MAX_SENTENCE_CHARS:
            middle = text.rfind(" ", start + 1, start + MAX_SENTENCE_CHARS)
            middle = middle if middle > start else start + MAX_SENTENCE_CHARS
            pieces.append((start, middle))
            start = middle
        pieces.append((start, end))
    return pieces
