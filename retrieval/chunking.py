r"""A document's text to chunks that the embedding model reads whole.

Place in the data's way: `LoadedDocument` -> `split` -> `ChunkDraft`s -> the library, which gives them
identifiers. The length is counted by the embedding model's own tokenizer, on the very text of the chunk.
Borders are sought in this order: section, block, sentence (or table row), word, token.

The document is tokenised once, block by block; where a chunk ends is then arithmetic on token positions,
and each chunk is tokenised once more to be sure.

Example:
    >>> import re
    >>> from .loaded import Block
    >>> words = lambda text: [match.span() for match in re.finditer(r"\S+", text)]
    >>> document = LoadedDocument("text/plain", (Block("One two. Three four five."),), None)
    >>> [draft.text for draft in split(document, words, chunk_tokens=3, overlap_tokens=0)]
    ['One two.', 'Three four five.']
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..core.types import Box
from .loaded import LoadedDocument
from .sections import Section, joined, place, sections

TokenSpans = Callable[[str], list[tuple[int, int]]]
"""Returns the (start_char, end_char) of every token of a text, special tokens left out."""

_SENTENCE_END = re.compile(r"""(?:[.!?…]["'”’»)\]]*(?=\s)|[。！？；｡]["”’」』）]*|\n)\s*""")
_LINE_END = re.compile(r"\n")
_WHITE = re.compile(r"\s")
_NOT_WHITE = re.compile(r"\S")
_TOKENISED_CHARS = 100_000
_WORD_SEARCH_CHARS = 2_000
MIN_FILL = 0.5
BALANCED_BELOW = 1.6


@dataclass(frozen=True, slots=True)
class ChunkDraft:
    """A chunk before the library has given it an identifier; see `core.types.Chunk` for the fields."""

    text: str
    start_char: int
    end_char: int
    page: int | None
    headings: tuple[str, ...]
    num_tokens: int
    boxes: tuple[Box, ...] = ()


def split(
    document: LoadedDocument, token_spans: TokenSpans, chunk_tokens: int, overlap_tokens: int
) -> list[ChunkDraft]:
    """Cut a document into chunks.

    Args:
        document: What the loader gave.
        token_spans: The embedding model's tokenizer.
        chunk_tokens: Longest chunk, at least 1.
        overlap_tokens: At most so many tokens of whole sentences are repeated at the beginning of the next
            chunk of the same section; less than `chunk_tokens`.

    Returns:
        The chunks in order. All text but white space is covered, each `text` is
        `document.text[start_char:end_char]`, and `num_tokens` never exceeds `chunk_tokens` unless a single
        character does.

    Raises:
        ValueError: The sizes contradict each other.
    """
    if chunk_tokens < 1:
        raise ValueError(f"chunk_tokens must be at least 1, got {chunk_tokens}")
    if not 0 <= overlap_tokens < chunk_tokens:
        raise ValueError(f"overlap_tokens must be 0 to {chunk_tokens - 1}, got {overlap_tokens}")
    return _Splitter(document, token_spans, chunk_tokens, overlap_tokens).run()


class _Splitter:
    def __init__(
        self, document: LoadedDocument, token_spans: TokenSpans, chunk_tokens: int, overlap_tokens: int
    ) -> None:
        self._text = document.text
        self._token_spans = token_spans
        self._limit = chunk_tokens
        self._overlap = overlap_tokens
        self._has_boxes = any(block.lines for block in document.blocks)
        self._blocks = list(place(document.blocks))
        self._block_starts = [placed.start for placed in self._blocks]
        self._tokens = self._tokenise()
        self._sentences: list[int] = []  # where sentences and table rows begin, and where blocks end
        self._repeatable: list[int] = []  # those of them where an overlap may begin
        self._find_sentences()

    def run(self) -> list[ChunkDraft]:
        drafts: list[ChunkDraft] = []
        for section in joined(
            sections(self._blocks, self._has_boxes), self._has_boxes, self._count, self._limit
        ):
            drafts += self._split_section(section)
        return drafts

    def _tokenise(self) -> list[int]:
        starts: list[int] = []
        for placed in self._blocks:
            text, offset = placed.block.text, placed.start
            for begin, end in _pieces(text):
                starts += [offset + begin + span[0] for span in self._token_spans(text[begin:end])]
        return starts

    def _find_sentences(self) -> None:
        for placed in self._blocks:
            kind = placed.block.kind
            pattern = _LINE_END if kind in ("table", "code") else _SENTENCE_END
            starts = [placed.start + match.end() for match in pattern.finditer(placed.block.text)]
            self._sentences += starts
            self._sentences.append(placed.end)
            if kind in ("paragraph", "list"):
                self._repeatable += [placed.start, *starts]

    def _count(self, start: int, end: int) -> int:
        return bisect_left(self._tokens, end) - bisect_left(self._tokens, start)

    def _split_section(self, section: Section) -> Iterator[ChunkDraft]:
        start, covered, end = section.start, section.start, section.end
        while True:
            match = _NOT_WHITE.search(self._text, start, end)
            if match is None:
                return
            start = match.start()
            draft = self._draft(start, self._choose_end(start, end))
            if draft.end_char <= covered and start < covered:
                start = covered  # the overlap left no room for anything new
                continue
            yield draft
            covered = draft.end_char
            if _NOT_WHITE.search(self._text, covered, end) is None:
                return
            start = self._next_start(draft)

    def _choose_end(self, start: int, end: int) -> int:
        first = bisect_left(self._tokens, start)
        total = bisect_left(self._tokens, end) - first
        if total <= self._limit:
            return end
        # Two chunks of equal size are better than a full one and a rest.
        room = self._limit if total > BALANCED_BELOW * self._limit else min(self._limit, int(total * 0.6) + 1)
        stop = self._tokens[first + room]
        half = self._tokens[first + int(MIN_FILL * room)]
        at = bisect_right(self._block_starts, stop) - 1
        if at >= 0 and self._block_starts[at] > half:
            return self._before_heading(at, half)
        at = bisect_right(self._sentences, stop) - 1
        if at >= 0 and self._sentences[at] > self._tokens[first + room // 4]:
            return self._sentences[at]
        return self._word_border(start, stop)

    def _before_heading(self, at: int, least: int) -> int:
        # Never leave a heading at the foot of a chunk without a word of its section.
        chosen = at
        while chosen > 0 and self._blocks[chosen - 1].block.kind == "heading":
            chosen -= 1
        return self._block_starts[chosen] if self._block_starts[chosen] > least else self._block_starts[at]

    def _word_border(self, start: int, stop: int) -> int:
        for position in range(stop, max(start, stop - _WORD_SEARCH_CHARS), -1):
            if _WHITE.match(self._text[position - 1]):
                return position
        position = stop
        # Not between a letter and its accent, nor within a composed emoji.
        while position > start + 1 and stop - position < 32 and _joins(self._text, position):
            position -= 1
        return position if position > start + 1 else max(stop, start + 1)

    def _draft(self, start: int, end: int) -> ChunkDraft:
        while True:
            text = self._text[start:end].rstrip()
            spans = self._token_spans(text)
            if len(spans) <= self._limit or len(text) <= 1:
                return self._finished(start, start + len(text), text, len(spans))
            # Out of its surroundings a text may give more tokens: cut where the last that fits ends.
            cut = start + max(spans[self._limit][0], 1)
            shorter = self._word_border(start, cut) if cut - start > 1 else cut
            end = shorter if start < shorter < start + len(text) else start + max(len(text) - 1, 1)

    def _next_start(self, draft: ChunkDraft) -> int:
        if not self._overlap:
            return draft.end_char
        last = bisect_left(self._tokens, draft.end_char)
        earliest = self._tokens[max(last - self._overlap, 0)] if last else draft.end_char
        at = bisect_left(self._repeatable, max(earliest, draft.start_char + 1))
        if at < len(self._repeatable) and self._repeatable[at] < draft.end_char:
            start = self._repeatable[at]
            block = self._blocks[bisect_right(self._block_starts, draft.end_char - 1) - 1]
            # A table has no sentences: what stands before it is not repeated in front of its rows.
            return start if block.block.kind in ("paragraph", "list") else draft.end_char
        return draft.end_char

    def _finished(self, start: int, end: int, text: str, num_tokens: int) -> ChunkDraft:
        first = bisect_right(self._block_starts, start) - 1
        placed = self._blocks[first : bisect_left(self._block_starts, end)]
        # Titles above a text count, not the way down to it: "Guide", "Install", text stands under both.
        bodies = [item for item in placed if item.block.kind != "heading"] or placed
        headings = _common([item.headings for item in bodies])
        boxes = tuple(
            line.box
            for item in placed
            for line in item.block.lines
            if item.start + line.start_char < end and item.start + line.end_char > start
        )
        page = boxes[0].page if boxes else placed[0].block.page
        return ChunkDraft(text, start, end, page, headings, num_tokens, boxes)


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """Yield the spans of a long block's pieces, cut at white space; tokenizers slow down on megabytes."""
    start = 0
    while start < len(text):
        end = min(start + _TOKENISED_CHARS, len(text))
        if end < len(text):
            border = max(text.rfind(" ", start, end), text.rfind("\n", start, end))
            end = border if border > start else end
        yield start, end
        start = end


def _joins(text: str, position: int) -> bool:
    char = text[position]
    return (
        bool(unicodedata.combining(char))
        or "\ufe00" <= char <= "\ufe0f"
        or "\U0001f3fb" <= char <= "\U0001f3ff"
        or "\u200d" in (char, text[position - 1])
    )


def _common(paths: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    shared = paths[0]
    for path in paths[1:]:
        length = 0
        while length < min(len(shared), len(path)) and shared[length] == path[length]:
            length += 1
        shared = shared[:length]
    return shared
