"""Span corruption: spans are taken out, a sentinel marks each gap, and the model writes what stood there.

Place in the data's way: a block -> spans drawn -> the encoder reads the rest with sentinels, the decoder
writes each sentinel and the span behind it -> an encoder-decoder.

15 % of the tokens are taken out in spans of three tokens on average. Each gap has a sentinel of its own,
counted down from the highest; one more sentinel and the end token close the target.

Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
Transformer", sections 3.1.4 and 3.3.4, figure 2. How spans are drawn: their code, google-research/
text-to-text-transfer-transformer, t5/data/preprocessors.py, `random_spans_noise_mask`.

Example:
    >>> block, spans = [11, 12, 13, 14, 15, 16], [(2, 4)]
    >>> corrupt(block, spans, sentinels=[99, 98])
    ([11, 12, 99, 15, 16], [99, 13, 14, 98])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np

from .objective import Example, ObjectiveName

SHARE, MEAN_SPAN_TOKENS = 0.15, 3.0
Span: TypeAlias = tuple[int, int]
"""First place of a span, and the place behind its last."""


def num_spans(num_tokens: int, share: float = SHARE, mean_span: float = MEAN_SPAN_TOKENS) -> tuple[int, int]:
    """Return how many tokens of a block are taken out, and in how many spans.

    Args:
        num_tokens: Tokens of the block, at least 2.
        share: Share that is taken out.
        mean_span: Mean tokens of a span.

    Raises:
        ValueError: The block is too short.
    """
    if num_tokens < 2:
        raise ValueError(f"A block needs at least 2 tokens to lose one, not {num_tokens}.")
    num_noise = min(max(round(num_tokens * share), 1), num_tokens - 1)
    spans = min(max(round(num_noise / mean_span), 1), num_tokens - num_noise)
    return num_noise, spans


def draw_spans(
    num_tokens: int,
    rng: np.random.Generator,
    share: float = SHARE,
    mean_span: float = MEAN_SPAN_TOKENS,
) -> list[Span]:
    """Draw what is taken out: spans in order that do not touch; how many tokens is fixed, where is drawn.

    Args:
        num_tokens: Tokens of the block, at least 2.
        rng: Draws.
        share: Share that is taken out.
        mean_span: Mean tokens of a span.

    Raises:
        ValueError: The block is too short.
    """
    num_noise, count = num_spans(num_tokens, share, mean_span)
    kept, noise = _parts(num_tokens - num_noise, count, rng), _parts(num_noise, count, rng)
    spans, place = [], 0
    for kept_tokens, noise_tokens in zip(kept, noise, strict=True):
        start = place + kept_tokens
        place = start + noise_tokens
        spans.append((start, place))
    return spans


def corrupt(
    block: Sequence[int], spans: Sequence[Span], sentinels: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Return the block with a sentinel in place of each span, and the sentinels with their spans behind them.

    Args:
        block: The tokens.
        spans: What is taken out, in order.
        sentinels: One more than there are spans: the last closes the target.

    Raises:
        ValueError: There are too few sentinels.
    """
    if len(sentinels) <= len(spans):
        raise ValueError(f"{len(spans)} spans need {len(spans) + 1} sentinels, not {len(sentinels)}.")
    inputs: list[int] = []
    target: list[int] = []
    place = 0
    for (start, end), sentinel in zip(spans, sentinels, strict=False):
        inputs += [*block[place:start], sentinel]
        target += [sentinel, *block[start:end]]
        place = end
    return [*inputs, *block[place:]], [*target, sentinels[len(spans)]]


class SpanCorruptionObjective:
    """Learns the spans that were taken out.

    Args:
        tokenizer: Of transformers, with a padding token, an end token and sentinels (`sentinels_of`).
        share: Share of the tokens that is taken out, above 0 and below 1.
        mean_span: Mean tokens of a span, at least 1.

    Raises:
        ValueError: A value is out of range, or the tokenizer has no sentinels.
    """

    name: ClassVar[ObjectiveName] = "span-corruption"

    def __init__(self, tokenizer: Any, share: float = SHARE, mean_span: float = MEAN_SPAN_TOKENS) -> None:
        if not 0 < share < 1:
            raise ValueError(f"share must be above 0 and below 1, not {share}.")
        if mean_span < 1:
            raise ValueError(f"mean_span must be at least 1, not {mean_span}.")
        self._sentinels = sentinels_of(tokenizer)
        if not self._sentinels:
            raise ValueError("The tokenizer has no sentinels <extra_id_0>, <extra_id_1> and so on.")
        self._start, self._end = int(tokenizer.pad_token_id), int(tokenizer.eos_token_id)
        self._share, self._mean_span = share, mean_span

    def example(self, block: Sequence[int], seed: int) -> Example:
        """Return the block with gaps, and what stood there to be written; see `Objective.example`."""
        spans = draw_spans(len(block), np.random.default_rng(seed), self._share, self._mean_span)
        inputs, target = corrupt(block, spans, self._sentinels)
        return Example([*inputs, self._end], [*target, self._end], [self._start, *target])


def sentinels_of(tokenizer: Any) -> list[int]:
    """Return a tokenizer's sentinels in the order of their use, the highest token first."""
    added = tokenizer.get_added_vocab()
    return sorted((token for text, token in added.items() if text.startswith("<extra_id_")), reverse=True)


def _parts(total: int, count: int, rng: np.random.Generator) -> list[int]:
    """Return `count` numbers of at least 1 that add up to `total`, every way equally likely."""
    cuts = np.sort(rng.choice(total - 1, size=count - 1, replace=False)) + 1
    return [int(size) for size in np.diff([0, *cuts, total])]
