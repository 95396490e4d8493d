"""Any LangChain tool as one of ours.

Place in the data's way: `langchain_core.tools.BaseTool`, one's own or one of the many there are -> `Tool`. A
person agrees to each call unless it is said that it changes nothing.

Example:
    @langchain_core.tools.tool
    def stock(part: str) -> int:
        "Tell how many of a part are in stock."
        return warehouse.count(part)

    strategy = ReactStrategy(model, [from_langchain(stock, needs_approval=False)], checkpoints=path)
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from ...core.errors import ToolArgumentError
from .tool import DEFAULT_TIMEOUT_S, FunctionTool, Observation, ToolContext


def from_langchain(
    tool: BaseTool, *, needs_approval: bool = True, timeout_s: float = DEFAULT_TIMEOUT_S
) -> FunctionTool:
    """Return a LangChain tool as a tool of ours.

    Args:
        tool: The tool.
        needs_approval: Whether a person has to agree to each call; False only where a call changes nothing.
        timeout_s: A call that takes longer is given up, in seconds.
    """
    function = convert_to_openai_tool(tool)["function"]

    def run(arguments: Mapping[str, Any], context: ToolContext) -> Observation:
        from pydantic import ValidationError

        try:
            result = _invoked(tool, dict(arguments))
        except ValidationError as exc:
            raise ToolArgumentError(f"{tool.name} can't use these arguments: {exc}") from exc
        return Observation(_as_text(result))

    return FunctionTool(
        name=re.sub(r"[^A-Za-z0-9_.-]+", "_", tool.name)[:64],
        description=str(function.get("description", "")),
        parameters=function.get("parameters") or {"type": "object", "properties": {}},
        function=run,
        timeout_s=timeout_s,
        needs_approval=needs_approval,
    )


def _invoked(tool: BaseTool, arguments: dict[str, Any]) -> Any:
    try:
        return tool.invoke(arguments)
    except NotImplementedError:  # it is asynchronous only; this thread is the call's own, without a loop
        return asyncio.run(tool.ainvoke(arguments))


def _as_text(result: Any) -> str:
    """Return what a tool returned as text: its own words, or JSON."""
    if isinstance(result, str):
        return result
    if isinstance(result, list) and all(isinstance(part, dict) and "text" in part for part in result):
        return "\n".join(str(part["text"]) for part in result)
    try:
        return json.dumps(result, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        return str(result)
