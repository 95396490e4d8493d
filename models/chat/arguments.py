"""What a call of the chat model asks for, as sampling parameters and tools.

Place in the data's way: `ChatLocalsmith` hands in the keyword arguments of `invoke`, `stream` or `bind`; what
comes back goes to `LanguageModel.submit`.

Example:
    >>> request = to_request(SamplingParams(), None, {"max_tokens": 5, "choice": ["yes", "no"]})
    >>> request.sampling.max_tokens, request.sampling.grammar
    (5, 'root ::= "yes" | "no"')
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool

from ...core.types import Priority, SamplingParams
from ..grammar.constraint import (
    check_grammar,
    choice_grammar,
    json_schema_grammar,
    regex_grammar,
    tool_call_grammar,
)

log = structlog.get_logger(__name__)

_SAMPLING = frozenset(SamplingParams.__dataclass_fields__)
_GRAMMARS = ("grammar", "json_schema", "regex", "choice")
_OTHERS = frozenset(
    "tools tool_choice json_schema regex choice logprobs top_logprobs deadline_s priority user "
    "ls_structured_output_format".split()
)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One call of the chat model.

    Attributes:
        sampling: How to choose tokens, grammar included.
        tools: The tools the model may call, in OpenAI's form.
        deadline_s: Seconds after which the completion ends with what it has; None for none.
        priority: "interactive" goes before "batch".
        user: Whose request it is.
    """

    sampling: SamplingParams
    tools: tuple[dict[str, Any], ...] = ()
    deadline_s: float | None = None
    priority: Priority = "interactive"
    user: str = ""


def to_request(
    defaults: SamplingParams, stop: Sequence[str] | str | None, arguments: dict[str, Any]
) -> ChatRequest:
    """Return what a call's keyword arguments ask for.

    Args:
        defaults: The parameters that the arguments change.
        stop: Texts that end the completion; None for the default.
        arguments: Fields of `SamplingParams`; `tools` and `tool_choice`; one of `json_schema`, `regex` and
            `choice` to constrain the text; `logprobs` and `top_logprobs`; `deadline_s`, `priority`, `user`.

    Raises:
        ValueError: An argument is unknown, or contradicts another.
    """
    if unknown := sorted(set(arguments) - _SAMPLING - _OTHERS):
        raise ValueError(f"Unknown argument(s) for ChatLocalsmith: {unknown}")
    given = [name for name in (*_GRAMMARS, "tools") if arguments.get(name)]
    tool_choice = to_tool_choice(arguments.get("tool_choice"), arguments.get("tools") or ())
    if len(given) > 1 and not (given[-1] == "tools" and tool_choice == "none"):
        raise ValueError(f"{given[0]!r} and {given[1]!r} can't both constrain one completion.")
    values = {name: value for name, value in arguments.items() if name in _SAMPLING and value is not None}
    values["stop"] = (stop,) if isinstance(stop, str) else tuple(stop or values.get("stop") or defaults.stop)
    if arguments.get("logprobs") or arguments.get("top_logprobs"):
        values["num_logprobs"] = int(arguments.get("top_logprobs") or 0)
    tools = () if tool_choice == "none" else tuple(map(convert_to_openai_tool, arguments.get("tools") or ()))
    sampling = _constrained(replace(defaults, **values), arguments, tools, tool_choice)
    return ChatRequest(
        sampling,
        tools,
        arguments.get("deadline_s"),
        arguments.get("priority") or "interactive",
        arguments.get("user") or "",
    )


def to_tool_choice(choice: Any, tools: Sequence[Any]) -> str:
    """Return "auto", "none", "required" or a tool's name.

    Args:
        choice: One of these, "any" or True for "required", None for "auto", or OpenAI's form of a name.
        tools: The tools offered.

    Raises:
        ValueError: It is none of these, or names a tool that isn't offered.
    """
    names = [convert_to_openai_tool(tool)["function"]["name"] for tool in tools]
    if isinstance(choice, dict):
        choice = choice.get("function", choice).get("name")
    if choice in names or choice in ("none", "required"):
        return str(choice)
    if choice in (None, "auto", False):
        return "auto"
    if choice in ("any", True):
        return names[0] if len(names) == 1 else "required"
    raise ValueError(f"tool_choice={choice!r} is not offered; there are {', '.join(names) or 'no tools'}.")


def _constrained(
    sampling: SamplingParams, arguments: dict[str, Any], tools: tuple[dict[str, Any], ...], tool_choice: str
) -> SamplingParams:
    if sampling.grammar:
        check_grammar(sampling.grammar)
    if schema := arguments.get("json_schema"):
        return replace(sampling, grammar=json_schema_grammar(convert_to_json_schema(schema)))
    if pattern := arguments.get("regex"):
        return replace(sampling, grammar=regex_grammar(pattern))
    if (choices := arguments.get("choice")) is not None:
        return replace(sampling, grammar=choice_grammar(choices))
    if not tools:
        return sampling
    try:
        made = tool_call_grammar(tools, choice=None if tool_choice == "auto" else tool_choice)
    except ValueError as exc:
        if tool_choice != "auto":
            raise
        # The model may still call: it is only not held to the schema, as with most servers.
        log.warning("A tool's schema can't be enforced.", reason=str(exc))
        return sampling
    return replace(sampling, grammar=made.grammar, grammar_trigger=made.trigger)
