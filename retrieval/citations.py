"""The `[n]` in an answer: found, checked against the passage they name, given a quote.

Place in the data's way: completion -> `MarkerStream` while it is streamed (numbers that name no passage never
reach the person) -> `check` at the end -> the `Citation`s of the `Answer`. The check is lexical: it sees
whether the passage says what the claim says, not whether the claim is true. Measured in
docs/decisions/0006-budget-and-citations.md.

Example:
    >>> [piece.numbers for piece in parse("Paris [1, 2]. Lyon [3].") if piece.numbers]
    [(1, 2), (3,)]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from ..core.sentences import sentence_spans
from ..core.types import Citation, Passage
from .words import content_words, names, numbers

# Share of a claim's content words that its passage must hold.
MIN_SUPPORT = 0.6
# An answer without any citation gets the best passage attached from this support on.
MIN_ATTACH_SUPPORT = MIN_SUPPORT
# How much better another passage must say a claim than the one named, before it is named instead; small
# models often find the answer and name the wrong passage.
MIN_CORRECTION_GAIN = 0.2
_QUESTION_WEIGHT = 0.5

_MARKER = re.compile(r"\[\s*(?:passages?\s+)?(\d{1,4}(?:\s*[,;]\s*\d{1,4})*)\s*\]", re.IGNORECASE)
# Small models write "(2)" for "[2]" at the end of a line.
_ROUND_MARKER = re.compile(r"(?<=\S )\((\d{1,2})\)(?=[.,;!?]?[ \t]*(?:\n|\Z))")
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)
# What may still become a marker when more text comes, with the white space before it.
_OPEN_MARKER = re.compile(
    r"\s*\[\s*(?:p[a-z]{0,7}\s*)?[\d,;\s]{0,40}\Z|\s*\(\d{0,2}(?:\)[.,;!?]?)?\s*\Z|\s+\Z", re.IGNORECASE
)


Correct = Callable[[str, int], int]
"""Called with a claim and the number written behind it; returns the number to show."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of an answer: plain text, or one marker.

    Attributes:
        text: As written; the pieces joined are the answer.
        numbers: Numbers that the marker names; empty for plain text.
    """

    text: str
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Checked:
    """An answer with its citations checked.

    Attributes:
        text: The answer, `[n]` that name no passage taken out and an attached one added at the end.
        citations: Every `[n]` of the text in order of appearance.
        notes: What was changed or doubted, in words for people.
    """

    text: str
    citations: tuple[Citation, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Support:
    """How far a passage says what a claim says.

    Attributes:
        share: Share of the claim's content words found in the passage, 0 to 1; 0 for a claim without any.
        is_enough: Whether the share suffices and every number and name of the claim is in the passage.
        start: First character of the best sentence in the passage's text.
        end: One past its last character.
    """

    share: float
    is_enough: bool
    start: int
    end: int


def parse(text: str) -> list[Piece]:
    """Split an answer into plain text and markers; markers inside code are plain text."""
    code = [match.span() for match in _CODE.finditer(text)]
    pieces = []
    end = 0
    for match in _MARKER.finditer(text):
        if any(start <= match.start() < stop for start, stop in code):
            continue
        if match.start() > end:
            pieces.append(Piece(text[end : match.start()]))
        found = tuple(int(number) for number in re.findall(r"\d+", match.group(1)))
        pieces.append(Piece(match.group(), found))
        end = match.end()
    if end < len(text):
        pieces.append(Piece(text[end:]))
    return pieces


def strip_markers(text: str) -> str:
    """Return the text without its markers and without the space before each."""
    kept: list[str] = []
    for piece in parse(text):
        if piece.numbers and kept:
            kept[-1] = kept[-1].rstrip(" ")
        elif not piece.numbers:
            kept.append(piece.text)
    return "".join(kept)


def clean(text: str, num_passages: int, correct: Correct | None = None) -> tuple[str, tuple[int, ...]]:
    """Take out the numbers that name no passage, and correct the others.

    Args:
        text: An answer.
        num_passages: Passages that the model read.
        correct: Says which number to show; None to leave them.

    Returns:
        The text, every marker written `[n]` or `[n, m]`, and the numbers taken out.
    """
    kept: list[str] = []
    removed: list[int] = []
    for piece in parse(_with_square_markers(text, num_passages)):
        good = [number for number in piece.numbers if 1 <= number <= num_passages]
        removed += [number for number in piece.numbers if number not in good]
        if correct is not None and good:
            claim = _last_claim("".join(kept))
            good = list(dict.fromkeys(correct(claim, number) for number in good))
        if not piece.numbers:
            kept.append(piece.text)
        elif good:
            kept.append(f"[{', '.join(map(str, good))}]")
        elif kept:
            kept[-1] = kept[-1].rstrip(" ")
    return "".join(kept), tuple(removed)


class MarkerStream:
    """Cleans an answer while it is streamed: the pieces that come out, joined, are the cleaned answer.

    Attributes:
        removed: Numbers taken out so far.
    """

    def __init__(self, num_passages: int, correct: Correct | None = None) -> None:
        """Start an empty stream.

        Args:
            num_passages: Passages that the model read.
            correct: Says which number to show; None to leave them.
        """
        self._num_passages = num_passages
        self._correct = correct
        self._text = ""
        self._sent = 0
        self.removed: tuple[int, ...] = ()

    def feed(self, text: str) -> str:
        """Take what the model wrote and return what can be shown; a marker is held back until it is whole."""
        self._text += text
        return self._send(self._text[: _held_from(self._text)])

    def close(self) -> str:
        """Return what is left, without white space at the end."""
        return self._send(self._text.rstrip())

    def _send(self, ready: str) -> str:
        cleaned, self.removed = clean(ready.lstrip(), self._num_passages, self._correct)
        cleaned = cleaned.rstrip()
        fresh = cleaned[self._sent :]
        self._sent = max(self._sent, len(cleaned))
        return fresh


def check(
    text: str, passages: Sequence[Passage], question: str = "", corrected: Collection[int] = ()
) -> Checked:
    """Check every citation of an answer; attach one where there is none and a passage supports it well.

    Args:
        text: The completion.
        passages: What the model read; `[n]` names `passages[n - 1]`.
        question: Its words choose between sentences that support a claim equally well.
        corrected: Numbers that stand in place of what the model wrote; they count as attached.

    Returns:
        The cleaned text and its citations.
    """
    text, removed = clean(text, len(passages))
    notes = [f"[{number}] names no passage and was taken out." for number in removed]
    citations = []
    for claim, found in _claims(text):
        for number in found:
            is_attached = number in corrected
            citations.append(_cite(number, passages[number - 1], claim, question, is_attached=is_attached))
    if not citations and content_words(text):
        best = _best(text, passages, question)
        if best is not None and best.is_supported and best.support >= MIN_ATTACH_SUPPORT:
            citations = [best]
            text = f"{text.rstrip()} [{best.number}]"
            notes.append(f"The answer cited nothing; passage {best.number} was found to support it.")
        else:
            notes.append("The answer cites no passage, and none supports it well.")
    notes += [f"[{c.number}] does not clearly say: {c.claim}" for c in citations if not c.is_supported]
    return Checked(text, tuple(citations), tuple(notes))


class Corrections:
    """Names the passage that says a claim where the model named one that doesn't; a `Correct`.

    Attributes:
        made: Numbers shown in place of others.
    """

    def __init__(self, passages: Sequence[Passage], question: str = "") -> None:
        """Keep what claims are compared with.

        Args:
            passages: What the model read.
            question: Its words tell passages apart that hold a short claim equally well.
        """
        self._passages = passages
        self._question = question
        self._known: dict[tuple[str, int], int] = {}
        self.made: set[int] = set()

    def __call__(self, claim: str, number: int) -> int:
        """Return the number to show behind `claim`."""
        if (claim, number) not in self._known:
            self._known[claim, number] = self._decide(claim, number)
        return self._known[claim, number]

    def _decide(self, claim: str, number: int) -> int:
        scores = {n: self._score(claim, passage) for n, passage in enumerate(self._passages, start=1)}
        best = max(scores, key=lambda n: scores[n])
        if scores[best] < scores[number] + MIN_CORRECTION_GAIN:
            return number
        self.made.add(best)
        return best

    def _score(self, claim: str, passage: Passage) -> float:
        """Return 0 where the passage doesn't say the claim, else 1 to 2.5 by the words it shares."""
        found = support(claim, passage, self._question)
        if not found.is_enough:
            return 0.0
        asked = content_words(self._question) - content_words(claim)
        said = content_words(passage.chunk.text)
        return 1 + found.share + _QUESTION_WEIGHT * (len(asked & said) / len(asked) if asked else 0.0)


