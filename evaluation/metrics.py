"""The figures of question answering, as others compute them, with their uncertainty.

Place in the data's way: answers and gold answers -> numbers -> `evaluation.results`. Nothing here knows what
produced an answer.

Example:
    >>> exact_match("The Denver Broncos.", ["Denver Broncos"]), round(f1("the Broncos", ["Denver Broncos"]),
    2) (1.0, 0.67)
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and where it may lie.

    Attributes:
        mean: Mean of the sample.
        low: Lower end of the 95 % interval.
        high: Upper end.
    """

    mean: float
    low: float
    high: float


def normalize(text: str) -> str:
    """Lower the case, take out punctuation and articles, and set single spaces.

    Source: the official evaluation script of SQuAD 1.1, function normalize_answer (Rajpurkar et al., 2016).
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, golds: Sequence[str]) -> float:
    """Return 1 if the prediction equals a gold answer after `normalize`, else 0.

    Raises:
        ValueError: There is no gold answer.
    """
    return _best(lambda gold: float(normalize(prediction) == normalize(gold)), golds)


def f1(prediction: str, golds: Sequence[str]) -> float:
    """Return the harmonic mean of token precision and recall, for the gold answer where it is highest.

    Source: the official evaluation script of SQuAD 1.1, functions f1_score and metric_max_over_ground_truths.

    Raises:
        ValueError: There is no gold answer.
    """
    return _best(lambda gold: _f1(normalize(prediction).split(), normalize(gold).split()), golds)


def contains_answer(text: str, golds: Sequence[str]) -> bool:
    """Tell whether a gold answer stands in the text, on word borders, after `normalize` of both."""
    padded = f" {normalize(text)} "
    return any(f" {normalize(gold)} " in padded for gold in golds if normalize(gold))


def recall_at(ranks: Sequence[int | None], k: int) -> float:
    """Return the share of questions whose first relevant passage stands at rank `k` or better.

    Args:
        ranks: Rank from 1 of the first relevant passage of each question; None where there is none.
        k: Passages looked at.
    """
    return sum(rank is not None and rank <= k for rank in ranks) / len(ranks) if ranks else 0.0


def bootstrap(values: Sequence[float], seed: int = 7) -> Interval:
    """Return the mean with its 95 % interval by resampling the questions.

    Args:
        values: One value a question.
        seed: Seed of the resampling.

    Returns:
        The percentile interval. Source: Efron and Tibshirani, An Introduction to the Bootstrap, section 13.3.
    """
    if not values:
        return Interval(0.0, 0.0, 0.0)
    sample = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(0, len(sample), (NUM_RESAMPLES, len(sample)))
    means = sample[picks].mean(axis=1)  # (NUM_RESAMPLES,)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(sample.mean()), float(low), float(high))


def wilson(num_right: int, num: int) -> Interval:
    """Return a proportion with its 95 % score interval.

    Unlike the textbook's interval it stays within 0 and 1 and has about its nominal coverage for small
    samples and for proportions near 0 or 1.

    Args:
        num_right: Successes.
        num: Trials; 0 gives the interval of ignorance, 0 to 1.

    Source: Wilson (1927), "Probable inference, the law of succession, and statistical inference";
    recommended by Brown, Cai and DasGupta (2001), "Interval Estimation for a Binomial Proportion", section 5.

    Raises:
        ValueError: There are more successes than trials, or fewer than none.
    """
    if not 0 <= num_right <= num:
        raise ValueError(f"{num_right} of {num} is no proportion.")
    if num == 0:
        return Interval(0.0, 0.0, 1.0)
    share = num_right / num
    weight = _Z**2 / num
    centre = (share + weight / 2) / (1 + weight)
    half = _Z * math.sqrt(share * (1 - share) / num + weight / (4 * num)) / (1 + weight)
    # At 0 and 1 the bound is the share itself, but for rounding.
    return Interval(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)))


def _best(score: Callable[[str], float], golds: Sequence[str]) -> float:
    if not golds:
        raise ValueError("A question needs at least one gold answer.")
    return max(score(gold) for gold in golds)


def _f1(predicted: list[str], gold: list[str]) -> float:
    if not predicted or not gold:
        return float(predicted == gold)
    shared = sum((Counter(predicted) & Counter(gold)).values())
    return 2 * shared / (len(predicted) + len(gold))
