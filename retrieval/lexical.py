"""Full-text search: how text and questions are brought into one form, and BM25 over SQLite's FTS5.

Place in the data's way: the store writes a row for every searchable chunk in the same transaction as the
chunk; `search.py` fuses this ranking with the vectors'. No text of a person can become FTS5 syntax: a
question is cut into words and every word is quoted.

Example:
    >>> match_expression('Who wrote "NEAR(" in 東京都?')
    '"wrote" OR "NEAR" OR "東京" OR "京都"'
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from collections.abc import Sequence

MAX_QUERY_WORDS = 64
# The title and headings of a chunk count less than its text; tuned with `search.py`'s weights.
CONTEXT_WEIGHT = 0.5
TEXT_WEIGHT = 1.0

# Scripts written without spaces: Thai, Lao, Myanmar, Khmer, kana, Han, and Hangul, whose words carry
# particles.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
    "\uf900-\ufaff\U00020000-\U000323af]+"
)
_STOP_WORDS = frozenset(
    """a about after all also am an and any are as at be been before being both but by can could did do does
    doing during each for from had has have having he her here hers him his how i if in into is it its itself
    just me might more most must my no nor not of on or other our ours out own shall she should so some such
    than that the their theirs them then there these they this those through to too under until upon us very
    was we were what when where which while who whom whose why will with would you your yours""".split()
)


def searchable(text: str) -> str:
    """Return the form of a text that is indexed: compatibility characters folded, unspaced scripts in pairs.

    A run of Chinese, Japanese, Korean or Thai becomes its overlapping pairs of characters and its last
    character, so that words are found without a dictionary.

    Source: the bigram method of Lucene's CJKBigramFilter.
    """
    folded = unicodedata.normalize("NFKC", text).replace("\0", " ")
    return _UNSPACED.sub(lambda run: f" {' '.join([*_pairs(run[0]), run[0][-1]])} ", folded)


def match_expression(question: str) -> str:
    """Return the FTS5 expression for a question, or "" where it has no words.

    Words are joined by OR: BM25 then ranks by how many and how rare they are. Stop words are left out unless
    there is nothing else.
    """
    words = _words(unicodedata.normalize("NFKC", question))
    telling = [word for word in words if word.casefold() not in _STOP_WORDS] or words
    terms: dict[str, None] = {}
    for word in telling:
        for term in _terms(word):
            terms.setdefault(term)
    return " OR ".join(list(terms)[:MAX_QUERY_WORDS])


def create_table(db: sqlite3.Connection, collection_id: int) -> None:
    """Create the full-text table of a collection."""
    db.execute(
        f"CREATE VIRTUAL TABLE {table_name(collection_id)} USING fts5("
        "context, text, tokenize = 'porter unicode61 remove_diacritics 2')"
    )


def drop_table(db: sqlite3.Connection, collection_id: int) -> None:
    """Drop the full-text table of a collection."""
    db.execute(f"DROP TABLE {table_name(collection_id)}")


def table_name(collection_id: int) -> str:
    """Return the name of a collection's full-text table."""
    return f"fulltext_{int(collection_id)}"


def rank(
    db: sqlite3.Connection, collection_id: int, question: str, depth: int, document_ids: Sequence[str] = ()
) -> list[int]:
    """Return the ids of up to `depth` chunks, best BM25 first.

    Args:
        db: A connection inside a transaction.
        collection_id: The collection to search.
        question: Any text.
        depth: Chunks wanted.
        document_ids: Only chunks of these documents; empty for all.
    """
    expression = match_expression(question)
    if not expression:
        return []
    table = table_name(collection_id)
    only, arguments = "", [expression]
    if document_ids:
        marks = ",".join("?" * len(document_ids))
        only = (
            "AND rowid IN (SELECT k.id FROM chunks k JOIN documents d ON d.seq = k.document_seq "
            f"WHERE d.id IN ({marks}))"
        )
        arguments += document_ids
    rows = db.execute(
        f"SELECT rowid FROM {table} WHERE {table} MATCH ? {only} "
        f"ORDER BY bm25({table}, {CONTEXT_WEIGHT}, {TEXT_WEIGHT}), rowid LIMIT {int(depth)}",
        arguments,
    )
    return [row[0] for row in rows]


def _words(text: str) -> list[str]:
    """Cut at everything but letters, numbers and the marks that belong to letters."""
    return "".join(char if unicodedata.category(char)[0] in "LNM" else " " for char in text).split()


def _terms(word: str) -> list[str]:
    """Quote a word; one of an unspaced script becomes its pairs, a single character a prefix of pairs."""
    terms, end = [], 0
    for run in _UNSPACED.finditer(word):
        terms += [f'"{word[end : run.start()]}"'] if run.start() > end else []
        terms += [f'"{pair}"' for pair in _pairs(run[0])] or [f'"{run[0]}"*']
        end = run.end()
    return terms + ([f'"{word[end:]}"'] if end < len(word) else [])


def _pairs(run: str) -> list[str]:
    return [run[i : i + 2] for i in range(len(run) - 1)]
