"""Prompts from real paragraphs, none of which is used twice, so that no cache helps where none should.

Place in the data's way: the SQuAD paragraphs of the shared data, or of tests/data where that is missing ->
`Paragraphs.take` -> the workloads, which cut them to so many tokens with the model's own tokenizer.

Example:
    >>> Paragraphs(["One two.", "Three four."]).take(3)
    'One two. Three four.'
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DATA_VARIABLE = "LOCALSMITH_SHARED_DATA"

# The tasks stand behind the texts: in front they would be a prefix that every cache knows.
CLIENT_TASK = (
    "Explain the text above to a student in great detail, sentence by sentence, in at least 400 words."
)
SAMPLE_TASK = "Retell the text above in your own words, at full length, in at least 500 words."
REACT_TASK = (
    "Answer the question by steps. In each step write a thought, then one action, search[...] or "
    "lookup[...]; you are then given the observation. Background:"
)


class Paragraphs:
    """Real text, handed out once.

    Args:
        paragraphs: The text; begun anew, with a running number in front, when it is used up.
    """

    def __init__(self, paragraphs: Sequence[str]) -> None:
        if not paragraphs:
            raise ValueError("There are no paragraphs to make prompts of.")
        self._paragraphs = list(paragraphs)
        self._next = 0

    def take(self, num_words: int) -> str:
        """Return whole paragraphs of at least so many words together."""
        taken: list[str] = []
        while sum(len(text.split()) for text in taken) < num_words:
            lap, index = divmod(self._next, len(self._paragraphs))
            taken.append(f"({lap}.{index}) " * (lap > 0) + self._paragraphs[index])
            self._next += 1
        return " ".join(taken)


def real_paragraphs() -> Paragraphs:
    """Return the SQuAD paragraphs; raises OSError where they are missing."""
    named = os.environ.get(DATA_VARIABLE)
    places = [Path(named)] if named else [ROOT.parent / "shared" / "data", ROOT / "tests" / "data"]
    folder = next((place for place in places if (place / "squad" / "articles.jsonl").is_file()), places[-1])
    lines = (folder / "squad" / "articles.jsonl").read_text(encoding="utf-8").splitlines()
    # A paragraph of each article in turn: neighbours in a prompt should not be about the same thing.
    articles = [json.loads(line)["paragraphs"] for line in lines]
    longest = max(len(article) for article in articles)
    return Paragraphs([article[i] for i in range(longest) for article in articles if i < len(article)])
