r"""Drops text that repeats itself, by the rules that cleaned Gopher's training text.

Place in the data's way: one stage of the quality filter. A model that learns from loops answers in loops.

Source: Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training Gopher",
appendix A.1.1, table A1, for the thresholds; the rules are applied to every message instead of to a web page.

Example:
    >>> repetition_fault("\n".join(["The same line again."] * 3))
    'more than 30 % duplicate lines'
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from .filter import Judgement
from .rows import TrainingRow

# Gopher's n-gram limits are for web pages. In answers of 50 to 200 words they would drop 9 % of GSM8K, which
# repeats "miles per hour" for good reason; at most 43 % of the characters of its texts stand in repeated
# 5-grams, while a text that has fallen into a loop consists of little else.
MIN_PAGE_WORDS = 200
_MAX_SHORT_TEXT_SHARE = 0.50
_MAX_DUPLICATE_SHARE = 0.30
_MAX_DUPLICATE_CHAR_SHARE = 0.20
_MAX_TOP_NGRAM_CHAR_SHARE = {2: 0.20, 3: 0.18, 4: 0.16}
_MAX_DUPLICATE_NGRAM_CHAR_SHARE = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}


class RepetitionRule:
    """Drops a row one of whose messages repeats itself."""

    name = "repetition"

    def judge(self, rows: Iterable[TrainingRow]) -> Iterator[Judgement]:
        """Judge each row by itself."""
        for row in rows:
            faults = (repetition_fault(message.content) for message in row.messages)
            fault = next((fault for fault in faults if fault), "")
            yield Judgement(None, fault) if fault else Judgement(row)


def repetition_fault(text: str) -> str:
    """Return the first of Gopher's limits that a text passes, or "" where it passes none.

    Lines and paragraphs are judged where there are at least three, n-grams from 200 words on; a shorter text
    is at fault where more than half of it stands in repeated 5-grams.
    """
    for unit, separator in (("lines", "\n"), ("paragraphs", "\n\n")):
        pieces = [piece.strip() for piece in text.split(separator) if piece.strip()]
        if len(pieces) < 3:
            continue
        repeats = _repeats(pieces)
        if len(repeats) / len(pieces) > _MAX_DUPLICATE_SHARE:
            return f"more than {_MAX_DUPLICATE_SHARE * 100:.0f} % duplicate {unit}"
        if sum(map(len, repeats)) / sum(map(len, pieces)) > _MAX_DUPLICATE_CHAR_SHARE:
            return (
                f"duplicate {unit} hold more than {_MAX_DUPLICATE_CHAR_SHARE * 100:.0f} % of the characters"
            )
    words = text.split()
    return _ngram_fault(words) if words else ""


def _ngram_fault(words: Sequence[str]) -> str:
    num_chars = sum(map(len, words))
    if len(words) < MIN_PAGE_WORDS:
        is_loop = _duplicate_chars(words, 5) / num_chars > _MAX_SHORT_TEXT_SHARE
        return "more than half of it stands in repeated 5-grams" if is_loop else ""
    for n, limit in _MAX_TOP_NGRAM_CHAR_SHARE.items():
        counts = Counter(zip(*(words[i:] for i in range(n)), strict=False))
        top, times = max(counts.items(), key=lambda item: (item[1], sum(map(len, item[0]))))
        if times > 1 and times * sum(map(len, top)) / num_chars > limit:
            return f"one {n}-gram holds more than {limit * 100:.0f} % of the characters"
    for n, limit in _MAX_DUPLICATE_NGRAM_CHAR_SHARE.items():
        if _duplicate_chars(words, n) / num_chars > limit:
            return f"duplicate {n}-grams hold more than {limit * 100:.0f} % of the characters"
    return ""


def _duplicate_chars(words: Sequence[str], n: int) -> int:
    """Return the characters of n-grams that occurred before; where such n-grams overlap, each word once."""
    seen: set[tuple[str, ...]] = set()
    covered = 0  # words before this place are counted
    num_chars = 0
    for start in range(len(words) - n + 1):
        ngram = tuple(words[start : start + n])
        if ngram in seen:
            num_chars += sum(len(word) for word in words[max(start, covered) : start + n])
            covered = start + n
        seen.add(ngram)
    return num_chars


def _repeats(pieces: Sequence[str]) -> list[str]:
    """Return the pieces that occurred before, with each repetition."""
    seen: set[str] = set()
    repeats = []
    for piece in pieces:
        if piece in seen:
            repeats.append(piece)
        seen.add(piece)
    return repeats