def support(claim: str, passage: Passage, question: str = "") -> Support:
    """Measure how far a passage says what a claim says.

    The document's name and headings count as part of the passage, for a text seldom repeats what it is about.

    Args:
        claim: A sentence, without markers.
        passage: What is cited for it.
        question: Its words choose between equally good sentences.

    Returns:
        The share of words found, the verdict and the best sentence.
    """
    chunk = passage.chunk
    around = " ".join([passage.document_name, *chunk.headings]).replace("_", " ")
    claimed = content_words(claim)
    said = content_words(chunk.text) | content_words(around)
    share = len(claimed & said) / len(claimed) if claimed else 0.0
    has_facts = (numbers(claim) | names(claim)) <= said
    start, end = _best_sentence(chunk.text, claimed, content_words(question))
    return Support(share, share >= MIN_SUPPORT and has_facts, start, end)


def _held_from(text: str) -> int:
    """Return where the part begins whose meaning depends on what comes next: an open marker or open code."""
    end = len(text)
    while held := _OPEN_MARKER.search(text[:end]):  # what stands before an open marker may be open too
        if held.start() == end:
            break
        end = held.start()
    code_end = max((match.end() for match in _CODE.finditer(text)), default=0)
    tick = text.find("`", max(code_end, text.rfind("\n") + 1))
    return end if tick < 0 else min(end, tick)


