"""A vote among the answers of several samples.

Place in the data's way: `cot.py` and `pal.py` draw samples, `extraction.py` makes answers of them that can be
compared, and the one that most samples agree on wins (self-consistency: Wang et al. 2023, "Self-Consistency
Improves Chain of Thought Reasoning in Language Models", section 2). Their table 1 finds the plain majority as
good as one weighted by probability, so that is the default.

Example:
    >>> votes = tally(["18", "26", "18", None])
    >>> [(vote.answer, vote.count) for vote in votes], is_decided(votes, num_left=0)
    ([('18', 2), ('26', 1)], True)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Vote:
    """One answer and how many samples gave it.

    Attributes:
        answer: The answer, in the form in which answers are compared.
        count: Samples that gave it.
        weight: Sum of their weights; equals `count` where none were given.
    """

    answer: str
    count: int
    weight: float


def weight_of(mean_logprob: float | None) -> float:
    """Return exp(mean log-probability), the length-normalised probability of Wang et al.; 1 where unknown."""
    return 1.0 if mean_logprob is None else math.exp(min(0.0, mean_logprob))


def tally(
    answers: Sequence[str | None], weights: Sequence[float] | None = None, *, is_weighted: bool = False
) -> tuple[Vote, ...]:
    """Count the votes.

    Args:
        answers: One a sample, in the order in which they came; None for a sample without an answer, which
            doesn't vote.
        weights: One a sample, 0 to 1; None for 1 each.
        is_weighted: Whether the larger sum of weights wins; else the larger count, and weights break ties.

    Returns:
        The answers, the winner first; of equals, the one seen first.

    Raises:
        ValueError: There are not as many weights as answers, or one is outside 0 to 1.
    """
    given = [1.0] * len(answers) if weights is None else list(weights)
    if len(given) != len(answers):
        raise ValueError(f"{len(answers)} answers have {len(given)} weights.")
    if wrong := [weight for weight in given if not 0 <= weight <= 1]:
        raise ValueError(f"A weight is 0 to 1, not {wrong[0]}.")
    sums: dict[str, tuple[int, float]] = {}
    for answer, weight in zip(answers, given, strict=True):
        if answer is not None:
            count, total = sums.get(answer, (0, 0.0))
            sums[answer] = count + 1, total + weight
    votes = [Vote(answer, count, weight) for answer, (count, weight) in sums.items()]
    if is_weighted:
        votes.sort(key=lambda vote: (-vote.weight, -vote.count))
    else:
        votes.sort(key=lambda vote: (-vote.count, -vote.weight))
    return tuple(votes)


def is_decided(votes: Sequence[Vote], num_left: int, *, is_weighted: bool = False) -> bool:
    """Return whether the samples that are left can't change the winner, whatever they say.

    Args:
        votes: The tally so far, the winner first.
        num_left: Samples still to come.
        is_weighted: Whether the larger sum of weights wins; a sample adds at most 1 to one.
    """
    if num_left <= 0:
        return True
    if not votes:
        return False
    scores = [vote.weight if is_weighted else float(vote.count) for vote in votes]
    return scores[0] > max(scores[1:], default=0.0) + num_left


def in_words(votes: Sequence[Vote], num_samples: int) -> str:
    """Say in one line for people how the vote went, as "18 (5 of 8), 26 (2 of 8)"."""
    if not votes:
        return f"None of {num_samples} samples came to an answer"
    return ", ".join(f"{vote.answer} ({vote.count} of {num_samples})" for vote in votes)


class Ballot:
    """A vote in progress.

    Args:
        num_samples: Samples that will have been drawn at its end.
        is_weighted: Whether the larger sum of weights wins; see `tally`.
    """

    def __init__(self, num_samples: int, *, is_weighted: bool = False) -> None:
        self.num_samples = num_samples
        self.is_weighted = is_weighted
        self._answers: list[str | None] = []
        self._weights: list[float] = []

    def add(self, answer: str | None, mean_logprob: float | None = None) -> None:
        """Note what a sample says; None for one without an answer."""
        self._answers.append(answer)
        self._weights.append(weight_of(mean_logprob))

    @property
    def votes(self) -> tuple[Vote, ...]:
        """The answers so far, the winner first."""
        return tally(self._answers, self._weights, is_weighted=self.is_weighted)

    @property
    def is_decided(self) -> bool:
        """Whether no sample that is left can change the winner."""
        num_left = self.num_samples - len(self._answers)
        return is_decided(self.votes, num_left, is_weighted=self.is_weighted)

    @property
    def summary(self) -> str:
        """How it stands, in one line for people."""
        return in_words(self.votes, len(self._answers))
