"""Which rules a data set goes through, as settings that can be kept and run again.

Place in the data's way: a recipe file or the command's options -> the rules in the order in which they run,
the cheap ones first -> `filter.filtered`.

Example:
    >>> [rule.name for rule in filter_rules(FilterRecipe())]
    ['exact duplicates', 'repetition', 'near-duplicates']
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .duplicates import ExactDuplicateRule, NearDuplicateRule
from .filter import OnRows, Rule
from .language import LanguageRule
from .length import CountTokens, LengthRule, WordsRule
from .near_duplicates import THRESHOLD
from .perplexity import Perplexity, PerplexityRule
from .personal_data import PersonalDataAction, PersonalDataRule
from .repetition import RepetitionRule
from .toxicity import ToxicityRule


@dataclass(frozen=True, slots=True)
class FilterRecipe:
    """Settings of the quality filter; what is off by default may not fit a person's data.

    Attributes:
        exact_duplicates: Drop rows that occurred before.
        min_words: Least words of a row; 0 for no limit.
        max_words: Most words of a row; None for no limit.
        min_tokens: Least tokens of a row; 0 for no limit.
        max_tokens: Most tokens of a row; None for no limit.
        languages: ISO 639-1 codes of the languages to keep; empty for all.
        repetition: Drop rows that repeat themselves.
        toxicity: Drop rows with words of the list.
        personal_data: "keep", "redact" or "drop".
        near_duplicates: Jaccard similarity from which a row is dropped, 0.7 to 1; None to keep
            near-duplicates.
        highest_perplexity_share: Share of the rows to drop as strangest to the model.
        lowest_perplexity_share: Share of the rows to drop as least surprising.
        measured_by: Model whose tokens and perplexity are meant, for people; "" where neither is used.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    exact_duplicates: bool = True
    min_words: int = 0
    max_words: int | None = None
    min_tokens: int = 0
    max_tokens: int | None = None
    languages: tuple[str, ...] = ()
    repetition: bool = True
    toxicity: bool = False
    personal_data: PersonalDataAction = "keep"
    near_duplicates: float | None = THRESHOLD
    highest_perplexity_share: float = 0.0
    lowest_perplexity_share: float = 0.0
    measured_by: str = ""

    @property
    def needs_model(self) -> bool:
        """Whether a model's tokens or perplexity are asked for."""
        shares = self.highest_perplexity_share or self.lowest_perplexity_share
        return bool(self.min_tokens or self.max_tokens is not None or shares)


def filter_rules(
    recipe: FilterRecipe,
    count_tokens: CountTokens | None = None,
    perplexity: Perplexity | None = None,
    on_measured: OnRows | None = None,
) -> list[Rule]:
    """Return the rules that a recipe asks for, in order.

    Args:
        recipe: The settings.
        count_tokens: The model's tokenizer; needed where the recipe limits tokens.
        perplexity: The model's perplexity; needed where the recipe has shares of it.
        on_measured: Told while the model reads all rows, which it does before one of them is judged.

    Raises:
        ValueError: A setting is out of range, or what measures it was not given.
    """
    rules: list[Rule] = []
    if recipe.exact_duplicates:
        rules.append(ExactDuplicateRule())
    if recipe.min_words or recipe.max_words is not None:
        rules.append(WordsRule(min_words=recipe.min_words, max_words=recipe.max_words))
    if recipe.min_tokens or recipe.max_tokens is not None:
        if count_tokens is None:
            raise ValueError("the recipe limits tokens, but count_tokens is None")
        rules.append(
            LengthRule(count_tokens=count_tokens, min_tokens=recipe.min_tokens, max_tokens=recipe.max_tokens)
        )
    if recipe.languages:
        rules.append(LanguageRule(recipe.languages))
    if recipe.repetition:
        rules.append(RepetitionRule())
    if recipe.toxicity:
        rules.append(ToxicityRule())
    if recipe.personal_data != "keep":
        rules.append(PersonalDataRule(recipe.personal_data))
    if recipe.near_duplicates is not None:
        rules.append(NearDuplicateRule(recipe.near_duplicates))
    if recipe.highest_perplexity_share or recipe.lowest_perplexity_share:
        if perplexity is None:
            raise ValueError("the recipe has shares of perplexity, but perplexity is None")
        rules.append(
            PerplexityRule(
                perplexity,
                highest_share=recipe.highest_perplexity_share,
                lowest_share=recipe.lowest_perplexity_share,
                on_measured=on_measured,
            )
        )
    return rules
