"""Tools and turns for the tests of ReAct."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from localsmith.agents.react import ReactLimits, ReactStrategy
from localsmith.agents.tools.calculator import calculator
from localsmith.agents.tools.tool import FunctionTool, Observation, Tool
from localsmith.core.contracts import LanguageModel
from localsmith.core.types import Answer, Delta, Event, Final, Step

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


def call(tool: str, thought: str = "I need it.", **arguments: Any) -> str:
    return f"Thought: {thought}\nAction: {tool}\nInput: {json.dumps(arguments, ensure_ascii=False)}"


def answer(text: str, thought: str = "I know it.") -> str:
    return f"Thought: {thought}\nAnswer: {text}"


class Outbox:
    """A tool with a side effect: it sends, and a person has to agree."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    @property
    def tool(self) -> FunctionTool:
        def send(arguments: Any, context: Any) -> Observation:
            self.sent.append(arguments["text"])
            return Observation("sent")

        return FunctionTool("send", "Send a text.", TEXT, send, needs_approval=True)


def reader(*texts: str) -> FunctionTool:
    """A tool that returns these texts, one a call."""
    left = list(texts)
    return FunctionTool("read", "Read.", TEXT, lambda *_: Observation(left.pop(0) if left else "nothing"))


def strategy(
    model: LanguageModel, tmp_path: Path, tools: Sequence[Tool] = (), **limits: Any
) -> ReactStrategy:
    return ReactStrategy(
        model,
        [calculator(), *tools],
        limits=ReactLimits(**limits),
        checkpoints=tmp_path / "react.sqlite3",
    )


def final(events: Sequence[Event]) -> Answer:
    assert isinstance(events[-1], Final)
    assert sum(isinstance(event, Final) for event in events) == 1
    assert "".join(e.text for e in events if isinstance(e, Delta)) == events[-1].answer.text
    return events[-1].answer


def tool_steps(answer: Answer) -> list[Step]:
    return [step for step in answer.steps if step.kind == "tool"]
