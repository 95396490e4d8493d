"""The small documents of the first visit, and the collection they stand in.

Place in the data's way: set-up adds these files to the collection `COLLECTION`; the pages know by that name
that nobody's own documents are being asked. Without Streamlit, so that set-up needn't load it.

Example:
    >>> [path.name for path in welcome_files()]
    ['adding-documents.md', 'sources-and-privacy.md', 'what-localsmith-does.md']
"""

from __future__ import annotations

from pathlib import Path

COLLECTION = "welcome"


def welcome_files() -> list[Path]:
    """Return the documents that set-up adds to the collection `COLLECTION`."""
    return sorted((Path(__file__).parent / "welcome").glob("*.md"))
