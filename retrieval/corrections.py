"""The right number in place of a wrong one: small models often find the answer and name the wrong passage.

Place in the data's way: `MarkerStream` asks for every `[n]` that the model writes which number to show; a
`Correct`. Measured in docs/decisions/0006-budget-and-citations.md.

Example:
    stream = MarkerStream(len(passages), Corrections(passages, question))
"""

from __future__ import annotations

from collections.abc import Sequence

from ..core.types import Passage
from .support import support
from .words import content_words

# How much better another passage must say a claim than the one named, before it is named instead.
MIN_CORRECTION_GAIN = 0.2
_QUESTION_WEIGHT = 0.5


class Corrections:
    """Names the passage that says a claim where the model named one that doesn't; a `Correct`."""

    def __init__(self, passages: Sequence[Passage], question: str = "") -> None:
        """Keep what claims are compared with.

        Args:
            passages: What the model read.
            question: Its words tell passages apart that hold a short claim equally well.
        """
        self._passages = passages
        self._question = question
        self._known: dict[tuple[str, int], int] = {}

    def __call__(self, claim: str, number: int) -> int:
        """Return the number to show behind `claim`."""
        if (claim, number) not in self._known:
            self._known[claim, number] = self._decide(claim, number)
        return self._known[claim, number]

    def _decide(self, claim: str, number: int) -> int:
        scores = {n: self._score(claim, passage) for n, passage in enumerate(self._passages, start=1)}
        best = max(scores, key=lambda n: scores[n])
        return best if scores[best] >= scores[number] + MIN_CORRECTION_GAIN else number

    def _score(self, claim: str, passage: Passage) -> float:
        """Return 0 where the passage doesn't say the claim, else 1 to 2.5 by the words it shares."""
        found = support(claim, passage, self._question)
        if not found.is_enough:
            return 0.0
        asked = content_words(self._question) - content_words(claim)
        said = content_words(passage.chunk.text)
        return 1 + found.share + _QUESTION_WEIGHT * (len(asked & said) / len(asked) if asked else 0.0)
