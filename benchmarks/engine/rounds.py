"""Interleaved rounds: every contender once a round, in rotated order; medians, quartiles, ratios, progress.

Place in the data's way: `workloads` hands in what to run -> `Rounds.run` -> raw values -> `Spread`, `ratio`.

Example:
    >>> [order(["a", "b", "c"], r) for r in range(2)]
    [['a', 'b', 'c'], ['b', 'c', 'a']]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, median, quantiles
from typing import Any

from .conditions import ForeignLoad

Raw = dict[str, Any]
"""What one run of one contender gave; "value" is the number that the medians are of."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and quartiles of a contender's rounds."""

    median: float
    q1: float
    q3: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return median and quartiles (inclusive method); of one value, that value three times."""
        if len(values) < 2:
            return cls(values[0], values[0], values[0])
        q1, middle, q3 = quantiles(values, n=4, method="inclusive")
        return cls(middle, q1, q3)


def order(contenders: Sequence[str], round_index: int) -> list[str]:
    """Return the contenders rotated, so that none always goes first."""
    shift = round_index % len(contenders)
    return [*contenders[shift:], *contenders[:shift]]


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Return the ratio of two medians, and the quartiles of the ratios round by round."""
    by_round = Spread.of([a / b for a, b in zip(above, below, strict=True)])
    return Spread(median(above) / median(below), by_round.q1, by_round.q3)


def values(runs: Sequence[Raw], key: str = "value") -> list[float]:
    """Return one number of every round."""
    return [float(run[key]) for run in runs]


@dataclass(slots=True)
class Eta:
    """How long the rest takes, from how long the same runs took before.

    Attributes:
        num_runs: Runs of each kind still to come, by (workload, contender).
    """

    num_runs: dict[tuple[str, str], int]
    _took_s: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def ran(self, kind: tuple[str, str], seconds: float) -> None:
        """Take a run off the list."""
        self.num_runs[kind] = max(0, self.num_runs.get(kind, 1) - 1)
        self._took_s.setdefault(kind, []).append(seconds)

    def left_s(self) -> float:
        """Return the seconds expected; a kind that has not run yet counts as the mean of the others."""
        known = {kind: median(seconds) for kind, seconds in self._took_s.items()}
        guess = mean(known.values()) if known else 0.0
        return sum(count * known.get(kind, guess) for kind, count in self.num_runs.items())


class Rounds:
    """Runs contenders in turn and tells a person how far it is.

    Args:
        num_rounds: Rounds that count.
        plan: Contenders of each workload that will run, for the time left.
        say: Where progress goes, a line at a time.
    """

    def __init__(
        self, num_rounds: int, plan: Mapping[str, Sequence[str]], say: Callable[[str], None] | None = None
    ) -> None:
        self.num_rounds = num_rounds
        self._say = say or _to_stderr
        self._eta = Eta({(w, c): num_rounds for w, contenders in plan.items() for c in contenders})
        self._begun = time.monotonic()

    def run(
        self, workload: str, contenders: Mapping[str, Callable[[int], Raw]], unit: str
    ) -> dict[str, list[Raw]]:
        """Run every contender once a round.

        Args:
            workload: Name for people.
            contenders: What to run, called with the round's number from 0; returns at least "value".
            unit: Of the value, for people.

        Returns:
            The raw results of each contender, a round after the other.
        """
        results: dict[str, list[Raw]] = {name: [] for name in contenders}
        for index in range(self.num_rounds):
            for name in order(list(contenders), index):
                begun = time.monotonic()
                with ForeignLoad() as load:
                    raw = contenders[name](index)
                results[name].append(raw | {"foreign_cores": round(load.cores, 3)})
                self._eta.ran((workload, name), time.monotonic() - begun)
                head = f"{workload} {index + 1}/{self.num_rounds} {name}"
                self._say(f"{head:44} {raw['value']:9.3f} {unit:14} {self._time()}")
        return results

    def _time(self) -> str:
        gone = time.monotonic() - self._begun
        return f"{_clock(gone)} gone, about {_clock(self._eta.left_s())} left"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
