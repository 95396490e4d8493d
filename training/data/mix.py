"""Chooses how much of each task a model is trained on.

Place in the data's way: the training side of the split -> as many rows of each task as the recipe says, in a
seeded order. Held-out rows are never mixed: they are to look like the work, and never twice.

Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
Transformer", section 3.5.2: examples-proportional mixing, r_m = min(e_m, K) / sum of min(e_n, K), and
temperature-scaled mixing, r_m^(1/T) renormalised. Weights are ours: a factor on a task's part.

Example:
    >>> rates({"summarization": 500, "question_answering": 1500}, MixRecipe(cap=500))
    {'summarization': 0.5, 'question_answering': 0.5}
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from .rows import TrainingRow, content_hash


@dataclass(frozen=True, slots=True)
class MixRecipe:
    """How tasks are mixed.

    Attributes:
        cap: K, the most rows of a task that count; None for no cap.
        temperature: T, from 1; 1 keeps the tasks' sizes as they are, a large one makes them equal.
        num_rows: Rows of the mixture; None for as many as caps and weights leave.
        caps: K of single tasks, in place of `cap`.
        weights: How often a row of a task counts; 1 for a task that is not named.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    cap: int | None = None
    temperature: float = 1.0
    num_rows: int | None = None
    caps: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what is no mixture.

        Raises:
            ValueError: A value is out of range.
        """
        if self.cap is not None and self.cap < 1:
            raise ValueError(f"cap must be at least 1, not {self.cap!r}")
        if not (math.isfinite(self.temperature) and self.temperature >= 1):
            raise ValueError(f"temperature must be at least 1, not {self.temperature!r}")
        if self.num_rows is not None and self.num_rows < 1:
            raise ValueError(f"num_rows must be at least 1, not {self.num_rows!r}")
        for task, cap in self.caps.items():
            if cap < 1:
                raise ValueError(f"the cap of {task} must be at least 1, not {cap!r}")
        for task, weight in self.weights.items():
            if not (math.isfinite(weight) and weight > 0):
                raise ValueError(f"the weight of {task} must be above 0, not {weight!r}")


@dataclass(frozen=True, slots=True)
class TaskShare:
    """What the mixture took of one task.

    Attributes:
        task: The task.
        num_before: Its rows.
        num_after: Its rows in the mixture, repeated ones included.
        num_repeats: Those of them that are there again.
    """

    task: str
    num_before: int
    num_after: int
    num_repeats: int


def rates(sizes: Mapping[str, int], recipe: MixRecipe) -> dict[str, float]:
    """Return each task's share of the mixture; they add up to 1.

    Args:
        sizes: Rows by task, each at least 1.
        recipe: Caps, temperature and weights.
    """
    counted = {task: _capped(task, size, recipe) for task, size in sizes.items()}
    largest = max(counted.values(), default=1)
    parts = {
        task: recipe.weights.get(task, 1.0) * (size / largest) ** (1 / recipe.temperature)
        for task, size in counted.items()
    }
    total = sum(parts.values())
    return {task: part / total for task, part in parts.items()}


def mixed(
    rows: Sequence[TrainingRow], recipe: MixRecipe, seed: int
) -> tuple[list[TrainingRow], list[TaskShare]]:
    """Return (the mixture, what it took of each task).

    The same rows in any order give the same mixture. A task of which more rows are wanted than there are is
    gone through again from its beginning, so that its rows occur equally often, or once more.

    Args:
        rows: Rows of all tasks.
        recipe: Caps, temperature, weights and size.
        seed: Seed of choice and order.

    Raises:
        ValueError: The recipe names a task that no row is of.
    """
    by_task: dict[str, list[TrainingRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (content_hash([seed, row.id]), row.id, row.source)):
        by_task[row.task].append(row)
    sizes = {task: len(by_task[task]) for task in sorted(by_task)}
    if unknown := {*recipe.caps, *recipe.weights} - set(sizes):
        raise ValueError(f"no row is of the task {min(unknown)!r}; there are {', '.join(map(repr, sizes))}")
    total = recipe.num_rows or max(1, round(sum(_counted(task, sizes[task], recipe) for task in sizes)))
    wanted = _whole(rates(sizes, recipe), total)
    chosen = [
        (content_hash([seed, row.id, time]), row)
        for task, number in wanted.items()
        for time, row in (
            (place // sizes[task], by_task[task][place % sizes[task]]) for place in range(number)
        )
    ]
    chosen.sort(key=lambda item: (item[0], item[1].id, item[1].source))
    shares = [
        TaskShare(task, sizes[task], number, max(0, number - sizes[task])) for task, number in wanted.items()
    ]
    return [row for _, row in chosen], shares


def _counted(task: str, size: int, recipe: MixRecipe) -> float:
    return recipe.weights.get(task, 1.0) * _capped(task, size, recipe)


def _capped(task: str, size: int, recipe: MixRecipe) -> int:
    cap = recipe.caps.get(task, recipe.cap)
    return size if cap is None else min(size, cap)


def _whole(shares: Mapping[str, float], total: int) -> dict[str, int]:
    """Return whole numbers that add up to the total, by largest remainder, ties in the tasks' order."""
    numbers = {task: math.floor(share * total) for task, share in shares.items()}
    left = total - sum(numbers.values())
    for task in sorted(shares, key=lambda task: numbers[task] - shares[task] * total)[: max(0, left)]:
        numbers[task] += 1
    return numbers
