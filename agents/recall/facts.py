"""What a person says of themselves, noticed in their own messages and nowhere else.

Place in the data's way: the text a person typed -> `candidates`, sentences of theirs that could hold a fact
-> the model, whose grammar allows it nothing but a JSON list with one of `KINDS` for each ->
`agents/memory.py`, which keeps those that are lasting. A document, a tool or an answer can put nothing in
here: their words are never read, what looks pasted into a message is left out, and the model can only sort.

Example:
    >>> candidates("I'm a nurse in Leeds. How much leave is there?")
    ["I'm a nurse in Leeds."]
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass

from ...core.contracts import LanguageModel
from ...core.sentences import sentence_spans
from ...core.types import Delta, Message, SamplingParams, Usage
from ...models.grammar.constraint import json_schema_grammar
from ..prompts import load_prompt

MAX_CANDIDATES = 6
# What a sentence tells of the person; the last is everything that is no lasting fact.
PASSING = "passing"
KINDS = (
    "name", "home", "work", "family", "health", "taste", "language", "possession", "plan", "style", PASSING
)  # fmt: skip
MAX_CANDIDATE_CHARS = 200
TOKENS_PER_KIND = 8
# Whoever types more than this in one go is pasting something that others have written.
MAX_OWN_CHARS = 1200

_CODE = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)", re.DOTALL)
_QUOTED_LINE = re.compile(r"^[ \t]*>.*$", re.MULTILINE)
_QUOTATION = re.compile(r"[\"“„«][^\"”“»]{20,}(?:[\"”“»]|\Z)", re.DOTALL)
_PASTED = re.compile(r":[ \t]*\n.*", re.DOTALL)
_FIRST_PERSON = re.compile(
    r"\b(i|im|i'm|my|mine|me|myself|we|we're|our|us"
    r"|ich|mein\w*|mir|mich|wir|unser\w*|je|j'\w+|mon|ma|mes|moi|nous|notre|nos"
    r"|yo|mi|mis|me|soy|tengo|vivo|trabajo|nosotros|io|mio|mia|sono|ho|abito|noi"
    r"|ik|mijn|wij|ons|onze|eu|meu|minha|sou|tenho|moro)\b",
    re.IGNORECASE,
)
# Chinese, Japanese, Korean and Thai put no spaces between words; there the model alone decides.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_QUESTION = re.compile(r"[?？؟]\W*$")
_REQUEST = re.compile(
    r"^(?:(?:please|now|then|ok|okay|and|so)[, ]+)*"
    r"(?:(?:tell|show|give|help|let|send|get|find|write|explain|remind)\s+(?:to\s+)?(?:me|us)\b"
    r"|i\s+(?:want|need|would like|'d like)\s+(?:you|to know|to understand)\b|i'd like (?:you|to know)\b"
    r"|i\s+(?:wonder|mean|meant|see|understand|don't understand|do not understand)\b"
    r"|what|who|whom|whose|when|where|why|how|which|can|could|would|will|is|are|do|does|did|should|may)\b",
    re.IGNORECASE,
)
# Talk about the moment or the conversation; and what points at something else can't be understood later.
_PASSING = re.compile(
    r"\b(?:thanks?|thank you|this|these|it|just|now|today|yesterday|tomorrow|tonight|above|below)\b"
    r"|\bthat(?:'s)?\b(?=\s*(?:[.,;!]|$|is|was|but|and|helped|works?|worked))"
    r"|\b(?:your|the)\s+(?:last |first |previous )?(?:answers?|repl(?:y|ies)|explanation)\b"
    r"|\bmy\s+(?:last|first|next|previous|other)?\s*questions?\b|\bi(?: was|'m| am) wondering\b",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"\s*[,;]\s+(?:and |but |so )?|\s+[-–—]\s+")
_LEADING = re.compile(r"^(?:and|but|so|since|because|as|well|hi|hello|ok|okay)[, ]+", re.IGNORECASE)
_SUBJECT = re.compile(
    r"^(?:i|i'm|i've|my|we|we're|our|ich|mein\w*|je|mon|ma|yo|mi|ik|mijn|eu|meu)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Noticed:
    """What the model found.

    Attributes:
        facts: Sentences of the person that tell something lasting, in their order.
        usage: What it cost.
    """

    facts: tuple[str, ...]
    usage: Usage


def candidates(message: str) -> list[str]:
    """Return the person's own sentences that could state something about them.

    Args:
        message: A message as typed.

    Returns:
        At most `MAX_CANDIDATES`, in order, each of at most `MAX_CANDIDATE_CHARS`; none for most questions,
        which then cost no model time.
    """
    own = _own_words(message)
    found: list[str] = []
    for start, end in sentence_spans(own):
        sentence = " ".join(own[start:end].split())
        parts = _clauses_before(sentence) if _QUESTION.search(sentence) else [sentence]
        found += [part for part in map(_without_leading, parts) if _could_be_a_fact(part)]
    return list(dict.fromkeys(found))[:MAX_CANDIDATES]


def notice(
    model: LanguageModel, message: str, *, user: str = "", cancel: threading.Event | None = None
) -> Noticed:
    """Ask the model what each of the person's sentences tells of them.

    Args:
        model: The chat model.
        message: A message as typed by the person.
        user: Whose message it is, for the engine's fair shares.
        cancel: Setting it stops the model.

    Returns:
        Sentences of the message, word for word.

    Raises:
        ContextOverflow: The message does not fit into the window.
        GenerationError: The model failed.
    """
    sentences = candidates(message)
    if not sentences:
        return Noticed((), Usage())
    messages = (
        Message("system", load_prompt("facts_system").render(kinds=", ".join(KINDS))),
        Message("user", load_prompt("facts_user").render(sentences=sentences)),
    )
    num = len(sentences)
    schema = {"type": "array", "items": {"enum": list(KINDS)}, "minItems": num, "maxItems": num}
    sampling = SamplingParams(max_tokens=8 + TOKENS_PER_KIND * num, grammar=json_schema_grammar(schema))
    generation = model.submit(messages, sampling, cancel=cancel, priority="batch", user=user)
    try:
        written = "".join(part.text for part in generation if isinstance(part, Delta))
    finally:
        generation.cancel()
    return Noticed(_lasting(written, sentences), generation.usage)


def _lasting(written: str, sentences: list[str]) -> tuple[str, ...]:
    """Read the model's list; one that was cut off, or of a server that knows no grammars, holds nothing."""
    try:
        kinds = json.loads(written)
    except ValueError:
        return ()
    if not isinstance(kinds, list) or len(kinds) != len(sentences):
        return ()
    return tuple(
        sentence for sentence, kind in zip(sentences, kinds, strict=True) if kind in KINDS and kind != PASSING
    )


def _own_words(message: str) -> str:
    """Return the message without what others wrote: code, quotations, and what follows a colon's line."""
    text = message.replace("’", "'")
    for pattern in (_CODE, _QUOTED_LINE, _QUOTATION, _PASTED):
        text = pattern.sub(" ", text)
    return text if len(text) <= MAX_OWN_CHARS else ""


def _clauses_before(question: str) -> list[str]:
    """Return the clauses before the one that asks: "I live in Leeds, which bus goes to York?"."""
    return [clause for clause in _CLAUSE.split(question)[:-1] if _SUBJECT.search(_without_leading(clause))]


def _without_leading(clause: str) -> str:
    return _LEADING.sub("", clause.strip())


def _could_be_a_fact(sentence: str) -> bool:
    if not 6 <= len(sentence) <= MAX_CANDIDATE_CHARS:
        return False
    if _REQUEST.search(sentence) or _PASSING.search(sentence):
        return False
    return bool(_FIRST_PERSON.search(sentence) or _UNSPACED.search(sentence))
