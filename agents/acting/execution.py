"""A call that the model wrote, executed: at once, or when a person has agreed, and then exactly once.

Place in the data's way: `ReactRun.act` -> here -> `call_tool`. A call that needs approval is noted in the
ledger before it is made and after; where a crash leaves its end unknown, the person is asked again.

Example:
    outcome = Execution(parts, run_id, cancel).outcome(trajectory, call, left_s=60)
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from ...core.errors import AgentError, ToolArgumentError, ToolExecutionError
from ...core.types import ApprovalNeeded, Passage, Question
from ..tools.call import CallCancelled, call_tool
from ..tools.tool import Observation, Tool, ToolContext
from .actions import Call
from .graph import halt
from .loops import is_same
from .observations import as_text
from .parts import ReactParts
from .trajectory import Trajectory

REFUSED = "A person refused this call."
_WHY = "{} may change something outside of this conversation."
_DOUBT = "It was begun before, and its end is not known: it may have been done already."
_MIN_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call brought.

    Attributes:
        arguments: What the tool was called with, JSON.
        observed: What it returned, without the passages.
        passages: Passages it found.
        is_error: Whether it failed.
        is_certain: Whether this is what it brought; False where the run was cancelled meanwhile.
    """

    arguments: str
    observed: str
    passages: tuple[Passage, ...] = ()
    is_error: bool = False
    is_certain: bool = True

    @property
    def text(self) -> str:
        """All of it in plain words."""
        return as_text(Observation(self.observed, self.passages))


class Execution:
    """Executes the calls of one run.

    Attributes:
        asked: What a person was asked last, where the run waits for it.
    """

    def __init__(self, parts: ReactParts, run_id: str, cancel: threading.Event) -> None:
        """Keep what calls are made with."""
        self._parts = parts
        self._run_id = run_id
        self._cancel = cancel
        self.asked: ApprovalNeeded | None = None

    def outcome(self, trajectory: Trajectory, call: Call, left_s: float) -> Outcome:
        """Execute a call; where a person has to agree first, end the run here.

        Args:
            trajectory: The run, whose last exchange the call is.
            call: The call.
            left_s: Time left for it.
        """
        tool = self._parts.tools.get(call.tool)
        if tool is None:  # the run was resumed with other tools
            return Outcome(call.arguments, f"There is no tool {call.tool} any more.", is_error=True)
        if not tool.needs_approval:
            return self._made(tool, call.values, trajectory.question, left_s)
        return self._decided(tool, call, trajectory, left_s)

    def _decided(self, tool: Tool, call: Call, trajectory: Trajectory, left_s: float) -> Outcome:
        """Execute a call that a person decides on."""
        for earlier in trajectory.exchanges[:-1]:
            if earlier.call and earlier.outcome.startswith(REFUSED) and is_same(earlier.call, call):
                return Outcome(call.arguments, earlier.outcome, is_error=True)  # nobody is asked twice
        ledger, number = self._parts.checkpoints, len(trajectory.exchanges)
        attempt = ledger.attempt(self._run_id, number)
        if attempt.result is not None:
            return _outcomes().validate_json(attempt.result)
        decision = attempt.decision
        if decision is None:
            reason = " ".join([_WHY.format(tool.name), *([_DOUBT] if attempt.is_doubtful else [])])
            self.asked = ApprovalNeeded(self._run_id, tool.name, call.arguments, reason, number)
            halt(reason)
            raise AgentError("The run waits for a person's approval.")  # not reached: `halt` ends the node
        if decision.verdict == "refuse":
            reason = f"{REFUSED} Reason: {decision.reason}" if decision.reason else REFUSED
            return Outcome(call.arguments, reason, is_error=True)
        if not ledger.begin_call(self._run_id, number, attempt.number):
            raise AgentError("The call is being made by another process.", hint="Wait until it ends.")
        arguments = call.arguments if decision.arguments is None else decision.arguments
        outcome = self._made(tool, json.loads(arguments), trajectory.question, left_s)
        if decision.arguments is not None:
            changed = f"A person changed the arguments to {decision.arguments}."
            outcome = replace(outcome, observed=f"{changed}\n{outcome.observed}".strip())
        if outcome.is_certain:
            result = _outcomes().dump_json(outcome).decode()
            ledger.end_call(self._run_id, number, attempt.number, result)
        return outcome

    def _made(self, tool: Tool, arguments: Mapping[str, Any], question: Question, left_s: float) -> Outcome:
        """Call the tool; its errors are what it brought."""
        text = json.dumps(arguments, ensure_ascii=False)
        context = ToolContext(question, self._cancel)
        try:
            observation = call_tool(tool, arguments, context, timeout_s=max(left_s, _MIN_TIMEOUT_S))
        except CallCancelled as exc:
            return Outcome(text, str(exc), is_error=True, is_certain=False)
        except (ToolArgumentError, ToolExecutionError) as exc:
            return Outcome(text, " ".join(filter(None, [str(exc), exc.hint])), is_error=True)
        return Outcome(text, observation.text, observation.passages)


@functools.cache
def _outcomes() -> TypeAdapter[Outcome]:
    return TypeAdapter(Outcome)
