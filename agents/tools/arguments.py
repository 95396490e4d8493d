"""A tool's arguments as the model may write them: bounded, so that a call fits into a turn, and in a grammar.

Place in the data's way: `actions.turn_grammar` constrains the model with `writable_schema`; the system prompt
tells it the `signature`. What a person edits, and what no grammar can keep, is checked by `check.py`.

Example:
    >>> schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    >>> signature(schema)
    '{"n": integer}'
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...core.errors import ConfigError
from ...models.grammar.constraint import json_schema_grammar

MAX_STRING_CHARS = 300
"""Longest text in a call where the schema names no `maxLength`."""
MAX_ITEMS = 12
"""Longest list in a call where the schema names no `maxItems`."""
_MAX_DEPTH = 20
_NUMBER_CHARS = 24
_TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")


def writable_schema(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema that the model's calls are held to: bounded, and such that a grammar can keep it.

    A property with a keyword that no grammar can keep is widened to its type; `check_arguments` and the tool
    itself still refuse what the model then writes wrongly.

    Args:
        parameters: JSON schema of type "object".

    Raises:
        ConfigError: It is not a schema of an object, or no grammar can be made of it at all.
    """
    if parameters.get("type", "object") != "object":
        raise ConfigError(f"A tool's arguments are an object, not {parameters.get('type')!r}.")
    whole = {"type": "object", "properties": {}, **parameters}
    if not isinstance(whole["properties"], dict):
        raise ConfigError("A tool's 'properties' are an object of schemas.")
    for candidate in (whole, _widened(whole)):
        schema = _bounded(candidate)
        try:
            json_schema_grammar(schema)
        except ValueError as exc:
            error = exc
        else:
            return dict(schema)
    raise ConfigError(
        f"A tool's schema can't be turned into a grammar: {error}",
        hint="Use objects, lists, texts, numbers, enums and anyOf.",
    ) from error


def _widened(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with each property that no grammar can keep widened to its type."""
    shared = {key: value for key, value in schema.items() if key in ("$defs", "definitions")}
    properties = {}
    for name, value in schema["properties"].items():
        alone = {"type": "object", "properties": {name: value}, **shared}
        try:
            json_schema_grammar(_bounded(alone))
            properties[name] = value
        except ValueError:
            kind = value.get("type") if isinstance(value, dict) else None
            properties[name] = {"type": kind} if isinstance(kind, str) and kind in _TYPES else {}
    kept = {"type": "object", "properties": properties, "additionalProperties": False, **shared}
    required = [name for name in schema.get("required", []) if name in properties]
    return {**kept, "required": required}


def _bounded(schema: Any, depth: int = 0) -> Any:
    """Return the schema with a limit on every text and list that has none."""
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return schema
    bounded = dict(schema)
    for key in ("properties", "$defs", "definitions"):
        if isinstance(schema.get(key), dict):
            bounded[key] = {name: _bounded(value, depth + 1) for name, value in schema[key].items()}
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if isinstance(schema.get(key), list):
            bounded[key] = [_bounded(value, depth + 1) for value in schema[key]]
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            bounded[key] = _bounded(schema[key], depth + 1)
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "string" in kinds and not schema.keys() & {"enum", "const", "pattern", "format", "maxLength"}:
        bounded["maxLength"] = max(MAX_STRING_CHARS, schema.get("minLength", 0))
    if "array" in kinds and "maxItems" not in schema:
        bounded["maxItems"] = max(MAX_ITEMS, schema.get("minItems", 0))
    return bounded


def longest_chars(schema: Any, depth: int = 0) -> int:
    """Return about how many characters the longest arguments of a bounded schema have."""
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return MAX_STRING_CHARS
    if "enum" in schema:
        return max((len(json.dumps(value)) for value in schema["enum"]), default=0)
    branches = [branch for key in ("anyOf", "oneOf", "allOf") for branch in schema.get(key, [])]
    longest = max((longest_chars(branch, depth + 1) for branch in branches), default=0)
    properties = schema.get("properties", {})
    own = sum(len(name) + 6 + longest_chars(value, depth + 1) for name, value in properties.items())
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "array" in kinds:
        own += schema.get("maxItems", MAX_ITEMS) * longest_chars(schema.get("items", {}), depth + 1)
    if "string" in kinds:
        own += schema.get("maxLength", MAX_STRING_CHARS)
    return max(longest, own, 0 if properties or "object" in kinds else _NUMBER_CHARS)


def signature(parameters: Mapping[str, Any]) -> str:
    """Return the arguments in one line for the prompt: names, types, and a "?" where one may be left out."""
    required = parameters.get("required", [])
    parts = []
    for name, schema in parameters.get("properties", {}).items():
        schema = schema if isinstance(schema, dict) else {}
        kind = schema.get("type", "any")
        if "enum" in schema:
            kind = " or ".join(json.dumps(value, ensure_ascii=False) for value in schema["enum"])
        shown = " or ".join(kind) if isinstance(kind, list) else str(kind)
        note = f" ({schema['description']})" if schema.get("description") else ""
        parts.append(f'"{name}"{"" if name in required else "?"}: {shown}{note}')
    return "{" + ", ".join(parts) + "}"
