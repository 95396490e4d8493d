"""One call of a tool: arguments checked, time limited, every failure an error the model can read.

Place in the data's way: `ReactStrategy` -> `call_tool` -> the tool, in a thread of its own, so that a tool
that hangs is given up at its limit while the run goes on.

Example:
    observation = call_tool(calculator(), {"expression": "6*7"}, ToolContext(question))
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Mapping
from typing import Any

import structlog

from ...core.errors import LocalsmithError, ToolArgumentError, ToolExecutionError
from .check import check_arguments
from .tool import Observation, Tool, ToolContext

_log = structlog.get_logger(__name__)
_POLL_S = 0.05
_LONGEST_ERROR_CHARS = 500


class CallCancelled(ToolExecutionError):
    """Nobody waited for the result any more; whether the tool did its work is not known."""


def call_tool(
    tool: Tool, arguments: Mapping[str, Any], context: ToolContext, *, timeout_s: float | None = None
) -> Observation:
    """Run a tool and wait for it, no longer than its limit.

    Args:
        tool: The tool.
        arguments: Parsed JSON; checked here.
        context: The run; where its `cancel` is set, the wait ends.
        timeout_s: A shorter limit than the tool's own, in seconds; None for its own.

    Returns:
        What the tool returned.

    Raises:
        ToolArgumentError: The arguments don't obey the schema, or the tool can't use them.
        ToolExecutionError: It failed, or took too long.
        CallCancelled: The run was cancelled meanwhile.
    """
    check_arguments(tool.parameters, dict(arguments))
    limit_s = tool.timeout_s if timeout_s is None else min(timeout_s, tool.timeout_s)
    stop = threading.Event()
    result: list[Observation | BaseException] = []

    def work() -> None:
        try:
            result.append(tool.run(arguments, ToolContext(context.question, stop)))
        except BaseException as exc:  # noqa: BLE001 - it is translated in the thread that waits
            result.append(exc)

    inherited = contextvars.copy_context()
    thread = threading.Thread(target=lambda: inherited.run(work), name=f"tool-{tool.name}", daemon=True)
    thread.start()
    ends = time.monotonic() + limit_s
    while thread.is_alive() and time.monotonic() < ends and not context.cancel.is_set():
        thread.join(_POLL_S)
    if not result:
        stop.set()
        if context.cancel.is_set():
            raise CallCancelled(f"{tool.name} was stopped, for the run was cancelled.")
        raise ToolExecutionError(f"{tool.name} took longer than {limit_s:g} s and was given up.")
    return _unwrapped(tool, result[0])


def _unwrapped(tool: Tool, result: Observation | BaseException) -> Observation:
    """Return the observation, or raise what the tool raised as an error of ours."""
    if isinstance(result, Observation):
        return result
    if isinstance(result, ToolArgumentError | ToolExecutionError):
        raise result
    if isinstance(result, LocalsmithError):
        raise ToolExecutionError(f"{tool.name} failed: {result}", hint=result.hint) from result
    if isinstance(result, Exception):  # a tool may come from anywhere; its bugs don't end the run
        _log.warning("tool_failed", tool=tool.name, error=repr(result))
        words = f"{type(result).__name__}: {result}"[:_LONGEST_ERROR_CHARS]
        raise ToolExecutionError(f"{tool.name} failed: {words}") from result
    if isinstance(result, BaseException):
        raise ToolExecutionError(f"{tool.name} ended with {type(result).__name__}.") from result
    raise ToolExecutionError(f"{tool.name} returned {type(result).__name__}, not an Observation.")
