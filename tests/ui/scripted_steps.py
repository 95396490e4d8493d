"""Runs with steps for the scripted front door: votes as a script, and real ReAct over a scripted model."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from localsmith.agents.react import ReactStrategy
from localsmith.agents.tools.calculator import calculator
from localsmith.agents.tools.tool import FunctionTool, Observation, ToolContext
from localsmith.core.types import Answer, Delta, Event, Final, Message, Progress, Step, StepEnded, Usage
from localsmith.models.scripted import ScriptedModel

HOSTILE_OUTPUT = "<img src=x onerror=\"window.hacked='step'\">"
HOLD_S = 120.0


def votes(asked: str, home: Path, cancel: threading.Event) -> Iterator[Event]:
    """Plan, two programs, a failed one, and a vote; with "hold NAME" it stops before the vote."""
    steps = (
        Step("plan", "Program: it asks for a quantity.", 0.1),
        Step("program", "Returned 18", 0.2, prompt="def solution():\n    return 6 * 3", output="18"),
        Step(
            "program",
            "NameError: name 'x' is not defined",
            0.2,
            prompt="x",
            output=HOSTILE_OUTPUT,
            is_error=True,
        ),
        Step("program", "Returned 26", 0.2, prompt="def solution():\n    return 26", output="26"),
        Step("vote", "18 (2 of 3), 26 (1 of 3)", 0.1),
    )
    yield Progress("programming")
    done = []
    for step in steps:
        if step.kind == "vote":
            _hold(asked, home, cancel)
        if cancel.is_set():
            yield Final(Answer("", "cancelled", steps=tuple(done)))
            return
        done.append(step)
        yield StepEnded(step)
    yield Delta("The answer is 18.")
    yield Final(Answer("The answer is 18.", "answered", steps=steps, usage=Usage(10, 0, 5), model="scripted"))


def _hold(asked: str, home: Path, cancel: threading.Event) -> None:
    """Wait until the test says `go`, or the run is cancelled, where the question has "hold NAME"."""
    named = re.search(r"hold (\w+)", asked)
    ends = time.monotonic() + HOLD_S
    while named and not cancel.is_set() and not (home / named[1]).exists() and time.monotonic() < ends:
        time.sleep(0.02)


def react(home: Path) -> ReactStrategy:
    """The real strategy with a calculator and a tool that notes in the data folder what it deleted."""

    def delete(arguments: Mapping[str, Any], _: ToolContext) -> Observation:
        with (home / "deleted.txt").open("a") as file:
            file.write(f"{arguments['name']}\n")
        return Observation(f"Deleted {arguments['name']}.")

    def wait(arguments: Mapping[str, Any], context: ToolContext) -> Observation:
        if arguments["turn"] == 1:
            _hold(context.question.text, home, context.cancel)
        return Observation("Done at last.")

    parameters = {
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "required": ["name"],
        "additionalProperties": False,
    }
    turn = {
        "type": "object",
        "properties": {"turn": {"type": "integer"}},
        "required": ["turn"],
        "additionalProperties": False,
    }
    tools = [
        calculator(),
        FunctionTool("delete_file", "Delete a file.", parameters, delete, needs_approval=True),
        FunctionTool("wait", "Take a while.", turn, wait, timeout_s=HOLD_S),
    ]
    return ReactStrategy(ScriptedModel(_reply, n_ctx=8192), tools, checkpoints=home / "react.sqlite3")


def _reply(messages: Sequence[Message]) -> str:
    """Calculate, then do what the question says, then answer with the last observation."""
    said = "\n".join(message.content for message in messages if message.role != "system")
    if "Action: calculator" not in said:
        return 'Thought: I calculate first.\nAction: calculator\nInput: {"expression": "6*7"}'
    if "delete" in said and "Action: delete_file" not in said:
        return 'Thought: The report has to go.\nAction: delete_file\nInput: {"name": "report.txt"}'
    if "hold" in said and said.count("Action: wait") < 3:
        turn = said.count("Action: wait")
        return f'Thought: Waiting.\nAction: wait\nInput: {{"turn": {turn}}}'
    last = [line.removeprefix("| ") for line in said.splitlines() if line.startswith("| ")][-1]
    return f"Thought: I know it.\nAnswer: It said: {last}"
