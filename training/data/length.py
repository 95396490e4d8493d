"""Keeps rows that are neither too short to teach anything nor too long for the model's window.

Place in the data's way: one stage of the quality filter; the tokens are those of the model to be trained.

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
        if min_tokens < 0 or (max_tokens is not None and max_tokens < max(1, min_tokens)):
            raise ValueError(f"min_tokens {min_tokens!r} and max_tokens {max_tokens!r} leave no room")
        self._count_tokens = count_tokens
        self._min_tokens = min_tokens
        self._max_tokens = max_tokens

    def judge(self, rows: Iterable[TrainingRow]) -> Iterator[Judgement]:
        """Judge each row by itself."""
        for row in rows:
            tokens = sum(self._count_tokens(message.content) for message in row.messages)
            if tokens < self._min_tokens:
                yield Judgement(None, f"fewer than {self._min_tokens} tokens")
            elif self._max_tokens is not None and tokens > self._max_tokens:
                yield Judgement(None, f"more than {self._max_tokens} tokens")
            else:
                yield Judgement(row)
