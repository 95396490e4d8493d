"""The running summary of a conversation: the summary so far and the turns that fell out become a new one.

Place in the data's way: turns that no longer fit the window -> `extend`, one short completion behind everyone
who waits -> `core.memory_store`, with how far it reaches, so that a restart goes on from there.

Example:
    summary = extend(model, None, history[:8], conversation_id="c1", max_tokens=256)
    summary.num_messages   # how much of the eight messages it covers
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Sequence

from ...core.contracts import LanguageModel
from ...core.memory_store import Summary
from ...core.sentences import sentence_spans
from ...core.types import Delta, Message, SamplingParams
from ...models.grammar.constraint import regex_grammar
from ..prompts import load_prompt

# One step reads at most this much, so that a person who comes meanwhile waits for no long prompt.
MAX_STEP_TOKENS = 1200
# One paragraph that begins so: without it, small models copy the turns instead of summarising them.
BEGINNING = "The person"
# Greedy decoding lets small models repeat themselves until the completion is full.
REPEAT_PENALTY = 1.1
_MIN_MESSAGE_CHARS = 200


def digest_of(messages: Sequence[Message]) -> str:
    """Return what tells one beginning of a conversation from every other."""
    plain = json.dumps([(message.role, message.content) for message in messages])
    return hashlib.sha256(plain.encode()).hexdigest()


def covers(summary: Summary | None, history: Sequence[Message]) -> bool:
    """Tell whether a summary is of this history's beginning, and not of one that was changed since."""
    if summary is None or summary.num_messages > len(history):
        return False
    return summary.digest == digest_of(history[: summary.num_messages])


def extend(
    model: LanguageModel,
    before: Summary | None,
    history: Sequence[Message],
    *,
    conversation_id: str,
    max_tokens: int,
    user: str = "",
    cancel: threading.Event | None = None,
) -> Summary | None:
    """Take the next turns into the summary, as many as one step reads.

    Args:
        model: The chat model.
        before: The summary so far, of the beginning of `history`; None to begin.
        history: All turns that the summary is to cover in the end, oldest first.
        conversation_id: The conversation.
        max_tokens: Longest summary.
        user: Whose conversation it is.
        cancel: Setting it stops the model.

    Returns:
        The new summary, covering more of `history` than `before`; None where there is nothing to add, or the
        model was stopped or wrote nothing.

    Raises:
        ContextOverflow: The window is too small for the prompt with a summary of `max_tokens`.
        GenerationError: The model failed.
    """
    start = before.num_messages if before else 0
    prompt, end = _prompt(model, before.text if before else "", history, start, max_tokens)
    if end == start:
        return None
    sampling = SamplingParams(
        max_tokens=max_tokens, repeat_penalty=REPEAT_PENALTY, grammar=regex_grammar(f"{BEGINNING} .+")
    )
    generation = model.submit(prompt, sampling, cancel=cancel, priority="batch", user=user)
    try:
        text = "".join(part.text for part in generation if isinstance(part, Delta)).strip()
    finally:
        generation.cancel()
    if generation.finish_reason == "length":
        text = _whole_sentences(text)
    if generation.finish_reason not in ("stop", "length") or not text:
        return None
    return Summary(conversation_id, user, text, end, digest_of(history[:end]), time.time())


def _prompt(
    model: LanguageModel, before: str, history: Sequence[Message], start: int, max_tokens: int
) -> tuple[tuple[Message, ...], int]:
    """Return the prompt for the next turns and where they end; the first goes in, shortened if need be."""
    room = min(MAX_STEP_TOKENS, model.n_ctx - max_tokens)
    ends = [end for end in range(start + 1, len(history) + 1) if _is_turns_end(history, end)]
    best = None
    for end in ends:
        prompt = _rendered(before, history[start:end])
        if model.count_prompt(prompt) > room:
            break
        best = prompt, end
    if best is not None or not ends:
        return best or ((), start)
    num_chars = max(len(message.content) for message in history[start : ends[0]])
    while True:
        num_chars //= 2
        prompt = _rendered(before, [_shortened(m, num_chars) for m in history[start : ends[0]]])
        if model.count_prompt(prompt) <= room or num_chars < _MIN_MESSAGE_CHARS:
            return prompt, ends[0]


def _is_turns_end(history: Sequence[Message], end: int) -> bool:
    return end == len(history) or history[end].role == "user"


def _rendered(before: str, turns: Sequence[Message]) -> tuple[Message, ...]:
    return (
        Message("system", load_prompt("summary_system").render()),
        Message("user", load_prompt("summary_user").render(summary=before, turns=turns)),
    )


def _shortened(message: Message, num_chars: int) -> Message:
    text = message.content
    if len(text) <= num_chars:
        return message
    half = num_chars // 2
    return Message(message.role, f"{text[:half]} … {text[-half:]}")


def _whole_sentences(text: str) -> str:
    """Return the text without the sentence that the token limit cut off, where another is left."""
    spans = sentence_spans(text)
    return text if len(spans) < 2 else text[: spans[-2][1]]
