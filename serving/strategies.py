"""Strategies as models: `localsmith/rag` answers from a collection, `localsmith/auto` as the planner chooses.

Place in the data's way: a chat request whose model is `localsmith/<name>` -> a `Question` -> the strategy's
events, run in a thread, in the shape of a generation -> the same forms as any other completion, with what is
a strategy's own from `extension.py`. A new strategy is one more entry in `ServedParts.strategies`.

Example:
    name = strategy_name("localsmith/rag")
    run = StrategyRun(service.parts.strategies[name], question)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

from ..agents.streaming import iterate_in_thread
from ..core.errors import IndexNotFoundError
from ..core.types import (
    DEFAULT_COLLECTION,
    Answer,
    ApprovalNeeded,
    Delta,
    Final,
    FinishReason,
    Message,
    Progress,
    Question,
    StepEnded,
    Usage,
)
from .errors import bad_request
from .extension import extension_of_answer
from .messages import to_messages
from .parts import Strategy
from .schemas import ChatRequest

PREFIX = "localsmith/"
# A strategy samples as its settings say. These would change what comes back in a way the client relies on.
_REFUSED = (
    "tools",
    "tool_choice",
    "response_format",
    "grammar",
    "regex",
    "choice",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "stop",
)


def strategy_name(model: str) -> str | None:
    """Return the strategy that a model's name stands for; None where it is no strategy's."""
    return model.removeprefix(PREFIX) if model.startswith(PREFIX) else None


_REASONS: dict[str, FinishReason] = {
    "answered": "stop",
    "abstained": "stop",
    "needs_approval": "stop",
    "cancelled": "cancelled",
}


class StrategyRun:
    """A strategy's run in the shape of a generation.

    Args:
        strategy: What answers.
        question: The question.
        deadline_s: Seconds after which it ends with what it has.
    """

    def __init__(self, strategy: Strategy, question: Question, deadline_s: float) -> None:
        self._strategy = strategy
        self._question = question
        self._deadline_s = deadline_s
        self._cancel = threading.Event()
        self._answer: Answer | None = None
        self._approval: ApprovalNeeded | None = None

    @property
    def usage(self) -> Usage:
        """The whole run's, once it has ended."""
        return self._answer.usage if self._answer else Usage()

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended, in the engine's words; None while it runs."""
        if self._answer is None:
            return None
        return _REASONS.get(self._answer.stop_reason, "length")

    @property
    def extension(self) -> dict[str, Any] | None:
        """The citations, the steps and the call that waits for a person, once it has ended."""
        return extension_of_answer(self._answer, self._approval) if self._answer else None

    def cancel(self) -> None:
        """Stop within one step."""
        self._cancel.set()

    async def __aiter__(self) -> AsyncIterator[Progress | Delta | StepEnded]:
        """Yield progress, text and steps.

        Raises:
            LocalsmithError: The run failed.
        """
        timer = asyncio.get_running_loop().call_later(self._deadline_s, self._cancel.set)
        try:
            run = iterate_in_thread(lambda: self._strategy.events(self._question, cancel=self._cancel))
            async for event in run:
                if isinstance(event, Final):
                    self._answer = event.answer
                elif isinstance(event, ApprovalNeeded):
                    self._approval = event
                else:
                    yield event
        finally:
            timer.cancel()
            self._cancel.set()


def question_of(body: ChatRequest, collections: list[str], user: str) -> Question:
    """Return what is asked, with the turns before it.

    Args:
        body: The request.
        collections: The collections there are.
        user: Whose request it is.

    Raises:
        ApiError: The request asks for what a strategy can't do, or does not end with a user's message.
        IndexNotFoundError: There is no such collection.
    """
    for name in _REFUSED:
        if getattr(body, name) is not None:
            raise bad_request(
                f"{body.model} does not take {name!r}; the model itself does.", name, "unsupported_parameter"
            )
    if (body.n or 1) > 1:
        raise bad_request(f"{body.model} makes one answer at a time.", "n", "unsupported_parameter")
    collection = DEFAULT_COLLECTION if body.collection is None else body.collection
    if collection not in collections:
        raise IndexNotFoundError(
            f"There is no collection {collection[:100]!r}.",
            hint=f"There are: {', '.join(sorted(collections)) or 'none yet'}.",
        )
    messages = to_messages(body.messages)
    _check_roles(messages, body.model)
    return Question(
        messages[-1].content,
        tuple(messages[:-1]),
        collection,
        tuple(body.document_ids or ()),
        user,
        body.priority,
    )


def _check_roles(messages: list[Message], model: str) -> None:
    for i, message in enumerate(messages):
        if message.role not in ("user", "assistant"):
            raise bad_request(
                f"{model} has instructions of its own; it takes user and assistant messages only, "
                f"not {message.role!r}.",
                f"messages.{i}.role",
            )
    if messages[-1].role != "user" or not messages[-1].content.strip():
        raise bad_request("The last message has to be the user's question.", "messages")
