"""The model answers at once, from what it knows and from the conversation.

Place in the data's way: a `Question` with its history -> one completion -> an `Answer`. The yardstick that
all other strategies are measured against.

Example:
    strategy = DirectStrategy(engine)
    print(strategy.invoke(Question("What is the capital of France?")))
"""

from __future__ import annotations

import threading
from collections.abc import Generator

from ..core.contracts import LanguageModel
from ..core.settings import AnswerSettings
from ..core.types import Event, Question, StopReason
from .prompts import load_prompt
from .reasoning.completion import fit_conversation, sampling_of, write
from .strategy import Run, Strategy


class DirectStrategy(Strategy):
    """One completion, no reasoning asked for.

    Args:
        model: The chat model.
        answer: Longest completion, temperature and seed; None for the defaults.
    """

    def __init__(self, model: LanguageModel, answer: AnswerSettings | None = None) -> None:
        self.model = model
        self.answer = answer or AnswerSettings()

    def events(
        self, question: Question, *, cancel: threading.Event | None = None
    ) -> Generator[Event, None, None]:
        """Run, telling where it stands; see `Strategy.events`.

        Raises:
            ContextOverflow: The question does not fit into the window.
            GenerationError: The model failed.
        """
        run = Run(self.model.name, cancel)
        fitted = fit_conversation(
            self.model, question, self.answer.max_tokens, system=load_prompt("direct_system").render()
        )
        written = yield from write(run, self.model, question, fitted.messages, sampling_of(self.answer))
        reason: StopReason = "cancelled" if run.cancel.is_set() else "answered"
        yield run.final(written.text, reason, budget=fitted.report)
