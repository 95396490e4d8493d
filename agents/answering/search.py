"""Search with the question as asked and as rewritten, and tell when the documents have nothing on it.

Place in the data's way: question -> `search_both` -> passages -> `is_hopeless` -> the budget, or an
abstention that costs no model time.

Example:
    passages = search_both(retriever, question, query, k=8)
    is_hopeless(query, passages)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from ...core.contracts import Retriever
from ...core.errors import RetrievalError
from ...core.types import Passage, Question
from ...retrieval.words import content_words

_log = structlog.get_logger(__name__)

# Reciprocal rank fusion, k = 60. Source: Cormack, Clarke, Buettcher, SIGIR 2009, section 2.
RRF_K = 60
# Below both, no passage has anything to do with the question; measured in
# docs/decisions/0006-budget-and-citations.md.
MIN_SIMILARITY = 0.15
MIN_SHARED_WORDS = 1
# Results among which the passages read are looked for again; they lie near to whatever answers the question.
NUM_NEAR = 20


def search_both(retriever: Retriever, question: Question, query: str, k: int) -> list[Passage]:
    """Search with the question and, where it differs, the rewritten query; fuse the rankings.

    Args:
        retriever: Finds passages.
        question: The question as asked.
        query: The question as rewritten, or its text.
        k: Passages wanted.

    Returns:
        Up to `k` passages, best first, ranks from 1; none where the question names no collection.

    Raises:
        IndexNotFoundError: The collection does not exist.
    """
    if question.collection is None:
        return []
    queries = dict.fromkeys([query, question.text])
    found = [retriever.search(text, question.collection, k, question.document_ids) for text in queries]
    return found[0] if len(found) == 1 else fuse(found, k)


def fuse(rankings: Sequence[Sequence[Passage]], k: int) -> list[Passage]:
    """Return the `k` best passages of several rankings by reciprocal rank fusion, each once."""
    scores: dict[str, float] = {}
    best: dict[str, Passage] = {}
    for ranking in rankings:
        for passage in ranking:
            key = passage.chunk.id
            scores[key] = scores.get(key, 0.0) + 1 / (RRF_K + passage.rank)
            if key not in best or (passage.similarity or -1) > (best[key].similarity or -1):
                best[key] = passage
    order = sorted(scores, key=lambda key: -scores[key])[:k]
    return [replace(best[key], rank=rank, score=scores[key]) for rank, key in enumerate(order, start=1)]


def is_hopeless(query: str, passages: Sequence[Passage]) -> bool:
    """Tell whether no passage has anything to do with the query: neither its meaning nor its words.

    Passages whose similarity was not computed count as related.
    """
    asked = content_words(query)
    for passage in passages:
        if passage.similarity is None or passage.similarity >= MIN_SIMILARITY:
            return False
        if len(asked & content_words(passage.chunk.text)) >= MIN_SHARED_WORDS:
            return False
    return True


def nearness(
    retriever: Retriever, question: Question, claim: str, passages: Sequence[Passage]
) -> list[float]:
    """Return how near in meaning passages are to a question with its answer, as search sees it.

    Args:
        retriever: Found the passages.
        question: What they were found for.
        claim: A sentence of the answer.
        passages: What the model read.

    Returns:
        A cosine for each passage, -1 where the search doesn't find it again.
    """
    if question.collection is None:
        return []
    documents = tuple(dict.fromkeys(passage.chunk.document_id for passage in passages))
    try:
        found = retriever.search(f"{question.text} {claim}", question.collection, NUM_NEAR, documents)
    except RetrievalError as exc:  # the collection may have gone meanwhile; the answer is there and stays
        _log.warning("nearness_unknown", error=str(exc))
        return []
    near = {passage.chunk.id: passage.similarity for passage in found}
    cosines = [near.get(passage.chunk.id) for passage in passages]
    return [-1.0 if cosine is None else cosine for cosine in cosines]
