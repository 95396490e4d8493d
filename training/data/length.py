"""Keeps rows that are neither too short to teach anything nor too long for the model's window.

Place in the data's way: two stages of the quality filter: by words, which needs no model, and by the tokens
of the model to be trained.

Example:
    rule = LengthRule(max_tokens=512, count_tokens=lambda text: len(tokenizer.encode(text)))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from .filter import Judgement
from .rows import TrainingRow

CountTokens: TypeAlias = Callable[[str], int]
"""Tokens of a text, without special ones."""


class WordsRule:
    """Drops a row whose messages have too few or too many words together, parted by white space."""

    name = "words"

    def __init__(self, *, min_words: int = 0, max_words: int | None = None) -> None:
        """Keep the limits.

        Args:
            min_words: Least words of a row.
            max_words: Most words of a row; None for no limit.

        Raises:
            ValueError: The limits leave no room.
        """
        _check_limits("words", min_words, max_words)
        self._min_words = min_words
        self._max_words = max_words

    def judge(self, rows: Iterable[TrainingRow]) -> Iterator[Judgement]:
        """Judge each row by itself."""
        for row in rows:
            yield _judged(row, len(row.text.split()), self._min_words, self._max_words, "words")


class LengthRule:
    """Drops a row whose messages have too few or too many tokens together, without the template's."""

    name = "length"

    def __init__(
        self, *, count_tokens: CountTokens, min_tokens: int = 1, max_tokens: int | None = None
    ) -> None:
        """Keep the limits.

        Args:
            count_tokens: The model's tokenizer.
            min_tokens: Least tokens of a row.
            max_tokens: Most tokens of a row; None for no limit.

        Raises:
            ValueError: The limits leave no room.
        """
        _check_limits("tokens", min_tokens, max_tokens)
        self._count_tokens = count_tokens
        self._min_tokens = min_tokens
        self._max_tokens = max_tokens

    def judge(self, rows: Iterable[TrainingRow]) -> Iterator[Judgement]:
        """Judge each row by itself."""
        for row in rows:
            tokens = sum(self._count_tokens(message.content) for message in row.messages)
            yield _judged(row, tokens, self._min_tokens, self._max_tokens, "tokens")


def _check_limits(unit: str, least: int, most: int | None) -> None:
    if least < 0 or (most is not None and most < max(1, least)):
        raise ValueError(f"min_{unit} {least!r} and max_{unit} {most!r} leave no room")


def _judged(row: TrainingRow, length: int, least: int, most: int | None, unit: str) -> Judgement:
    if length < least:
        return Judgement(None, f"fewer than {least} {unit}")
    if most is not None and length > most:
        return Judgement(None, f"more than {most} {unit}")
    return Judgement(row)