def _best_sentence(text: str, claimed: set[str], asked: set[str]) -> tuple[int, int]:
    best, best_score = (0, len(text)), -1.0
    for start, end in sentence_spans(text):
        words = content_words(text[start:end])
        score = len(words & claimed) + 0.5 * len(words & (asked - claimed))
        if score > best_score:
            best, best_score = (start, end), score
    return best


def _with_square_markers(text: str, num_passages: int) -> str:
    """Write `(n)` at the end of a line as `[n]` where it names a passage, outside code."""
    code = [match.span() for match in _CODE.finditer(text)]

    def square(match: re.Match[str]) -> str:
        is_code = any(start <= match.start() < end for start, end in code)
        is_marker = not is_code and 1 <= int(match.group(1)) <= num_passages
        return f"[{match.group(1)}]" if is_marker else match.group()

    return _ROUND_MARKER.sub(square, text)


def _last_claim(text: str) -> str:
    """Return the last sentence that says something, without markers."""
    for start, end in reversed(list(sentence_spans(text))):
        claim = strip_markers(text[start:end]).strip()
        if content_words(claim):
            return claim
    return strip_markers(text).strip()


def _claims(text: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield every sentence with markers, without them, and its numbers; a bare marker takes the last."""
    claim = ""
    markers = list(_markers(text))  # of the whole text, for code may span sentences
    for start, end in sentence_spans(text):
        own = strip_markers(text[start:end]).strip()
        claim = own if content_words(own) else claim or own
        found = tuple(number for at, named in markers if start <= at < end for number in named)
        if found:
            yield claim, found


def _markers(text: str) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield where each marker begins, and its numbers."""
    start = 0
    for piece in parse(text):
        if piece.numbers:
            yield start, piece.numbers
        start += len(piece.text)


def _cite(number: int, passage: Passage, claim: str, question: str, is_attached: bool) -> Citation:
    found = support(claim, passage, question)
    offset = passage.chunk.start_char
    return Citation(
        number=number,
        passage=passage,
        claim=claim,
        quote=passage.chunk.text[found.start : found.end],
        support=found.share,
        is_supported=found.is_enough,
        start_char=offset + found.start,
        end_char=offset + found.end,
        is_attached=is_attached,
    )


def _best(text: str, passages: Sequence[Passage], question: str) -> Citation | None:
    """Return a citation of the passage that supports the whole answer best, the better ranked of equals."""
    all_of_it = [_cite(n, p, text, question, is_attached=True) for n, p in enumerate(passages, start=1)]
    return max(all_of_it, key=lambda citation: (citation.is_supported, citation.support), default=None)
