"""Two JSON schemas as one, and whether two can hold at once.

Place in the data's way: `schema_grammar` writes one rule a value, so what `allOf`, `$ref` with siblings and
unions with shared bounds say in several places is put together here first.

Example:
    >>> merged({"minimum": 1}, {"minimum": 3, "type": "integer"}, "n")
    {'minimum': 3, 'type': 'integer'}
"""

from __future__ import annotations

import json
from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any] | bool

_LARGER = {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"}
_SMALLER = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}
_UNIONS = ("anyOf", "oneOf")


def merged(one: Schema, other: Schema, name: str) -> Schema:
    """Return the schema that holds where both hold.

    Raises:
        ValueError: A keyword stands in both in a way that one schema can't say.
    """
    if one is False or other is False:
        return False
    if one is True or one == {}:
        return other
    if other is True or other == {}:
        return one
    if not isinstance(one, dict) or not isinstance(other, dict):
        raise ValueError(f"A JSON schema is an object, not {one!r} or {other!r} (at {name!r}).")
    whole = dict(one)
    for key, value in other.items():
        if key == "properties" and key in one:
            whole[key] = dict(one[key])
            for inner, schema in value.items():
                whole[key][inner] = merged_or_all(whole[key].get(inner, True), schema)
        elif key not in one or _same(one[key], value):
            whole[key] = value
        else:
            whole[key] = _both(key, one[key], value, name)
    return _closed(one, other, whole)


def merged_or_all(one: Schema, other: Schema) -> Schema:
    """Return a schema for both, put together only when it is written: the parts may refer to themselves."""
    return other if one is True or _same(one, other) else {"allOf": [one, other]}


def are_disjoint(one: Schema, other: Schema) -> bool:
    """Return whether it is plain to see that no value obeys both."""
    if one is False or other is False:
        return True
    if one is True or other is True:
        return False
    if not _types(one) & _types(other):
        return True
    values, others = _values(one), _values(other)
    if values is not None and others is not None:
        return not values & others
    shared = set(one.get("required", ())) & set(other.get("required", ()))
    for key in shared:
        first, second = one.get("properties", {}).get(key, {}), other.get("properties", {}).get(key, {})
        if are_disjoint(first, second):
            return True
    return False


def _both(key: str, one: Any, other: Any, name: str) -> Any:
    if key in _LARGER:
        return max(one, other)
    if key in _SMALLER:
        return min(one, other)
    if key == "required":
        return [*one, *(item for item in other if item not in one)]
    if key == "uniqueItems":
        return one or other
    if key == "type":
        return _common_types(one, other, name)
    if key == "enum":
        return [value for value in one if any(_same(value, item) for item in other)]
    if key in ("items", "additionalProperties"):
        return False if one is False or other is False else merged_or_all(one, other)
    raise ValueError(
        f"The JSON schema has several {key!r} for one value (at {name!r}), "
        "which can't be turned into a grammar."
    )


def _common_types(one: Any, other: Any, name: str) -> list[str]:
    first, second = _types({"type": one}), _types({"type": other})
    kinds = sorted(first & second)
    if not kinds:
        raise ValueError(f"The JSON schema asks for {one!r} and {other!r} at once (at {name!r}).")
    return [kind for kind in kinds if kind != "integer" or "number" not in kinds]


def _closed(one: dict[str, Any], other: dict[str, Any], whole: dict[str, Any]) -> Schema:
    """Apply each side's `additionalProperties` to the properties that only the other names."""
    for side, far in ((one, other), (other, one)):
        extra = side.get("additionalProperties", True)
        if extra is True:
            continue
        for key in far.get("properties", {}).keys() - side.get("properties", {}).keys():
            whole["properties"] = dict(whole["properties"])
            whole["properties"][key] = (
                False if extra is False else {"allOf": [whole["properties"][key], extra]}
            )
    return whole


def _types(schema: dict[str, Any]) -> set[str]:
    kinds = schema.get("type", ["object", "array", "string", "number", "boolean", "null"])
    if "type" not in schema and (values := _raw_values(schema)) is not None:
        kinds = [_kind(value) for value in values]
    found = set(kinds if isinstance(kinds, list) else [kinds])
    return found | {"integer"} if "number" in found else found


def _kind(value: Any) -> str:
    kinds: list[tuple[type, str]] = [
        (bool, "boolean"), (int, "number"), (float, "number"),
        (str, "string"), (list, "array"), (dict, "object"),
    ]  # fmt: skip
    return next((name for kind, name in kinds if isinstance(value, kind)), "null")


def _raw_values(schema: dict[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    return list(schema["enum"]) if isinstance(schema.get("enum"), list) else None


def _values(schema: dict[str, Any]) -> set[str] | None:
    values = _raw_values(schema)
    return None if values is None else {json.dumps(value, sort_keys=True) for value in values}


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
