"""What training needs of a vocabulary beyond what a chat template needs.

Place in the data's way: `bases.load_vocabulary` returns one; `encoding` and `writers` use it.

Example:
    end_tokens(load_vocabulary(base))
"""

from __future__ import annotations

from typing import Protocol

from ..models.chat.template import Vocabulary


class TrainingVocabulary(Vocabulary, Protocol):
    """Tokens and template of a base."""

    n_vocab: int

    def text(self, tokens: list[int]) -> str:
        """Return the text of tokens; control tokens stand for none."""
        ...


def end_tokens(vocabulary: TrainingVocabulary) -> list[int]:
    """Return the tokens that end a generation."""
    return [token for token in range(vocabulary.n_vocab) if vocabulary.is_end(token)]
