"""What a completion has to obey: a JSON schema, a regular expression, a choice, a grammar, a tool's schema.

Place in the data's way: a request's `response_format`, `tools`, `grammar`, `regex` and `choice` -> one GBNF
grammar -> `SamplingParams.grammar`. A completion obeys one of them.

Example:
    >>> constraint_of(CompletionRequest(model="m", prompt="", choice=["yes", "no"])).grammar != ""
    True
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import LocalsmithError
from ..models.grammar import constraint as grammars
from .errors import bad_request
from .schemas import ChatRequest, NamedTool, SamplingBody

# Agents send the same tools and schemas again and again.
CACHED_GRAMMARS = 64


@dataclass(frozen=True, slots=True)
class Constraint:
    """A grammar and where it begins to hold.

    Attributes:
        grammar: GBNF; "" for none.
        trigger: The text from which on it holds; "" for the start.
    """

    grammar: str = ""
    trigger: str = ""


def tools_of(body: ChatRequest) -> list[dict[str, Any]]:
    """Return the tools that the model is offered, in OpenAI's form.

    Raises:
        ApiError: A tool is asked for that isn't there.
    """
    choice = body.tool_choice
    names = [tool.function.name for tool in body.tools or ()]
    if choice == "required" and not names:
        raise bad_request("tool_choice is 'required', but there are no tools.", "tool_choice")
    if isinstance(choice, NamedTool) and choice.function.name not in names:
        raise bad_request(
            f"tool_choice names {choice.function.name!r}, which is not in tools.", "tool_choice"
        )
    if len(set(names)) < len(names):
        raise bad_request("Two tools have the same name.", "tools")
    if choice == "none":
        return []
    return [tool.model_dump(exclude_none=True) for tool in body.tools or ()]


def constraint_of(body: SamplingBody, tools: Sequence[dict[str, Any]] = ()) -> Constraint:
    """Return the one thing that the completion has to obey.

    Args:
        body: The request.
        tools: The tools offered.

    Raises:
        ApiError: More than one is asked for, or it can't be turned into a grammar.
    """
    asked = [name for name in ("grammar", "regex", "choice") if getattr(body, name) is not None]
    schema = None
    if isinstance(body, ChatRequest):
        schema = _schema(body)
        asked += ["response_format"] * (schema is not None) + ["tools"] * bool(tools)
    if len(asked) > 1:
        raise bad_request(f"A completion obeys one of {' and '.join(asked)}, not both.", asked[-1])
    if not asked:
        return Constraint()
    try:
        return _build(asked[0], body, schema, tools)
    except (ValueError, RecursionError, LocalsmithError) as exc:
        words = "it is nested too deeply" if isinstance(exc, RecursionError) else str(exc)
        raise bad_request(f"{asked[0]} can't be turned into a grammar: {words}", asked[0]) from exc


def _build(
    kind: str, body: SamplingBody, schema: dict[str, Any] | None, tools: Sequence[dict[str, Any]]
) -> Constraint:
    if kind == "grammar":
        grammars.check_grammar(body.grammar or "")
        return Constraint(body.grammar or "")
    if kind == "regex":
        return Constraint(grammars.regex_grammar(body.regex or ""))
    if kind == "choice":
        return Constraint(grammars.choice_grammar(body.choice or []))
    if kind == "response_format":
        return Constraint(_schema_grammar(json.dumps(schema)))
    assert isinstance(body, ChatRequest)
    choice = body.tool_choice
    name = choice.function.name if isinstance(choice, NamedTool) else choice
    return _tools_constraint(json.dumps(list(tools)), None if name == "auto" else name)


def _schema(body: ChatRequest) -> dict[str, Any] | None:
    form = body.response_format
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return {"type": "object"}
    if form.json_schema is None:
        raise bad_request("response_format of type 'json_schema' needs json_schema.", "response_format")
    return form.json_schema.schema_


@functools.lru_cache(CACHED_GRAMMARS)
def _schema_grammar(schema: str) -> str:
    return grammars.json_schema_grammar(json.loads(schema))


@functools.lru_cache(CACHED_GRAMMARS)
def _tools_constraint(tools: str, choice: str | None) -> Constraint:
    made = grammars.tool_call_grammar(json.loads(tools), choice=choice)
    return Constraint(made.grammar, made.trigger)
