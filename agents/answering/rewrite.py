"""A follow-up question made to stand alone, so that search finds what it is about.

Place in the data's way: question and history -> one short completion -> a query for the search. The answer is
still given to the question as it was asked.

Example:
    >>> is_plainly_standalone("When was Thomas Bouch born?"), is_plainly_standalone("When was he born?")
    (True, False)
"""

from __future__ import annotations

import re
import threading

from ...core.contracts import LanguageModel
from ...core.types import Delta, Message, Question, SamplingParams, Usage
from ...retrieval.words import content_words, names, numbers
from ..prompts import load_prompt

MAX_QUERY_TOKENS = 64
MAX_QUERY_CHARS = 400
# What an earlier turn is about stands in its beginning; long answers would only cost reading time.
NUM_TURN_MESSAGES = 4
MAX_MESSAGE_CHARS = 400

# Words that point back, or that open a question that leans on the one before.
_POINTS_BACK = re.compile(
    r"\b(it|its|they|them|their|theirs|he|him|his|she|her|hers|this|that|these|those|there|then|such|same"
    r"|both|former|latter|one|ones|other|others|another|above|previous|earlier|first|second|last|next|again"
    r"|also|more|else|instead|so|too|either|neither|you|said|mentioned)\b"
    r"|^(and|but|or|why|how about|what about|what if|who else|which one)\b",
    re.IGNORECASE,
)
_LABEL = re.compile(r"^(?:rewritten|rewrite|stand-?alone)?\s*(?:question)?\s*:\s*", re.IGNORECASE)
_QUOTES = "\"'“”‘’`«» \t"


def is_plainly_standalone(question: str) -> bool:
    """Tell questions that surely need no history from all others.

    Only a question in plain English words that names something and points back to nothing counts; in doubt
    the model is asked.
    """
    if not question.isascii() or _POINTS_BACK.search(question.strip()):
        return False
    return bool(names(question) | numbers(question)) and len(content_words(question)) >= 3


def rewrite(
    model: LanguageModel, question: Question, cancel: threading.Event | None = None
) -> tuple[str, Usage]:
    """Ask the model for the question as it would be asked without the conversation.

    Args:
        model: The chat model.
        question: The last question, with the conversation before it.
        cancel: Setting it stops the model.

    Returns:
        The rewritten question, or the question itself where the model's is of no use; and what it cost.

    Raises:
        ContextOverflow: Even the last turns do not fit into the window.
        GenerationError: The model failed.
    """
    recent = [
        Message(message.role, message.content[:MAX_MESSAGE_CHARS])
        for message in question.history[-NUM_TURN_MESSAGES:]
        if message.role in ("user", "assistant")
    ]
    messages = (
        Message("system", load_prompt("rewrite_system").render()),
        Message("user", load_prompt("rewrite_user").render(history=recent, question=question.text)),
    )
    sampling = SamplingParams(max_tokens=MAX_QUERY_TOKENS, stop=("\n",))
    generation = model.submit(
        messages, sampling, cancel=cancel, priority=question.priority, user=question.user
    )
    try:
        written = "".join(part.text for part in generation if isinstance(part, Delta))
    finally:
        generation.cancel()
    is_whole = generation.finish_reason == "stop"
    return (usable_query(written, question.text) if is_whole else question.text), generation.usage


def usable_query(written: str, question: str) -> str:
    """Return the model's question, cleaned; the person's where that is empty, too long or off the point."""
    query = _LABEL.sub("", written.strip().split("\n")[0].strip(_QUOTES)).strip(_QUOTES)
    asked = content_words(question)
    is_lost = bool(asked) and not asked & content_words(query)
    if not content_words(query) or len(query) > max(MAX_QUERY_CHARS, 2 * len(question)) or is_lost:
        return question
    return query
