"""Whether an exported file still is the trained model: says the same, is as sure of held-out text.

Place in the data's way: the trainer's model and the exported file, as `TokenModel`s, and held-out rows ->
`verify` -> a `Verification`, which decides whether the file is handed over.

Example:
    >>> share_until_difference([5, 6, 7, 8], [5, 6, 9, 8])
    0.5
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...models.llama.quantize import Quantization
from .layout import Array
from .token_models import TokenModel


@dataclass(frozen=True, slots=True)
class Limits:
    """What an exported file may differ by.

    Attributes:
        min_agreement: Least share of greedy tokens that are equal until the first difference, 0 to 1.
        max_perplexity_percent: Most that its perplexity on held-out text may be off, up or down, in percent.
    """

    min_agreement: float
    max_perplexity_percent: float

    def __post_init__(self) -> None:
        """Refuse what can't be met or would let anything pass unseen."""
        if not 0 <= self.min_agreement <= 1:
            raise ValueError(f"min_agreement must be between 0 and 1, not {self.min_agreement!r}")
        if math.isnan(self.max_perplexity_percent) or self.max_perplexity_percent < 0:
            raise ValueError(f"max_perplexity_percent must be 0 or more, not {self.max_perplexity_percent!r}")


# A small model's greedy text parts at the first near tie; perplexity is the steadier of the two figures. The
# figures that these leave room around are in docs/how-to/export-a-model.md.
LIMITS: dict[Quantization, Limits] = {
    "F16": Limits(0.5, 0.5),
    "Q8_0": Limits(0.3, 2.0),
    "Q5_K_M": Limits(0.2, 4.0),
    "Q4_K_M": Limits(0.1, 8.0),
}


@dataclass(frozen=True, slots=True)
class Verification:
    """How near an exported file is to the trained model.

    Attributes:
        value: Share of the trained model's greedy tokens that the file gives too, until the first difference,
            mean over prompts, 0 to 1.
        explanation: All figures and the limits, for people.
        whole_share: Share of prompts whose continuation is equal to the end.
        perplexity: The trained model's perplexity on the held-out text.
        perplexity_percent: How far the file's perplexity is off, in percent; above 0 is worse.
        is_within_limits: Whether the file may be handed over.
    """

    value: float
    explanation: str
    whole_share: float
    perplexity: float
    perplexity_percent: float
    is_within_limits: bool


def verify(
    trained: TokenModel,
    exported: TokenModel,
    prompts: Sequence[Sequence[int]],
    texts: Sequence[Sequence[int]],
    limits: Limits,
    *,
    num_tokens: int = 32,
    is_end: Callable[[int], bool] = lambda token: False,
    on_progress: Callable[[float], None] | None = None,
) -> Verification:
    """Compare an exported file with the model it was made from.

    Args:
        trained: The trainer's model.
        exported: The file.
        prompts: Tokens that both continue.
        texts: Held-out tokens, two at least in each, that both read.
        limits: What is still the same model.
        num_tokens: Tokens of a continuation.
        is_end: Whether a token ends a continuation; what comes behind one is not compared.
        on_progress: Called with the share done, 0 to 1.

    Raises:
        ValueError: There are no prompts or no texts, or one is too short.
    """
    if not prompts or not texts:
        raise ValueError(f"verify needs prompts and texts, not {len(prompts)} and {len(texts)}")
    if min(map(len, prompts)) < 1 or min(map(len, texts)) < 2:
        raise ValueError("a prompt has no token, or a text has fewer than two")
    num_steps = len(prompts) + len(texts)
    shares, losses = [], []
    for prompt in prompts:
        ours, theirs = (_until_end(model.greedy(prompt, num_tokens), is_end) for model in (trained, exported))
        shares.append(1.0 if ours == theirs else share_until_difference(ours, theirs))
        _report(on_progress, len(shares) / num_steps)
    for text in texts:
        losses.append([sum_of_losses(model.logits(text), text) for model in (trained, exported)])
        _report(on_progress, (len(shares) + len(losses)) / num_steps)
    num_predicted = sum(len(text) - 1 for text in texts)
    # A loss that is not a number, or too large for exp, gives a figure that no limit lets through.
    with np.errstate(over="ignore", invalid="ignore"):
        before, after = np.exp(np.sum(losses, axis=0) / num_predicted)
        percent = 100 * (after / before - 1)
    return _judge(shares, float(before), float(percent), limits)


def share_until_difference(ours: Sequence[int], theirs: Sequence[int]) -> float:
    """Return the share of `ours` that `theirs` has too, from the first token to the first difference."""
    pairs = zip(ours, theirs, strict=False)
    first = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))
    return first / max(1, len(ours))


def sum_of_losses(logits: Array, tokens: Sequence[int]) -> float:
    """Return the negative log-likelihood of all tokens but the first, in nats.

    Args:
        logits: `(n_tokens, n_vocab)`, behind each token.
        tokens: The tokens.
    """
    rows = logits[:-1].astype(np.float64)
    highest = rows.max(axis=1)
    log_sums = highest + np.log(np.exp(rows - highest[:, None]).sum(axis=1))
    return float((log_sums - rows[np.arange(len(rows)), list(tokens[1:])]).sum())


def _judge(shares: list[float], perplexity: float, percent: float, limits: Limits) -> Verification:
    value = float(np.mean(shares))
    whole = sum(share == 1.0 for share in shares) / len(shares)
    is_same = value >= limits.min_agreement and abs(percent) <= limits.max_perplexity_percent
    explanation = (
        f"Greedy text agrees for {value:.0%} of the tokens until the first difference "
        f"(at least {limits.min_agreement:.0%}), wholly for {whole:.0%} of {len(shares)} prompts; "
        f"perplexity {perplexity:.3f} is off by {percent:+.2f} % "
        f"(at most {limits.max_perplexity_percent:g} %)."
    )
    return Verification(value, explanation, whole, perplexity, percent, is_same)


def _until_end(tokens: list[int], is_end: Callable[[int], bool]) -> list[int]:
    end = next((i + 1 for i, token in enumerate(tokens) if is_end(token)), len(tokens))
    return tokens[:end]


def _report(on_progress: Callable[[float], None] | None, share: float) -> None:
    if on_progress:
        on_progress(share)
