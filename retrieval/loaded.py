r"""What a loader hands on: a document's text in blocks, with pages, headings and boxes.

Place in the data's way: file -> loader -> `LoadedDocument` -> chunking. The document's text is the blocks'
texts joined by a blank line; every character offset from here on counts in that text.

Example:
    >>> LoadedDocument("text/plain", (Block("one"), Block("two")), num_pages=None).text
    'one\n\ntwo'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..core.types import Box

BLOCK_SEPARATOR = "\n\n"


@dataclass(frozen=True, slots=True)
class LineBox:
    """A line of a block and where it stands on the page.

    Attributes:
        start_char: First character of the line in the block's text.
        end_char: One past its last character.
        box: Its rectangle.
    """

    start_char: int
    end_char: int
    box: Box


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, heading, table row group, list or code listing.

    Attributes:
        text: Its text, without leading or trailing white space.
        kind: What it is.
        level: Heading level from 1; 0 for everything else.
        page: Page, slide or sheet number, from 1; None where the format has none.
        lines: Boxes of its lines; empty for formats without layout.
    """

    text: str
    kind: Literal["heading", "paragraph", "list", "table", "code"] = "paragraph"
    level: int = 0
    page: int | None = None
    lines: tuple[LineBox, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadedDocument:
    """A file's content.

    Attributes:
        media_type: IANA media type recognised from the content.
        blocks: The text, in reading order; never empty (a file without text raises `LoadError`).
        num_pages: Pages, slides or sheets; None where the format has none.
        title: Title from the file's metadata, or "".
        warnings: What could not be read, in words for people.
    """

    media_type: str
    blocks: tuple[Block, ...]
    num_pages: int | None
    title: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The document's whole text."""
        return BLOCK_SEPARATOR.join(block.text for block in self.blocks)
