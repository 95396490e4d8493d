"""The turns of a conversation that go into a prompt: the newest that fit, by the model's own tokenizer.

Place in the data's way: history, what stands for its older turns, and facts -> `fit_window` -> the messages
that `agents/memory.py` hands on. The choice is `retrieval.budget.fit`'s, without passages: turns are given
up from the oldest, what stands at the end and then what stands at the beginning last.

Example:
    window = fit_window(model, history, limit_tokens=2048)
    window.messages, window.num_left_out
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...core.contracts import PromptCounter
from ...core.types import Message
from ...retrieval.budget import fit

_EMPTY = Message("user", "")


@dataclass(frozen=True, slots=True)
class Window:
    """What fits.

    Attributes:
        messages: All that goes in, in order.
        num_tokens: What they add to a prompt, by the model's template.
        num_left_out: Messages of the history, from the oldest, that stayed out.
    """

    messages: tuple[Message, ...]
    num_tokens: int
    num_left_out: int


def fit_window(
    counter: PromptCounter,
    history: Sequence[Message],
    limit_tokens: int,
    *,
    first: Sequence[Message] = (),
    last: Sequence[Message] = (),
) -> Window:
    """Choose the newest turns that fit.

    Args:
        counter: Counts tokens as the model will see them.
        history: The turns, oldest first.
        limit_tokens: Most tokens that the messages may add to a prompt.
        first: A user's message and its reply that go before them; given up last.
        last: The same after them, nearest to the question; given up when no turn is left.

    Returns:
        Messages that add at most `limit_tokens`; a turn goes in whole or not at all.
    """
    base = counter.count_prompt((_EMPTY,))
    limit = max(0, min(limit_tokens, counter.n_ctx - base))
    fitted = fit(
        counter,
        system="",
        question="",
        render=lambda _: "",
        examples=first,
        history=(*history, *last),
        reserve_tokens=counter.n_ctx - base - limit,
    )
    messages = fitted.messages[:-1]
    num_first = next(part.num_items for part in fitted.report.parts if part.name == "examples") * 2
    num_last = len(last) if last and messages[-len(last) :] == tuple(last) else 0
    num_kept = len(messages) - num_first - num_last
    return Window(messages, fitted.report.prompt_tokens - base, len(history) - num_kept)
