"""Python as a tool: the model's program runs in the sandbox, and what it prints is the observation.

Place in the data's way: the model's program -> `Sandbox.run` -> its output. No state is kept between calls,
and the sandbox has no files and no network, so no one has to agree.

Example:
    tool = run_python(sandbox)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...core.contracts import Sandbox
from ...core.errors import ToolExecutionError
from .tool import FunctionTool, Observation, ToolContext

MAX_PROGRAM_CHARS = 1200


def run_python(sandbox: Sandbox, timeout_s: float = 10.0) -> FunctionTool:
    """Return the tool that runs a program.

    Args:
        sandbox: Where it runs.
        timeout_s: A program that takes longer is stopped, in seconds.
    """

    def run(arguments: Mapping[str, Any], context: ToolContext) -> Observation:
        result = sandbox.run(str(arguments["program"]), timeout_s=timeout_s)
        printed = result.stdout.rstrip()
        if result.status != "ok":
            raise ToolExecutionError("\n".join(filter(None, [printed, result.error or result.status])))
        return Observation(printed or "It printed nothing: print() the result.")

    return FunctionTool(
        name="run_python",
        description="Run a Python program and read what it prints. Every run starts from nothing.",
        parameters={
            "type": "object",
            "properties": {"program": {"type": "string", "minLength": 1, "maxLength": MAX_PROGRAM_CHARS}},
            "required": ["program"],
        },
        function=run,
        timeout_s=timeout_s + 5,  # the sandbox stops it first; its start may take a moment
    )
