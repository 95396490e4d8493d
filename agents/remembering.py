"""A strategy that remembers: the memory's commands obeyed, the history fitted, afterwards something learnt.

Place in the data's way: the front door wraps the strategy that a person chose -> this -> that strategy,
with a question whose history fits. Evaluations run strategies without it.

Example:
    strategy = RememberingStrategy(RagStrategy(engine, library), memory, engine.name)
    answer = strategy.invoke(Question("Remember that I live in Leeds."))
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace

from ..core.types import Delta, Event, Final, Question
from .memory import Memory
from .strategy import Run, Strategy


class RememberingStrategy(Strategy):
    """Another strategy, with memory before and after it."""

    def __init__(self, strategy: Strategy, memory: Memory, model_name: str = "") -> None:
        """Keep the parts; nothing runs yet.

        Args:
            strategy: Answers what is no command to the memory.
            memory: What is remembered.
            model_name: For answers that the memory gives itself.
        """
        self.strategy = strategy
        self.memory = memory
        self._model_name = model_name

    def events(
        self, question: Question, *, cancel: threading.Event | None = None
    ) -> Generator[Event, None, None]:
        """Run the strategy on what is remembered.

        Args:
            question: The question with its whole history; `conversation_id` names the summary's conversation.
            cancel: Setting it ends the run with what is there.

        Yields:
            A `StepEnded` of kind "remember" where the memory did something, then the strategy's events; the
            answer's steps begin with the memory's.

        Raises:
            StorageError: The memory's file can't be used.
        """
        run = Run(self._model_name, cancel)
        begun = time.monotonic()
        reply = self.memory.obey(question)
        if reply is not None:
            yield run.step("remember", reply, begun)
            yield Delta(reply)
            yield run.final(reply, "answered")
            return
        recalled = self.memory.recall(question)
        if recalled.line:
            yield run.step("remember", recalled.line, begun)
        with closing(self.strategy.events(recalled.question, cancel=cancel)) as events:
            for event in events:
                if not isinstance(event, Final):
                    yield event
                    continue
                answer = replace(event.answer, steps=(*run.steps, *event.answer.steps))
                self.memory.learn(question, answer)
                yield Final(answer)
