"""What the tests of documents and search share: a library with the real loaders in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from localsmith.core.settings import RetrievalSettings
from localsmith.models.embedding.fake import HashingEmbedder
from localsmith.retrieval.library import Library
from localsmith.retrieval.loaders import load_document


class InProcessParser:
    """The real loaders in this process; the names it was asked for are kept."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def parse(self, path, name):
        self.names.append(name)
        return load_document(path, name)


@pytest.fixture
def parser() -> InProcessParser:
    return InProcessParser()


@pytest.fixture
def open_library(tmp_path: Path, parser: InProcessParser) -> Iterator[Callable[..., Library]]:
    """Opens the library of this test, as often as wanted; all are closed at the end."""
    opened = []

    def open_(embedder=None, folder: Path | None = None, **settings) -> Library:
        embedder = embedder or HashingEmbedder()
        library = Library(
            folder or tmp_path / "library", embedder, RetrievalSettings(**settings), parser=parser
        )
        opened.append(library)
        return library

    yield open_
    for library in opened:
        library.close()


@pytest.fixture
def library(open_library: Callable[..., Library]) -> Library:
    return open_library()
