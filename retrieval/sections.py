"""Which blocks of a document may share a chunk.

Place in the data's way: `chunking` places the blocks in the document's text, groups them into sections here
and then cuts each section. Sections follow headings; small neighbours are joined, for a chunk of ten words
finds nothing.

Example:
    >>> tea, milk = Block("Tea", "heading", 1), Block("Milk", "heading", 1)
    >>> blocks = [tea, Block("Boil it."), milk, Block("Cool it.")]
    >>> [len(section.blocks) for section in sections(list(place(blocks)), has_boxes=False)]
    [2, 2]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from .loaded import BLOCK_SEPARATOR, Block

SMALL_SECTION = 0.5


@dataclass(frozen=True, slots=True)
class PlacedBlock:
    """A block and where it stands.

    Attributes:
        block: The block.
        start: Its first character in the document's text.
        end: One past its last character.
        headings: Titles above it, outermost first; a heading's own is among them.
    """

    block: Block
    start: int
    end: int
    headings: tuple[str, ...]


@dataclass(slots=True)
class Section:
    """Blocks that may share a chunk: those below one heading, or neighbours too small to stand alone.

    Attributes:
        level: Level of the heading it begins with, 0 for none.
        blocks: Its blocks, never empty.
    """

    level: int
    blocks: list[PlacedBlock]

    @property
    def start(self) -> int:
        """First character in the document's text."""
        return self.blocks[0].start

    @property
    def end(self) -> int:
        """One past the last character."""
        return self.blocks[-1].end


def place(blocks: Sequence[Block]) -> Iterator[PlacedBlock]:
    """Yield every block with its position and the headings above it."""
    start = 0
    stack: list[tuple[int, str]] = []
    for block in blocks:
        if block.kind == "heading":
            while stack and stack[-1][0] >= block.level:
                stack.pop()
            stack.append((block.level, block.text))
        end = start + len(block.text)
        yield PlacedBlock(block, start, end, tuple(title for _, title in stack))
        start = end + len(BLOCK_SEPARATOR)


def sections(blocks: Sequence[PlacedBlock], has_boxes: bool) -> Iterator[Section]:
    """Group blocks below one heading.

    Args:
        blocks: All blocks of the document.
        has_boxes: Whether lines are known by their boxes. Without them a slide or sheet can only be cited by
            its number, so a section stays on one.

    Yields:
        The sections in order; each but the first begins with a heading or on a new page.
    """
    section: Section | None = None
    for placed in blocks:
        block = placed.block
        is_heading = block.kind == "heading"
        if section is not None:
            last = section.blocks[-1].block
            # A heading goes with what follows it, also when that is a deeper heading.
            goes_on = not is_heading or (last.kind == "heading" and block.level >= last.level)
            if goes_on and (has_boxes or last.page == block.page):
                section.blocks.append(placed)
                continue
            yield section
        section = Section(block.level if is_heading else 0, [placed])
    if section is not None:
        yield section


def joined(
    found: Iterable[Section], has_boxes: bool, count: Callable[[int, int], int], limit: int
) -> Iterator[Section]:
    """Join small neighbours, never across a heading of a higher level.

    Args:
        found: The sections.
        has_boxes: See `sections`.
        count: Returns the tokens between two characters of the document's text.
        limit: Longest chunk in tokens.

    Yields:
        Fewer and larger sections.
    """

    def fits(first: Section, second: Section) -> bool:
        if second.level < first.level or (second.level == 0) != (first.level == 0):
            return False
        if not has_boxes and first.blocks[-1].block.page != second.blocks[0].block.page:
            return False
        sizes = count(first.start, first.end), count(second.start, second.end)
        return sum(sizes) <= limit and min(sizes) < SMALL_SECTION * limit

    current: Section | None = None
    for section in found:
        if current is not None and fits(current, section):
            current.blocks += section.blocks
            continue
        if current is not None:
            yield current
        current = section
    if current is not None:
        yield current
