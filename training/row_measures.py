"""What a base says of a text before it is trained: how many tokens it has, and how strange it is.

Place in the data's way: the quality filter's rules on tokens and perplexity ask here -> the base's own
vocabulary, and its weights, each loaded at the first question.

Example:
    measures = RowMeasures(find_base(settings, "smollm2-135m"))
    version = prepare(
        sources, recipe, settings.home, count_tokens=measures.count_tokens, perplexity=measures.perplexity
    )
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

from .bases import Base, load_trainable, load_vocabulary
from .vocabularies import TrainingVocabulary

MOST_TOKENS = 512
"""Tokens of a text that are read: its beginning tells enough, and takes little memory."""


class RowMeasures:
    """Measures texts with a base.

    Args:
        base: The base.
    """

    def __init__(self, base: Base) -> None:
        self._base = base

    def count_tokens(self, text: str) -> int:
        """Return the tokens of a text, without special ones.

        Raises:
            ModelLoadError: The vocabulary can't be loaded.
        """
        return len(self._vocabulary.tokenize(text, parse_special=False))

    def perplexity(self, text: str) -> float:
        """Return the perplexity of a text's first `MOST_TOKENS` tokens; infinite for fewer than two.

        Raises:
            TrainingError: The base can't be loaded into transformers, or the extra `train` is missing.
        """
        import torch

        begins = [self._vocabulary.bos_token] if self._vocabulary.adds_bos else []
        tokens = (begins + self._vocabulary.tokenize(text, parse_special=False))[:MOST_TOKENS]
        if len(tokens) < 2:
            return math.inf
        with torch.inference_mode():
            ids = torch.tensor([tokens], device=self._model.device)
            logits = self._model(input_ids=ids).logits[0, :-1].float()  # (tokens - 1, vocabulary)
            return math.exp(float(torch.nn.functional.cross_entropy(logits, ids[0, 1:])))

    @cached_property
    def _vocabulary(self) -> TrainingVocabulary:
        # A text is measured without a template; ChatML only stands in where the base has none.
        return load_vocabulary(self._base, "chatml")

    @cached_property
    def _model(self) -> Any:
        import torch

        model: Any = load_trainable(self._base)
        model.eval()
        return model.to("cuda") if torch.cuda.is_available() else model
