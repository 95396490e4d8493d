"""All that is done to data between import and training, as one value that is kept beside what came of it.

Place in the data's way: command options or a page's fields -> `Recipe` -> `prepare` -> recipe.json in the
data version's folder.

Example:
    >>> recipe = Recipe(filters=FilterRecipe(languages=("en",)), held_out_share=0.05)
    >>> recipe_from_json(recipe_to_json(recipe)) == recipe
    True
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from ...core.errors import DatasetError
from .filter_recipe import FilterRecipe
from .mix import MixRecipe

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True)
class Recipe:
    """How rows become a data version.

    Attributes:
        filters: The quality filter's settings.
        mix: How tasks are mixed in training; None to train on every row once.
        held_out_share: Chance of a row that stands alone to be held out, from 0, below 1.
        split_threshold: Jaccard similarity from which two rows are never parted, 0.7 to 1.
        seed: Seed of wordings, split and mixture.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    filters: FilterRecipe = field(default_factory=FilterRecipe)
    mix: MixRecipe | None = None
    held_out_share: float = 0.1
    split_threshold: float = 0.8
    seed: int = 7

    def __post_init__(self) -> None:
        """Refuse what could not be split.

        Raises:
            ValueError: A value is out of range.
        """
        if not 0 <= self.held_out_share < 1:
            raise ValueError(f"held_out_share must be from 0 and below 1, not {self.held_out_share!r}")
        if not 0.7 <= self.split_threshold <= 1:
            raise ValueError(f"split_threshold must be from 0.7 to 1, not {self.split_threshold!r}")


def recipe_to_json(recipe: Recipe) -> dict[str, Any]:
    """Return what `recipe_from_json` makes the recipe from again."""
    raw: dict[str, Any] = _adapter().dump_python(recipe, mode="json")
    return raw


def recipe_from_json(raw: Any) -> Recipe:
    """Return the recipe that a JSON value describes; what it doesn't name is as by default.

    Raises:
        DatasetError: A setting is unknown, of the wrong type or out of range.
    """
    try:
        return _adapter().validate_python(raw)
    except ValueError as exc:
        raise DatasetError(
            f"The recipe is not valid: {faults_of(exc)}.",
            hint="docs/reference/training-data.md lists the settings.",
        ) from exc


def faults_of(error: ValueError, *more: type) -> str:
    """Return what pydantic found wrong, setting by setting, with the nearest name for an unknown one.

    Args:
        error: What it raised.
        more: Dataclasses beside the recipe's whose settings may be meant.
    """
    if not hasattr(error, "errors"):
        return str(error)
    kinds = (Recipe, FilterRecipe, MixRecipe, *more)
    known = [name.name for kind in kinds for name in dataclasses.fields(kind)]
    words = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        said = str(fault["msg"]).removeprefix("Value error, ")
        if fault["type"] == "unexpected_keyword_argument":
            near = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1)
            said = f"there is no such setting{f'; did you mean {near[0]}?' if near else ''}"
        words.append(f"{place}: {said}" if place else said)
    return "; ".join(words)


@cache
def _adapter() -> TypeAdapter[Recipe]:
    from pydantic import TypeAdapter

    return TypeAdapter(Recipe)
