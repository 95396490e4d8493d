"""Processes that run ReAct and are killed within a call; started by test_react_checkpoints.py.

Arguments: a folder. One process for each place to be killed at works in a folder of that name below it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from localsmith.agents.acting.checkpoints import Checkpoints
from localsmith.agents.react import Approval
from localsmith.agents.tools.tool import FunctionTool, Observation
from localsmith.core.types import Question
from localsmith.models.scripted import ScriptedModel

sys.path.insert(0, str(Path(__file__).parent))
from react_tools import TEXT, call, strategy


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def sending(folder: Path, where: str) -> FunctionTool:
    def send(arguments: Any, context: Any) -> Observation:
        with (folder / "sent.txt").open("a") as file:
            file.write(f"{arguments['text']}\n")
        if where == "in-call":
            die()
        return Observation("sent")

    return FunctionTool("send", "Send.", TEXT, send, needs_approval=True)


def noting(folder: Path) -> FunctionTool:
    def note(arguments: Any, context: Any) -> Observation:
        with (folder / "noted.txt").open("a") as file:
            file.write(f"{arguments['text']}\n")
        if arguments["text"] == "third":
            die()
        return Observation(f"noted {arguments['text']}")

    return FunctionTool("note", "Note.", TEXT, note)


def main(folder: Path, where: str) -> None:
    if where == "third":
        scripted = ScriptedModel(
            [call("note", text=text) for text in ("first", "second", "third")], n_ctx=8192
        )
        list(strategy(scripted, folder, [noting(folder)]).events(Question("Take notes.")))
    react = strategy(
        ScriptedModel([call("send", text="hello")], n_ctx=8192), folder, [sending(folder, where)]
    )
    run_id = list(react.events(Question("Send hello.")))[-1].answer.trace_id  # type: ignore[union-attr]
    if where == "after-call":
        end_call = Checkpoints.end_call

        def end_and_die(self: Checkpoints, *arguments: Any) -> None:
            end_call(self, *arguments)
            die()

        Checkpoints.end_call = end_and_die  # type: ignore[method-assign]
    if where == "decided":
        Checkpoints.begin_call = lambda *_: die()  # type: ignore[method-assign, assign, return-value]
    list(react.resume(run_id, Approval("approve")))


def fork(folder: Path, where: str) -> None:
    """Run and be killed in a process of its own; the imports are paid for once."""
    folder.mkdir()
    pid = os.fork()
    if pid == 0:
        try:
            main(folder, where)
        finally:
            os._exit(1)  # it was not killed
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (where, status)


for place in ("third", "in-call", "after-call", "decided"):
    fork(Path(sys.argv[1]) / place, place)
