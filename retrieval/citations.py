"""Each `[n]` of an answer checked against the passage it names, and given a quote.

Place in the data's way: an answer's text, its numbers already cleaned by `MarkerStream` -> `check` -> the
`Citation`s of the `Answer`. Whether a passage says what a claim says is `support`'s verdict; an answer that
cites nothing gets the passage that says it, or the one nearest in meaning, marked as such
(docs/decisions/0007-uncited-answers.md).

Example:
    >>> check("It rained.", passages=()).notes
    ('The answer cites no passage, and none supports it well.',)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from ..core.sentences import sentence_spans
from ..core.types import Citation, Passage
from .markers import clean, parse, strip_markers
from .support import Support, said_words, support
from .words import content_words, numbers

# From this cosine on, an answer that no passage says in its words is said by the nearest one in others;
# measured in docs/decisions/0007-uncited-answers.md.
MIN_NEARNESS = 0.6
# A shorter answer is so near to its question that its own meaning doesn't show.
MIN_NEAR_WORDS = 3

Nearness = Callable[[str], Sequence[float]]
"""Called with a claim; returns how near in meaning each passage is to it, as a cosine, -1 where unknown."""


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


def check(
    text: str,
    passages: Sequence[Passage],
    question: str = "",
    corrected: Sequence[bool] = (),
    nearness: Nearness | None = None,
) -> Checked:
    """Check every citation of an answer; attach one where there is none and a passage says it.

    Args:
        text: The completion.
        passages: What the model read; `[n]` names `passages[n - 1]`.
        question: Its words choose between sentences that support a claim equally well.
        corrected: For every number of the text, in order, whether it stands in place of what the model wrote;
            such a number counts as attached.
        nearness: Asked where no passage says an uncited answer in its words; None to leave it without.

    Returns:
        The cleaned text and its citations.
    """
    cleaned = clean(text, len(passages))
    text = cleaned.text
    notes = [f"[{number}] names no passage and was taken out." for number in cleaned.removed]
    is_attached = iter(corrected)
    citations = []
    for claim, found in _claims(text):
        for number in found:
            citation = _cite(number, passages[number - 1], claim, question)
            citations.append(replace(citation, is_attached=next(is_attached, False)))
    replaced = dict.fromkeys(citation.number for citation in citations if citation.is_attached)
    notes += [f"[{number}] was named in place of a passage that doesn't say it." for number in replaced]
    if not citations and content_words(text):
        attached, note = _attached(text, passages, question, nearness)
        notes.append(note)
        if attached is not None:
            citations = [attached]
            text = f"{text.rstrip()} [{attached.number}]"
    notes += [f"[{c.number}] does not clearly say: {c.claim}" for c in citations if not c.is_supported]
    return Checked(text, tuple(citations), tuple(notes))


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


def _cite(number: int, passage: Passage, claim: str, question: str) -> Citation:
    return _citation(number, passage, claim, support(claim, passage, question))


def _citation(number: int, passage: Passage, claim: str, found: Support) -> Citation:
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
    )


def _attached(
    text: str, passages: Sequence[Passage], question: str, nearness: Nearness | None
) -> tuple[Citation | None, str]:
    """Return a citation of the passage that says the whole answer, if one does, and what was found.

    The better ranked of equals counts. Where no passage says it in its words, the one nearest in meaning is
    cited, unless the answer is very short or has a number that this passage lacks.
    """
    found = [support(text, passage, question) for passage in passages]
    order = range(len(passages))
    best = max(order, key=lambda n: (found[n].is_enough, found[n].share), default=None)
    if best is not None and found[best].is_enough:
        citation = replace(_citation(best + 1, passages[best], text, found[best]), is_attached=True)
        return citation, f"The answer cited nothing; passage {best + 1} was found to support it."
    is_long = len(content_words(text)) >= MIN_NEAR_WORDS
    near = nearness(text) if nearness is not None and passages and is_long else ()
    nearest = max(range(len(near)), key=lambda n: near[n], default=None)
    if (
        nearest is not None
        and near[nearest] >= MIN_NEARNESS
        and numbers(text) <= said_words(passages[nearest])
    ):
        citation = _citation(nearest + 1, passages[nearest], text, found[nearest])
        citation = replace(citation, is_attached=True, similarity=near[nearest])
        return citation, f"The answer cited nothing; passage {nearest + 1} is nearest to it in meaning."
    return None, "The answer cites no passage, and none supports it well."
