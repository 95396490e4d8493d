"""Arguments checked by a tool's JSON schema, with errors that the model or a person can act on.

Place in the data's way: `call_tool` checks what the model wrote, and `ReactStrategy.resume` what a person
edited. The model's own calls obey the schema by grammar; this holds for the rest.

Example:
    >>> schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    >>> check_arguments(schema, {"n": 3})
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ...core.errors import ToolArgumentError

_MAX_DEPTH = 20
_TYPES: dict[str, type] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
}


def check_arguments(parameters: Mapping[str, Any], arguments: Any) -> None:
    """Check arguments by a tool's JSON schema; keywords that are not known here are left to the tool.

    Args:
        parameters: The schema; references point into it.
        arguments: What the model or a person wrote, parsed.

    Raises:
        ToolArgumentError: They don't obey it; the place and the reason are in the message.
    """
    _check({"type": "object", **parameters}, arguments, "arguments", parameters, 0)


def _check(schema: Any, value: Any, place: str, root: Mapping[str, Any], depth: int) -> None:
    if schema is False or depth > _MAX_DEPTH:
        raise ToolArgumentError(f"{place} is not allowed.")
    if not isinstance(schema, dict):
        return
    if isinstance(ref := schema.get("$ref"), str):
        _check(_resolved(ref, root), value, place, root, depth + 1)
    for part in schema.get("allOf", []):
        _check(part, value, place, root, depth + 1)
    for key in ("anyOf", "oneOf"):
        if key in schema and not any(_fits(part, value, place, root, depth + 1) for part in schema[key]):
            raise ToolArgumentError(f"{place} fits none of the forms it may have.")
    _check_values(schema, value, place)
    _check_type(schema, value, place)
    if isinstance(value, dict):
        _check_object(schema, value, place, root, depth)
    elif isinstance(value, list):
        _check_size(schema, len(value), "Items", "items", place)
        for i, item in enumerate(value):
            _check(schema.get("items", True), item, f"{place}[{i}]", root, depth + 1)
    elif isinstance(value, str):
        _check_size(schema, len(value), "Length", "characters", place)
        _check_pattern(schema, value, place)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_range(schema, value, place)


def _fits(schema: Any, value: Any, place: str, root: Mapping[str, Any], depth: int) -> bool:
    try:
        _check(schema, value, place, root, depth)
    except ToolArgumentError:
        return False
    return True


def _check_values(schema: dict[str, Any], value: Any, place: str) -> None:
    if "enum" in schema and not any(_same(value, allowed) for allowed in schema["enum"]):
        raise ToolArgumentError(f"{place} must be one of {json.dumps(schema['enum'], ensure_ascii=False)}.")
    if "const" in schema and not _same(value, schema["const"]):
        raise ToolArgumentError(f"{place} must be {json.dumps(schema['const'], ensure_ascii=False)}.")


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _resolved(ref: str, root: Mapping[str, Any]) -> Any:
    target: Any = root
    for part in ref.removeprefix("#").split("/")[1:]:
        target = target.get(part, True) if isinstance(target, dict) else True
    return target


def _check_type(schema: dict[str, Any], value: Any, place: str) -> None:
    kinds = schema.get("type")
    if kinds is None:
        return
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if not any(_is_of_type(value, kind) for kind in kinds):
        raise ToolArgumentError(f"{place} must be of type {' or '.join(map(str, kinds))}.")


def _is_of_type(value: Any, kind: str) -> bool:
    if kind == "integer":
        return not isinstance(value, bool) and (
            isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        )
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return kind not in _TYPES or isinstance(value, _TYPES[kind])


def _check_object(
    schema: dict[str, Any], value: dict[str, Any], place: str, root: Mapping[str, Any], depth: int
) -> None:
    properties = schema.get("properties", {})
    for name in schema.get("required", []):
        if name not in value:
            raise ToolArgumentError(f"{place} lacks {name!r}.")
    other = schema.get("additionalProperties", "properties" not in schema)
    for name, inner in value.items():
        if name not in properties and other is False:
            raise ToolArgumentError(f"{place} has an unknown {name!r}; known: {', '.join(properties)}.")
        _check(properties.get(name, other), inner, f"{place}.{name}", root, depth + 1)


def _check_size(schema: dict[str, Any], size: int, suffix: str, unit: str, place: str) -> None:
    low, high = schema.get(f"min{suffix}", 0), schema.get(f"max{suffix}")
    if size < low or (high is not None and size > high):
        raise ToolArgumentError(f"{place} has {size} {unit}; allowed are {low} to {high}.")


def _check_pattern(schema: dict[str, Any], value: str, place: str) -> None:
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and not re.search(pattern, value):
        raise ToolArgumentError(f"{place} must match {pattern!r}.")


def _check_range(schema: dict[str, Any], value: float, place: str) -> None:
    low, high = schema.get("minimum"), schema.get("maximum")
    if (low is not None and value < low) or (high is not None and value > high):
        raise ToolArgumentError(f"{place} is {value}; allowed are {low} to {high}.")
    low, high = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if (low is not None and value <= low) or (high is not None and value >= high):
        raise ToolArgumentError(f"{place} is {value}; it must lie between {low} and {high}.")
