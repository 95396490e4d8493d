"""A person's facts found by meaning: those a question is about, and those that say the same as another.

Place in the data's way: `core.memory_store` holds facts and their vectors, the embedder makes the missing
ones; `agents/memory.py` asks here which facts go into the prompt and whether a new one is new.

Example:
    index = FactIndex(store, embedder)
    index.relevant("What should I cook?", user="", limit=5)
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...core.contracts import Embedder
from ...core.memory_rows import normalised
from ...core.memory_store import Fact, MemoryStore
from ...retrieval.words import content_words, names, numbers

# Cosines of all-MiniLM-L6-v2, measured on 17 questions and 15 facts (docs/how-to/memory.md): facts a question
# turns on lie at 0.26 and above, the others mostly below 0.25.
MIN_RELEVANCE = 0.25
# "I'm a nurse in Leeds" and "I work as a nurse in Leeds" 0.96, "I like tea" and "I don't like tea" 0.81;
# names and numbers are compared apart, for "two daughters" and "three daughters" lie at 0.95.
SAME_MEANING = 0.9
# "Forget that I live in York" may say it in other words: "I live in York" and "My home is in York" 0.74.
ABOUT_THE_SAME = 0.7
# How answers are to be given matters to every question, whatever it is about.
_STYLE = re.compile(
    r"\b(?:answers?|answered|repl(?:y|ies)|responses?|explanations?|call me)\b", re.IGNORECASE
)


class FactIndex:
    """Facts by meaning; by their words alone where there is no embedder."""

    def __init__(self, store: MemoryStore, embedder: Embedder | None = None) -> None:
        """Keep the parts; nothing is read yet.

        Args:
            store: Where the facts are.
            embedder: Makes their vectors; None for comparing words only.
        """
        self._store = store
        self._embedder = embedder

    def relevant(self, question: str, user: str, limit: int) -> list[Fact]:
        """Return the facts that a question may turn on, the nearest first, at most `limit`.

        Raises:
            StorageError: The store can't be read.
        """
        facts = self._store.facts(user)
        if not facts or limit < 1:
            return []
        scores = self._scores(question, facts)
        threshold = MIN_RELEVANCE if self._embedder else 0.0
        for i, fact in enumerate(facts):
            if _STYLE.search(fact.text):
                scores[i] = 1.0
        order = sorted(range(len(facts)), key=lambda i: -scores[i])
        return [facts[i] for i in order[:limit] if scores[i] > threshold]

    def same(self, text: str, user: str) -> Fact | None:
        """Return a fact that says the same as `text`, or None."""
        facts = self._store.facts(user)
        for fact in facts:
            if normalised(fact.text) == normalised(text):
                return fact
        if not facts or self._embedder is None:
            return None
        scores = self._scores(text, facts)
        nearest = int(np.argmax(scores))
        is_same = scores[nearest] >= SAME_MEANING and _details(text) == _details(facts[nearest].text)
        return facts[nearest] if is_same else None

    def about(self, text: str, user: str) -> list[Fact]:
        """Return the facts that "forget that …" means: with all its words, or very near in meaning."""
        facts = self._store.facts(user)
        asked = content_words(text)
        if not facts or not asked:
            return []
        found = [fact for fact in facts if asked <= content_words(fact.text)]
        if found or self._embedder is None:
            return found
        scores = self._scores(text, facts)
        return [fact for fact, score in zip(facts, scores, strict=True) if score >= ABOUT_THE_SAME]

    def embed(self, user: str) -> None:
        """Make the vectors that are missing, so that no question waits for them."""
        self._vectors(self._store.facts(user))

    def _scores(self, text: str, facts: Sequence[Fact]) -> npt.NDArray[np.float32]:
        """Return (len(facts),) float32: cosines, or shares of common words."""
        if self._embedder is None:
            asked = content_words(text)
            shares = [len(asked & content_words(fact.text)) / max(1, len(asked)) for fact in facts]
            return np.array(shares, dtype=np.float32)
        vectors = self._vectors(facts)  # (len(facts), d_embed)
        query = self._embedder.encode([text])[0]  # (d_embed,)
        scores: npt.NDArray[np.float32] = vectors @ query
        return scores

    def _vectors(self, facts: Sequence[Fact]) -> npt.NDArray[np.float32]:
        """Return (len(facts), d_embed) float32, from the store where they are there."""
        if self._embedder is None or not facts:
            return np.zeros((len(facts), 0), dtype=np.float32)
        stored = self._store.vectors(facts[0].user, self._embedder.name)
        missing = [fact for fact in facts if fact.id not in stored]
        if missing:
            made = self._embedder.encode([fact.text for fact in missing])
            new = {fact.id: (fact.text, vector.tobytes()) for fact, vector in zip(missing, made, strict=True)}
            self._store.save_vectors(new, self._embedder.name)
            stored |= {fact_id: vector for fact_id, (_, vector) in new.items()}
        return np.stack([np.frombuffer(stored[fact.id], dtype=np.float32) for fact in facts])


def _details(text: str) -> set[str]:
    """Return what makes two like sentences different facts: names, numbers, and whether it is denied."""
    denied = {"not"} if {"not", "no", "never", "t"} & set(normalised(text).split()) else set()
    return names(text) | numbers(text) | denied
