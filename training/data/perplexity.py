"""Drops the rows that a model finds far stranger, or far more expected, than the rest.

Place in the data's way: the last stage of the quality filter, since it runs a model over every row that is
left. The strangest are mostly damaged text, the least surprising mostly boilerplate.

Source: Wenzek et al. 2020, "CCNet", section 3.3 (perplexity under a language model as a measure of quality);
quantiles instead of CCNet's thirds, for a person's data are few and mostly good.

Example:
    rule = PerplexityRule(perplexity, highest_share=0.01)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from .filter import Judgement, OnRows
from .rows import TrainingRow

Perplexity: TypeAlias = Callable[[str], float]
"""Perplexity of a text under a model: above 0, infinite where it can't be computed."""


class PerplexityRule:
    """Drops the rows whose text has the highest or the lowest perplexity of all."""

    name = "perplexity"

    def __init__(
        self,
        perplexity: Perplexity,
        *,
        highest_share: float = 0.01,
        lowest_share: float = 0.0,
        on_measured: OnRows | None = None,
    ) -> None:
        """Keep the measure and the shares.

        Args:
            perplexity: The measure, of a row's whole text.
            highest_share: Share of rows to drop for too high a perplexity, from 0, below 1.
            lowest_share: Share of rows to drop for too low a one.
            on_measured: Told after each row that was measured.

        Raises:
            ValueError: The shares are below 0 or leave nothing.
        """
        if highest_share < 0 or lowest_share < 0 or highest_share + lowest_share >= 1:
            raise ValueError(
                f"shares must be from 0 and below 1 together: {highest_share!r}, {lowest_share!r}"
            )
        self._perplexity = perplexity
        self._highest_share = highest_share
        self._lowest_share = lowest_share
        self._on_measured = on_measured

    def judge(self, rows: Sequence[TrainingRow]) -> Iterator[Judgement]:
        """Measure all rows, then judge each by its place among them; what is no number counts as highest."""
        values = []
        for number, row in enumerate(rows, 1):
            values.append(self._perplexity(row.text))
            if self._on_measured:
                self._on_measured(number, len(rows), "measuring perplexity")
        values = [math.inf if math.isnan(value) else value for value in values]
        order = sorted(range(len(values)), key=lambda place: (values[place], place))
        num_low = math.floor(len(order) * self._lowest_share)
        num_high = math.floor(len(order) * self._highest_share)
        low, high = set(order[:num_low]), set(order[len(order) - num_high :])
        for place, row in enumerate(rows):
            if place in low:
                yield Judgement(None, "perplexity too low")
            elif place in high or math.isinf(values[place]):
                yield Judgement(None, "perplexity too high")
            else:
                yield Judgement(row)
