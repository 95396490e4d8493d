"""Drops rows that insult, threaten or talk obscenely, by a word list.

Place in the data's way: one stage of the quality filter, off unless asked for.

Example:
    >>> toxicity_fault("You are a worthless piece of shit."), toxicity_fault("Scunthorpe and Essex")
    ('obscenity', '')
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from .filter import Judgement
from .rows import TrainingRow

# Words that are seldom said without offence, in English. Left out on purpose: words for people and bodies
# that are insults only in some mouths, since a list that drops every text about minorities does more harm
# than good (Dodge et al. 2021, "Documenting Large Webtext Corpora", section 5.3).
_KINDS: tuple[tuple[str, str], ...] = (
    (
        "obscenity",
        r"(?:mother)?fuck(?:s|ed|er|ers|ing)?|(?:bull)?shit(?:s|ty)?|cunts?|cocksuckers?|wank(?:er|ers|ing)",
    ),
    (
        "insult",
        r"assholes?|arseholes?|bitch(?:es)?|bastards?|dickheads?|douchebags?|sluts?|whores?|retards?|morons?",
    ),
    ("slur", r"nigg(?:er|a)s?|fagg?ots?|kikes?|spics?|chinks?|wetbacks?|trann(?:y|ies)|ragheads?"),
    (
        "threat",
        r"(?:kill|hang|shoot) yourself"
        r"|(?:i(?:'ll| will| am going to)|i'm gonna) (?:kill|rape|stab|murder) you",
    ),
)
_PATTERNS = tuple((kind, re.compile(rf"\b(?:{words})\b", re.IGNORECASE)) for kind, words in _KINDS)


class ToxicityRule:
    """Drops a row in which a word of the list occurs, in the prompt or in the completion.

    A list knows neither irony nor quotation nor politeness: hatred in polite words stays, a novel's dialogue
    goes. It knows English only, and no spelling meant to deceive it.
    """

    name = "toxicity"

    def judge(self, rows: Iterable[TrainingRow]) -> Iterator[Judgement]:
        """Judge each row by itself."""
        for row in rows:
            fault = toxicity_fault(row.text)
            yield Judgement(None, fault) if fault else Judgement(row)


def toxicity_fault(text: str) -> str:
    """Return the kind of listed word that a text has: obscenity, insult, slur or threat; "" for none."""
    text = text.replace("\u2019", "'")
    return next((kind for kind, pattern in _PATTERNS if pattern.search(text)), "")
