"""What a ReAct run has done so far, as one frozen value that a checkpoint holds whole.

Place in the data's way: each node of the graph takes a `Trajectory` and returns the next; it is kept as JSON,
so that a checkpoint holds plain text and reading one can build nothing but these types.

Example:
    >>> begun = Trajectory("run1", Question("What is 6*7?"), system="Answer with tools.")
    >>> from_json(to_json(begun)) == begun
    True
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from pydantic import TypeAdapter

from ...core.types import Answer, Message, Passage, Question, Step
from .actions import Call

Limit: TypeAlias = Literal["", "steps", "tokens", "time", "window", "repeats"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A turn of the model and what it was told then; the prompt grows by these and never changes before.

    Attributes:
        said: The model's turn.
        heard: The observation; "" while the call waits.
        call: The call; None where the turn was cut before it was complete.
        outcome: The observation in plain words, to tell repeated ones; "" while the call waits.
    """

    said: str
    heard: str = ""
    call: Call | None = None
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A run.

    Attributes:
        run_id: Its identifier, the answer's `trace_id`.
        question: What was asked.
        system: The system prompt as it was when the run began.
        history: Earlier turns of the conversation that are in the prompt.
        exchanges: Turns and observations so far.
        passages: All passages the tools found; number n is `passages[n - 1]`.
        steps: What was done, for the trace.
        elapsed_s: Seconds the run has been at work, waiting for people not counted.
        limit: Why the next turn has to answer; "" where it may call.
        answer: The answer, once there is one.
    """

    run_id: str
    question: Question
    system: str
    history: tuple[Message, ...] = ()
    exchanges: tuple[Exchange, ...] = ()
    passages: tuple[Passage, ...] = ()
    steps: tuple[Step, ...] = ()
    elapsed_s: float = 0.0
    limit: Limit = ""
    answer: Answer | None = None

    @property
    def pending(self) -> Call | None:
        """The call that waits to be executed, or None."""
        last = self.exchanges[-1] if self.exchanges else None
        return last.call if last is not None and not last.heard else None

    @property
    def messages(self) -> tuple[Message, ...]:
        """The prompt: system, history and question first, then turn by turn."""
        turns: list[Message] = []
        for exchange in self.exchanges:
            turns += [Message("assistant", exchange.said), Message("user", exchange.heard)]
        asked = Message("user", f"Question: {self.question.text}")
        return (Message("system", self.system), *self.history, asked, *turns)

    def with_heard(self, heard: str, outcome: str) -> Trajectory:
        """Return the run with the last exchange completed."""
        last = replace(self.exchanges[-1], heard=heard, outcome=outcome)
        return replace(self, exchanges=(*self.exchanges[:-1], last))


@functools.cache
def _adapter() -> TypeAdapter[Trajectory]:
    return TypeAdapter(Trajectory)


def to_json(trajectory: Trajectory) -> str:
    """Return the run as JSON."""
    return _adapter().dump_json(trajectory).decode()


def from_json(text: str) -> Trajectory:
    """Read a run.

    Raises:
        ValueError: It was not written by `to_json` of this version.
    """
    return _adapter().validate_json(text)
