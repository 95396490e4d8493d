"""Rows to tokens: the prompt as the engine will read it, then the completion as the model is to write it.

Place in the data's way: `TrainingRow` -> `ChatTemplate` (the one that the engine uses) -> `EncodedRow` ->
`collate` makes batches of them. Only the completion's tokens have labels.

Example:
    rows = Encoder(load_vocabulary(base), max_tokens=1024).encode_all(version.train)
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..core.errors import DatasetError, ModelError
from ..models.chat.template import ChatTemplate, Vocabulary
from .data.rows import TrainingRow

LongRows: TypeAlias = Literal["refuse", "drop"]
OnEncoded: TypeAlias = Callable[[int, int], None]
"""Called with (rows encoded, rows in all)."""

_NAMED_ROWS = 3
_EVERY = 50


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """A row in tokens.

    Attributes:
        tokens: Prompt and completion, the completion's end token included.
        num_prompt: How many of them are the prompt.
        source: Where the row came from, for people.
    """

    tokens: array[int]
    num_prompt: int
    source: str

    @property
    def num_completion(self) -> int:
        """Tokens that are learned."""
        return len(self.tokens) - self.num_prompt


class Encoder:
    """Encodes rows for one model.

    Args:
        vocabulary: The model's tokens and template.
        max_tokens: Most tokens of a row, prompt and completion together.
        long_rows: What becomes of longer ones: "refuse" stops with an error before anything is trained,
            "drop" leaves them out and counts them.

    Raises:
        ModelError: The template is not valid.
        ValueError: `max_tokens` is below 2.
    """

    def __init__(self, vocabulary: Vocabulary, max_tokens: int, long_rows: LongRows = "refuse") -> None:
        if max_tokens < 2:
            raise ValueError(f"max_tokens must be at least 2, not {max_tokens}.")
        self._template = ChatTemplate(vocabulary)
        self._max_tokens = max_tokens
        self._long_rows = long_rows
        self.num_dropped = 0
        """Rows that were left out because they are too long."""

    def encode(self, row: TrainingRow) -> EncodedRow:
        """Encode one row, however long it is.

        Raises:
            DatasetError: The model's template refuses it, or its completion is empty.
        """
        if not row.completion:
            raise DatasetError(f"The row {row.source or row.id} has an empty completion.", "Leave it out.")
        try:
            prompt = self._template.tokens(row.prompt)
            reply = self._template.reply_tokens(row.messages)
        except ModelError as exc:
            raise DatasetError(
                f"The row {row.source or row.id} can't be written in this model's template: {exc}",
                hint="Roles must take turns: an optional system message, then user and assistant.",
            ) from exc
        return EncodedRow(array("i", [*prompt, *reply]), len(prompt), row.source or row.id)

    def encode_all(
        self, rows: Sequence[TrainingRow], on_encoded: OnEncoded | None = None
    ) -> list[EncodedRow]:
        """Encode rows in their order.

        Raises:
            DatasetError: There are no rows, one can't be encoded, or some are too long and may not be left
                out.
        """
        kept: list[EncodedRow] = []
        long: list[EncodedRow] = []
        for number, row in enumerate(rows, 1):
            encoded = self.encode(row)
            (kept if len(encoded.tokens) <= self._max_tokens else long).append(encoded)
            if on_encoded and (number % _EVERY == 0 or number == len(rows)):
                on_encoded(number, len(rows))
        if long and self._long_rows == "refuse":
            raise self._too_long(long, len(rows))
        self.num_dropped += len(long)
        if not kept:
            raise DatasetError(
                "There is no row to train on.",
                hint="Check the data, or raise --max-tokens where rows were too long.",
            )
        return kept

    def _too_long(self, long: Sequence[EncodedRow], num_rows: int) -> DatasetError:
        longest = max(len(row.tokens) for row in long)
        named = ", ".join(f"{row.source} ({len(row.tokens)})" for row in long[:_NAMED_ROWS])
        return DatasetError(
            f"{len(long)} of {num_rows} rows are longer than {self._max_tokens} tokens: {named}"
            f"{' and more' if len(long) > _NAMED_ROWS else ''}.",
            hint=f"The longest has {longest}: train with --max-tokens {longest}, or leave them out with "
            "--long-rows drop.",
        )
