"""The documents of an evaluation, in a library of their own beside the person's.

Place in the data's way: the articles of a corpus file -> a folder under the data folder, named after what is
in them and how they are cut -> `Library`. Indexed once, the next run starts at once; a run that was killed
while indexing goes on with what is missing.

Example:
    library = Library(corpus_dir(settings, articles), embedder, settings.retrieval)
    ids = add_corpus(library, articles)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .core.settings import Settings
    from .core.types import Document
    from .evaluation.question_files import Article
    from .retrieval.library import Library

OnIndexed = Callable[[int, int], None]
"""Called with (documents done, documents in all)."""


def corpus_dir(settings: Settings, articles: Sequence[Article]) -> Path:
    """Return the folder of a corpus's library; no articles have an empty library of their own."""
    digest = hashlib.sha256("\0".join(f"{a.file_name}\0{a.text}" for a in articles).encode()).hexdigest()
    retrieval = settings.retrieval
    cut = f"{retrieval.chunk_tokens}-{retrieval.chunk_overlap_tokens}"
    return settings.home / "evaluation" / f"{digest[:16]}-{cut}"


def add_corpus(
    library: Library, articles: Sequence[Article], on_indexed: OnIndexed | None = None
) -> dict[str, str]:
    """Add what is missing.

    Args:
        library: The corpus's library.
        articles: The corpus.
        on_indexed: Told how far it is.

    Returns:
        Document ids by file name.
    """
    documents: dict[str, Document] = {document.name: document for document in library.documents()}
    for done, article in enumerate(articles, start=1):
        if article.file_name not in documents:
            document = library.add(article.text.encode(), name=article.file_name)
            documents[article.file_name] = document
        if on_indexed:
            on_indexed(done, len(articles))
    return {name: document.id for name, document in documents.items()}
