"""A call that waits for a person, asked about in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import pytest
from localsmith.agents.acting.approval import Approval
from localsmith.agents.react import ReactStrategy
from localsmith.agents.tools.tool import FunctionTool, Observation, ToolContext
from localsmith.core.types import Event, Question
from localsmith.models.scripted import ScriptedModel

from localsmith.terminal_runs import show_question, show_resumed

SEND = 'Thought: I send it.\nAction: send\nInput: {"to": "Ann\\u001b[2J"}'


class OneStrategy:
    """A front door with a real ReAct over a scripted model, and a tool that sends letters."""

    def __init__(self, home: Path) -> None:
        self.sent: list[Any] = []
        schema = {
            "type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"],
            "additionalProperties": False,
        }  # fmt: skip

        def send(arguments: Mapping[str, Any], _: ToolContext) -> Observation:
            self.sent.append(arguments["to"])
            return Observation("sent")

        tool = FunctionTool("send", "Send a letter.", schema, send, needs_approval=True)
        model = ScriptedModel([SEND, "Thought: Done.\nAnswer: It is done."], n_ctx=8192)
        self.react = ReactStrategy(model, [tool], checkpoints=home / "react.sqlite3")

    def events(
        self, question: Question, *, strategy: str | None = None, cancel: Any = None
    ) -> Generator[Event, None, None]:
        return self.react.events(question, cancel=cancel)

    def resume(
        self, run_id: str, approval: Approval | None = None, *, cancel: Any = None
    ) -> Generator[Event, None, None]:
        return self.react.resume(run_id, approval, cancel=cancel)


@pytest.fixture
def front(tmp_path: Path) -> OneStrategy:
    return OneStrategy(tmp_path)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sit at the terminal and type these lines."""

    def sit(*lines: str) -> None:
        left = iter(lines)
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
        monkeypatch.setattr("rich.console.Console.input", lambda *_, **__: next(left))

    return sit


def ask(front: Any) -> Any:
    return show_question(front, Question("Write to Ann.", collection=None), "react")


def test_a_call_is_made_once_a_person_says_yes(front: OneStrategy, typed: Callable[..., None]) -> None:
    typed("what?", "y")
    assert ask(front).text == "It is done."
    assert front.sent == ["Ann\x1b[2J"]


def test_a_refused_call_is_not_made_and_the_answer_comes(
    front: OneStrategy, typed: Callable[..., None]
) -> None:
    typed("n")
    assert ask(front).text == "It is done." and front.sent == []


def test_arguments_can_be_edited_and_have_to_be_json(front: OneStrategy, typed: Callable[..., None]) -> None:
    typed("e", "Bob", "e", '{"to": "Bob"}')
    ask(front)
    assert front.sent == ["Bob"]


def test_where_nobody_sits_it_waits_and_can_be_resumed(
    front: OneStrategy, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = ask(front)
    said = capsys.readouterr().err
    assert answer.stop_reason == "needs_approval" and front.sent == []
    assert f"localsmith runs resume {answer.trace_id}" in said
    assert "\x1b[2J" not in said  # what the model wrote can't clear the screen
    resumed: Any = front
    assert show_resumed(resumed, answer.trace_id, Approval("approve")).text == "It is done."
    assert len(front.sent) == 1
