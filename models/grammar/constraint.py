r"""What a completion may look like, as GBNF: JSON schemas, regular expressions, choices, tool calls.

Place in the data's way: `ChatLocalsmith` and the HTTP server turn what a caller asks for into
`SamplingParams.grammar` here; every grammar that comes from outside goes through `check_grammar` first.

Example:
    >>> choice_grammar(["yes", "no"])
    'root ::= "yes" | "no"'
    >>> SamplingParams(grammar=json_schema_grammar({"type": "boolean"})).grammar
    'root ::= ("true" | "false")\nspace ::= " "?'
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..chat.tool_calls import CLOSE, OPEN
from .check import check_grammar
from .gbnf import literal, rules_with_root
from .regex import RegexWriter, parse_regex
from .schema import SchemaWriter

__all__ = [
    "ToolCallGrammar",
    "check_grammar",
    "choice_grammar",
    "json_schema_grammar",
    "regex_grammar",
    "tool_call_grammar",
]

ANY_TOOL = "required"
_MAX_CHOICES = 1000


@dataclass(frozen=True, slots=True)
class ToolCallGrammar:
    """How tool calls are constrained.

    Attributes:
        grammar: For `SamplingParams.grammar`.
        trigger: For `SamplingParams.grammar_trigger`; "" where the completion has to be a call.
    """

    grammar: str
    trigger: str


def json_schema_grammar(schema: dict[str, Any] | bool) -> str:
    """Return the grammar of a JSON schema: whatever it accepts obeys the schema.

    Args:
        schema: The schema; references must point into itself.

    Raises:
        ValueError: The schema is malformed, or says what no grammar can keep; the keyword is named.
    """
    rules = rules_with_root()
    return _checked(rules.text(SchemaWriter(schema, rules).write()), "JSON schema")


def regex_grammar(pattern: str) -> str:
    r"""Return the grammar of a regular expression that the whole completion has to match.

    Args:
        pattern: Python's syntax: literals, classes, groups, `|`, `? * + {m,n}`, `.`, `\d \w \s` (ASCII) and
            their negations, `^` and `$` at the ends.

    Raises:
        ValueError: It is malformed, too large, or uses something else; what and where is in the message.
    """
    rules = rules_with_root()
    return _checked(rules.text(RegexWriter(rules, "part").write(parse_regex(pattern))), "regular expression")


def choice_grammar(choices: Sequence[str]) -> str:
    """Return the grammar of exactly one of these texts.

    Raises:
        ValueError: There is none, one is empty, or there are too many.
    """
    if isinstance(choices, str) or not choices or not all(isinstance(text, str) for text in choices):
        raise ValueError(f"A choice needs a list with at least one text, not {choices!r}.")
    if not all(choices):
        raise ValueError("A choice can't be the empty text.")
    if len(choices) > _MAX_CHOICES:
        raise ValueError(f"{len(choices)} choices are too many: at most {_MAX_CHOICES}.")
    return _checked(f"root ::= {' | '.join(map(literal, dict.fromkeys(choices)))}", "choice")


def tool_call_grammar(tools: Sequence[dict[str, Any]], *, choice: str | None = None) -> ToolCallGrammar:
    """Return the grammar of one or several tool calls whose arguments obey their tool's schema.

    Args:
        tools: The tools, in OpenAI's form.
        choice: None where the model may call or answer in words, "required" where it has to call, or the name
            of the one tool it has to call once.

    Raises:
        ValueError: No tools, two of one name, an unknown name, or a schema that no grammar can keep.
    """
    schemas = _schemas(tools)
    if choice not in (None, ANY_TOOL):
        if choice not in schemas:
            raise ValueError(f"There is no tool {choice!r}; there are {', '.join(sorted(schemas))}.")
        schemas = {choice: schemas[choice]}
    rules = rules_with_root()
    calls = []
    for i, (name, schema) in enumerate(schemas.items()):
        quoted = literal(json.dumps(name, ensure_ascii=False))
        arguments = SchemaWriter(schema, rules, f"tool-{i}").write()
        calls.append(
            rules.add(
                f"call-{i}",
                f'{quoted} "," space "\\"arguments\\":" space {arguments}',
            )
        )
    body = rules.add(
        "body", f'"{{" space "\\"name\\":" space {rules.add("which", " | ".join(calls))} space "}}"'
    )
    call = rules.add("call", f'{literal(OPEN)} [ \\n]? {body} "\\n"? {literal(CLOSE)}')
    is_single = choice not in (None, ANY_TOOL)
    root = call if is_single else f'{call} ("\\n"? {call})*'
    return ToolCallGrammar(_checked(rules.text(root), "tools"), OPEN if choice is None else "")


def _schemas(tools: Sequence[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for tool in tools:
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(name, str) or not name:
            raise ValueError(f"A tool needs a function with a name: {str(tool)[:200]}")
        if name in found:
            raise ValueError(f"Two tools are called {name!r}.")
        found[name] = function.get("parameters") or {"type": "object", "properties": {}}
    if not found:
        raise ValueError("There are no tools to call.")
    return found


def _checked(grammar: str, source: str) -> str:
    try:
        check_grammar(grammar)
    except ValueError as exc:
        raise ValueError(f"The {source} can't be turned into a grammar: {exc}") from exc
    return grammar
