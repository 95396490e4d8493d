"""Runs of five words, the measure of how much of two texts is the same.

Place in the data's way: a row's text -> its set of word 5-grams -> exact Jaccard similarity, and the hashes
that `near_duplicates` makes its signatures of.

Source: Broder 1997, "On the resemblance and containment of documents" (shingles, resemblance).

Example:
    >>> jaccard(shingles("the cat sat on the mat"), shingles("The cat sat on the mat!"))
    1.0
"""

from __future__ import annotations

import re

from .rows import TrainingRow

NUM_WORDS = 5
# Chinese characters and Japanese kana count as words of their own: such text has no spaces between words.
# Thai, Lao and Khmer have none either; a phrase is taken as a word there, so only whole phrases count as the
# same.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\W_]+")


def words(text: str) -> list[str]:
    """Return the text's words in order, without case and punctuation."""
    return _WORD.findall(text.casefold())


def shingles(text: str) -> frozenset[str]:
    """Return the text's word 5-grams; of a shorter text all its words as one, of one without words itself."""
    found = words(text)
    if len(found) < NUM_WORDS:
        return frozenset({" ".join(found) or text.strip()})
    return frozenset(" ".join(found[i : i + NUM_WORDS]) for i in range(len(found) - NUM_WORDS + 1))


def row_shingles(row: TrainingRow) -> frozenset[str]:
    """Return the 5-grams of what is a row's own: prompt, then completion, as one text."""
    return shingles(f"{row.own_prompt}\n{row.own_completion}")


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Return the share of the shingles of both that are in each, 0 to 1."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)
