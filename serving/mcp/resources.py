"""The documents of the library as MCP resources: listed in pages, read as text, whole or by span.

Place in the data's way: `resources/list` and `resources/read` -> here -> the library's stored text. Offsets
are those of the passages that `search` returns.

Example:
    >>> Span.of("localsmith://documents/4f2a/100-180")
    Span(document_id='4f2a', start_char=100, end_char=180)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...core.errors import IndexNotFoundError, ToolArgumentError

if TYPE_CHECKING:
    from ...core.types import Document
    from ...retrieval.library import Library

TEMPLATE = "localsmith://documents/{document_id}/{start_char}-{end_char}"
PAGE_SIZE = 100
MAX_TEXT_CHARS = 1_000_000
_ADDRESS = re.compile(r"localsmith://documents/([\w-]{1,64})(?:/(\d{1,9})-(\d{1,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Span:
    """What a resource's address names.

    Attributes:
        document_id: The document.
        start_char: First character wanted.
        end_char: One past the last; None for the document's end.
    """

    document_id: str
    start_char: int = 0
    end_char: int | None = None

    @classmethod
    def of(cls, uri: str) -> Span:
        """Read an address.

        Raises:
            IndexNotFoundError: It names nothing here.
        """
        found = _ADDRESS.fullmatch(uri)
        if found is None:
            raise IndexNotFoundError(
                f"There is no resource {uri[:200]!r}.", hint="resources/list names them."
            )
        if found[2] is None:
            return cls(found[1])
        return cls(found[1], int(found[2]), int(found[3]))


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """A stretch of the list of documents.

    Attributes:
        documents: The documents, of all collections in order.
        next_cursor: Where to go on; None at the end.
    """

    documents: tuple[Document, ...]
    next_cursor: str | None


def list_documents(library: Library, cursor: str | None) -> DocumentPage:
    """Return a page of all documents.

    Args:
        library: The documents.
        cursor: `next_cursor` of the page before; None for the first.

    Raises:
        ToolArgumentError: The cursor is not one of ours.
    """
    if cursor is not None and not re.fullmatch(r"\d{1,9}", cursor, re.ASCII):
        raise ToolArgumentError("This cursor was not given out here.", hint="Start again without one.")
    start, wanted = int(cursor or 0), PAGE_SIZE + 1
    found: list[Document] = []
    for info in library.collections():
        if start >= info.num_documents:
            start -= info.num_documents
            continue
        found += library.documents(info.name)[start : start + wanted - len(found)]
        start = 0
        if len(found) == wanted:
            return DocumentPage(tuple(found[:-1]), str(int(cursor or 0) + PAGE_SIZE))
    return DocumentPage(tuple(found), None)


def read_text(library: Library, uri: str) -> str:
    """Return the text that an address names.

    Raises:
        IndexNotFoundError: There is no such document, or it was removed.
        ToolArgumentError: The text is longer than may be sent at once.
    """
    span = Span.of(uri)
    text = library.text(span.document_id)[span.start_char : span.end_char]
    if len(text) > MAX_TEXT_CHARS:
        raise ToolArgumentError(
            f"The text has {len(text)} characters; at most {MAX_TEXT_CHARS} are sent at once.",
            hint=f"Read it by span, {TEMPLATE}.",
        )
    return text
