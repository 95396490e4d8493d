"""Keeps rows in the languages asked for.

Place in the data's way: one stage of the quality filter.

Example:
    rule = LanguageRule(("en", "de"))
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from .filter import Judgement
from .rows import TrainingRow

# Of shorter texts the language can't be told: "OK" is in all of them.
MIN_LETTERS = 40
MIN_PROBABILITY = 0.9


class LanguageRule:
    """Drops a row whose text is surely in another language.

    The text is the row's last prompt message and its completion together, told by py3langid's naive Bayes
    model of 140 languages (Lui and Baldwin 2012, "langid.py"). A row of fewer than 40 letters, or one of
    which the model is less than 90 % sure, stays. So does text that mixes languages, and code, wherever the
    model isn't sure.
    """

    name = "language"

    def __init__(self, languages: tuple[str, ...]) -> None:
        """Load the model, which comes with the library.

        Args:
            languages: ISO 639-1 codes to keep, at least one.

        Raises:
            ValueError: A code is unknown to the model, or there is none.
        """
        self._model = _model()
        known = {str(label) for label in self._model.labels}
        if not languages or not set(languages) <= known:
            raise ValueError(f"languages must be among {sorted(known)}, not {languages!r}")
        self._languages = frozenset(languages)

    def judge(self, rows: Iterable[TrainingRow]) -> Iterator[Judgement]:
        """Judge each row by itself."""
        for row in rows:
            text = f"{row.prompt[-1].content}\n{row.completion}"
            if sum(character.isalpha() for character in text) < MIN_LETTERS:
                yield Judgement(row)
                continue
            language, probability = self._model.classify(text)
            is_other = language not in self._languages and probability >= MIN_PROBABILITY
            yield Judgement(None, f"language {language}") if is_other else Judgement(row)


@cache
def _model() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
