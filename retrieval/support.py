"""How far a passage says what a claim says, by the words they share.

Place in the data's way: a sentence of an answer and a passage -> `support` -> whether a citation holds, which
sentence it quotes, and which of several passages is meant. Lexical on purpose: it costs microseconds, and
anyone can see in the two texts why it decided so. It sees words, not truth. Measured in
docs/decisions/0006-budget-and-citations.md.

Example:
    found = support("Paris is the capital of France", passage)
    passage.chunk.text[found.start : found.end]
"""

from __future__ import annotations

from dataclasses import dataclass

from ..core.sentences import sentence_spans
from ..core.types import Passage
from .words import content_words, names, numbers

# Share of a claim's content words that its passage must hold.
MIN_SUPPORT = 0.6


@dataclass(frozen=True, slots=True)
class Support:
    """How far a passage says what a claim says.

    Attributes:
        share: Share of the claim's content words found in the passage, 0 to 1; 0 for a claim without any.
        is_enough: Whether the share suffices and every number and name of the claim is in the passage.
        start: First character of the best sentence in the passage's text.
        end: One past its last character.
    """

    share: float
    is_enough: bool
    start: int
    end: int


def support(claim: str, passage: Passage, question: str = "") -> Support:
    """Measure how far a passage says what a claim says.

    The document's name and headings count as part of the passage, for a text seldom repeats what it is about.

    Args:
        claim: A sentence, without markers.
        passage: What is cited for it.
        question: Its words choose between equally good sentences.

    Returns:
        The share of words found, the verdict and the best sentence.
    """
    chunk = passage.chunk
    claimed = content_words(claim)
    said = said_words(passage)
    share = len(claimed & said) / len(claimed) if claimed else 0.0
    has_facts = (numbers(claim) | names(claim)) <= said
    start, end = _best_sentence(chunk.text, claimed, content_words(question))
    return Support(share, share >= MIN_SUPPORT and has_facts, start, end)


def said_words(passage: Passage) -> set[str]:
    """Return the stems of the content words of a passage, its document's name and its headings."""
    chunk = passage.chunk
    around = " ".join([passage.document_name, *chunk.headings]).replace("_", " ")
    return content_words(chunk.text) | content_words(around)


def _best_sentence(text: str, claimed: set[str], asked: set[str]) -> tuple[int, int]:
    best, best_score = (0, len(text)), -1.0
    for start, end in sentence_spans(text):
        words = content_words(text[start:end])
        score = len(words & claimed) + 0.5 * len(words & (asked - claimed))
        if score > best_score:
            best, best_score = (start, end), score
    return best
