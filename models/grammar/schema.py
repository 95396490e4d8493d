r"""JSON schemas as GBNF: everything the grammar accepts obeys the schema.

Place in the data's way: `grammar.json_schema_grammar` and the arguments of tool calls. llama.cpp's own
converter passes over `minimum`, `multipleOf` and much else without a word, and a completion that breaks its
schema is worse than an error; so what can't be put into a grammar is refused by name. The other way round
the grammar is narrower than the schema: properties come in the schema's order, white space is one blank at
most, a property the schema doesn't name is left out unless `additionalProperties` is there, and numbers have
at most 15 digits.

Example:
    >>> rules = Rules()
    >>> SchemaWriter({"type": "array", "items": {"type": "null"}}, rules).write()
    '"[" space ("null" ("," space "null")*)? "]"'
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TypeAlias
from urllib.parse import unquote

from .gbnf import MAX_REPEATS, Rules, literal, repeat
from .numbers import bounded_integer, bounded_number
from .schema_merge import are_disjoint, merged
from .strings import any_string, key_other_than, string_rule

Schema: TypeAlias = dict[str, Any] | bool

_MAX_DEPTH = 60
_NOTHING = '""'
_TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
_REFUSED = frozenset(
    "not if then else patternProperties propertyNames dependentRequired dependentSchemas dependencies "
    "contains minContains maxContains unevaluatedProperties unevaluatedItems contentEncoding "
    "contentMediaType contentSchema $dynamicRef $recursiveRef additionalItems".split()
)
_OF_TYPE = {
    "object": {"properties", "required", "additionalProperties", "minProperties", "maxProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems", "uniqueItems"},
    "string": {"pattern", "format", "minLength", "maxLength"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
}
_OF_TYPE["integer"] = _OF_TYPE["number"]
_CONSTRAINTS = set().union(*_OF_TYPE.values()) | {"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref"}


class SchemaWriter:
    """Writes one schema as rules.

    Args:
        schema: The schema; references point into it.
        rules: Where the rules go.
        name: Beginning of their names.
    """

    def __init__(self, schema: Schema, rules: Rules, name: str = "json") -> None:
        self._schema = schema
        self._rules = rules
        self._name = name
        self._space = rules.add("space", '" "?')
        self._refs: dict[str, str] = {}
        self._depth = 0

    def write(self) -> str:
        """Return the expression for the whole schema.

        Raises:
            ValueError: The schema is malformed, allows nothing, or has a keyword that no grammar can keep.
        """
        try:
            return self._visit(self._schema, self._name)
        except (
            TypeError,
            AttributeError,
            RecursionError,
        ) as exc:  # a list where a text belongs, and the like
            raise ValueError(f"The JSON schema is malformed: {exc}.") from exc

    def _visit(self, schema: Any, name: str) -> str:
        if schema is False:
            raise ValueError(f"The JSON schema allows nothing at {name!r}.")
        if not isinstance(schema, dict | bool):
            raise ValueError(f"A JSON schema is an object, not {schema!r} (at {name!r}).")
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ValueError(f"The JSON schema is nested deeper than {_MAX_DEPTH}.")
        try:
            return self._visit_object(schema if isinstance(schema, dict) else {}, name)
        finally:
            self._depth -= 1

    def _visit_object(self, schema: dict[str, Any], name: str) -> str:
        if refused := sorted(_REFUSED & schema.keys()):
            raise ValueError(
                f"The JSON schema's {refused[0]!r} (at {name!r}) can't be turned into a grammar."
            )
        limits = {key: value for key, value in schema.items() if key in _CONSTRAINTS}
        if "$ref" in limits and len(limits) == 1:
            return self._reference(limits["$ref"])
        if "$ref" in limits or "allOf" in limits:
            return self._visit(self._merged(limits, name), name)
        for key in ("anyOf", "oneOf"):
            if key in limits:
                return self._union(limits, key, name)
        if "const" in limits or "enum" in limits:
            return self._values(limits, name)
        return self._typed(limits, name)

    # -- references and combinations

    def _reference(self, ref: Any) -> str:
        if ref not in self._refs:
            self._refs[ref] = rule = self._rules.reserve(f"{self._name}-{str(ref).rpartition('/')[2]}")
            self._rules.define(rule, self._visit(self._resolved(ref), rule))
        return self._refs[ref]

    def _resolved(self, ref: Any) -> Any:
        if not isinstance(ref, str) or not ref.startswith("#"):
            raise ValueError(f"The JSON schema's $ref {ref!r} does not point into the schema itself.")
        target: Any = self._schema
        for part in ref.split("/")[1:]:
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            try:
                target = target[int(key) if isinstance(target, list) else key]
            except (KeyError, IndexError, ValueError, TypeError) as exc:
                raise ValueError(f"The JSON schema's $ref {ref!r} points at nothing.") from exc
        return target

    def _merged(self, schema: dict[str, Any], name: str) -> Schema:
        parts = [{key: value for key, value in schema.items() if key not in ("$ref", "allOf")}]
        parts += [self._resolved(schema["$ref"])] if "$ref" in schema else []
        parts += _list_of(schema, "allOf", name) if "allOf" in schema else []
        whole: Schema = {}
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ValueError(f"The JSON schema's 'allOf' or '$ref' (at {name!r}) contains itself.")
        for part in parts:
            if isinstance(part, dict):
                limits = {key: value for key, value in part.items() if key in _CONSTRAINTS | _REFUSED}
                is_nested = "$ref" in part or "allOf" in part
                whole = merged(whole, self._merged(limits, name) if is_nested else limits, name)
            else:
                whole = merged(whole, part, name)
        self._depth -= 1
        return whole

    def _union(self, schema: dict[str, Any], key: str, name: str) -> str:
        base = {other: value for other, value in schema.items() if other != key}
        branches = [
            self._merged({**base, "allOf": [branch]}, name) if base else branch
            for branch in _list_of(schema, key, name)
        ]
        if key == "oneOf":
            whole = [self._merged({"allOf": [branch]}, name) for branch in branches]
            if not all(are_disjoint(one, other) for i, one in enumerate(whole) for other in whole[:i]):
                raise ValueError(
                    f"The JSON schema's 'oneOf' (at {name!r}) has branches that one value may fit at once; "
                    "use 'anyOf', or give each a property with a 'const' of its own."
                )
        found = [
            self._visit(branch, f"{name}-{i}") for i, branch in enumerate(branches) if branch is not False
        ]
        return self._any_of(found, name)

    def _any_of(self, expressions: Iterable[str], name: str) -> str:
        found = list(dict.fromkeys(expressions))
        if not found:
            raise ValueError(f"The JSON schema allows nothing at {name!r}.")
        return found[0] if len(found) == 1 else self._rules.add(name, " | ".join(found))

    def _values(self, schema: dict[str, Any], name: str) -> str:
        values = _list_of(schema, "enum", name) if "enum" in schema else [schema["const"]]
        if "const" in schema:
            values = [value for value in values if _same(value, schema["const"])]
        if "type" in schema:
            values = [value for value in values if set(_types_of(schema, name)) & _types_of_value(value)]
        if other := schema.keys() - {"enum", "const", "type"}:
            values = [value for value in values if _keeps(value, schema, other, name)]
        return self._any_of((literal(json.dumps(value, ensure_ascii=False)) for value in values), name)

    # -- the types

    def _typed(self, schema: dict[str, Any], name: str) -> str:
        if "type" in schema:
            types = _types_of(schema, name)
        else:
            hinted = [
                kind for kind in _TYPES if kind != "integer" and _OF_TYPE.get(kind, set()) & schema.keys()
            ]
            types = hinted or [kind for kind in _TYPES if kind != "integer"]
        return self._any_of((self._of_type(kind, schema, name) for kind in types), name)

    def _of_type(self, kind: str, schema: dict[str, Any], name: str) -> str:
        if kind == "object":
            return self._object(schema, name)
        if kind == "array":
            return self._array(schema, name)
        try:
            if kind == "string":
                return string_rule(self._rules, schema, name)
            if kind == "integer":
                return bounded_integer(self._rules, schema)
            if kind == "number":
                return bounded_number(self._rules, schema)
        except ValueError as exc:
            raise ValueError(f"The JSON schema asks for too much at {name!r}: {exc}.") from exc
        return '("true" | "false")' if kind == "boolean" else '"null"'

    def _value(self) -> str:
        """Return the rule for any JSON value."""
        if "" not in self._refs:
            self._refs[""] = rule = self._rules.reserve("value")
            self._rules.define(rule, self._typed({}, "value"))
        return self._refs[""]

    def _any(self, schema: Any, name: str) -> str:
        is_open = schema is True or (
            isinstance(schema, dict) and not (_CONSTRAINTS | _REFUSED) & schema.keys()
        )
        return self._value() if is_open else self._visit(schema, name)

    def _array(self, schema: dict[str, Any], name: str) -> str:
        low, high = _counts(schema, "minItems", "maxItems", name)
        prefix = _list_of(schema, "prefixItems", name) if "prefixItems" in schema else []
        items = schema.get("items", not prefix)
        if isinstance(items, list):
            raise ValueError(f"The JSON schema's 'items' (at {name!r}) is a list: use 'prefixItems'.")
        if high is not None:
            prefix = prefix[:high]
        if schema.get("uniqueItems") and (high is None or high > 1):
            raise ValueError(f"The JSON schema's 'uniqueItems' (at {name!r}) can't be turned into a grammar.")
        first = [self._any(item, f"{name}-{i}") for i, item in enumerate(prefix)]
        low = max(low - len(first), 0)
        high = 0 if items is False else None if high is None else high - len(first)
        if high is not None and low > high:
            raise ValueError(f"The JSON schema's 'minItems' (at {name!r}) can't be reached.")
        comma = f'"," {self._space} '
        head = f" {comma}".join(first)
        if high == 0:
            return f'"[" {self._space} {head} "]"'.replace("  ", " ")
        item = self._any(items, f"{name}-item")
        following = f"({comma}{item})"
        if first:
            body = f"{head} {repeat(following, low, high)}"
        else:
            rest = "" if high == 1 else " " + repeat(following, max(low - 1, 0), high and high - 1)
            body = f"{item}{rest}" if low else f"({item}{rest})?"
        return self._rules.add(name, f'"[" {self._space} {body} "]"')

    def _object(self, schema: dict[str, Any], name: str) -> str:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise ValueError(f"The JSON schema's 'properties' or 'required' (at {name!r}) is malformed.")
        other = schema.get("additionalProperties", "properties" not in schema)
        low, high = _counts(schema, "minProperties", "maxProperties", name)
        properties = dict(properties)
        for key in required:
            if key not in properties:
                if other is False:
                    raise ValueError(f"The JSON schema requires {key!r} (at {name!r}) but does not allow it.")
                properties[key] = other
        if low > max(len(required), 1) or (low and low > len(required) and properties):
            raise ValueError(
                f"The JSON schema's 'minProperties' (at {name!r}) can't be turned into a grammar."
            )
        if high is not None and properties and high < len(properties) + (other is not False):
            raise ValueError(
                f"The JSON schema's 'maxProperties' (at {name!r}) can't be turned into a grammar."
            )
        pairs = []
        for key, value in properties.items():
            if value is not False or key in required:
                quoted = literal(json.dumps(key, ensure_ascii=False))
                pairs.append((f"{quoted} {self._colon} {self._any(value, f'{name}-{key}')}", key in required))
        if other is not False and high != 0:
            key = any_string(self._rules) if not properties else key_other_than(self._rules, properties)
            pair = self._rules.add(f"{name}-pair", f"{key} {self._colon} {self._any(other, f'{name}-other')}")
            most = None if high is None or properties else high - 1
            following = f'("," {self._space} {pair})'
            more = "" if most == 0 else repeat(following, 0, most)
            pairs.append((f"{pair} {more}".rstrip(), bool(low and not properties)))
        return self._rules.add(
            name, f'"{{" {self._space} {self._members(pairs, name)} "}}"'.replace("  ", " ")
        )

    @property
    def _colon(self) -> str:
        return f'":" {self._space}'

    def _members(self, pairs: list[tuple[str, bool]], name: str) -> str:
        """Return the members in order, the optional ones left out or not, commas only between them."""
        # What follows each place: `after` where a member has come before it, `first` where none has.
        after = first = ""
        for pair, is_required in reversed(pairs):
            pair_rule = self._rules.add(f"{name}-member", pair) if not is_required else pair
            with_comma = f'"," {self._space} {pair_rule} {after}'.rstrip()
            alone = f"{pair_rule} {after}".rstrip()
            if is_required:
                after, first = with_comma, alone
            else:
                first = self._rules.add(f"{name}-first", f"{alone} | {first or _NOTHING}")
                after = self._rules.add(f"{name}-rest", f"{with_comma} | {after or _NOTHING}")
        return first


def _list_of(schema: dict[str, Any], key: str, name: str) -> list[Any]:
    value = schema[key]
    if not isinstance(value, list) or not value:
        raise ValueError(f"The JSON schema's {key!r} (at {name!r}) must be a list with something in it.")
    return value


def _counts(schema: dict[str, Any], least: str, most: str, name: str) -> tuple[int, int | None]:
    low, high = schema.get(least, 0), schema.get(most)
    for key, value in ((least, low), (most, high)):
        is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        if value is not None and not is_count:
            raise ValueError(
                f"The JSON schema's {key!r} (at {name!r}) must be a whole number, not {value!r}."
            )
        if value is not None and value > MAX_REPEATS:
            raise ValueError(f"The JSON schema's {key!r} (at {name!r}) is over {MAX_REPEATS}.")
    if high is not None and low > high:
        raise ValueError(f"The JSON schema's {least!r} (at {name!r}) is greater than its {most!r}.")
    return low, high


def _types_of(schema: dict[str, Any], name: str) -> list[str]:
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    for kind in types:
        if kind not in _TYPES:
            raise ValueError(
                f"The JSON schema's 'type' (at {name!r}) is {kind!r}, which is none of {_TYPES}."
            )
    return [kind for kind in types if kind != "integer" or "number" not in types]


def _types_of_value(value: Any) -> set[str]:
    kinds: list[tuple[type, set[str]]] = [
        (bool, {"boolean"}), (int, {"integer", "number"}), (float, {"number"} ), (str, {"string"}),
        (list, {"array"}), (dict, {"object"}),
    ]  # fmt: skip
    found = next((names for kind, names in kinds if isinstance(value, kind)), {"null"})
    return found | {"integer"} if isinstance(value, float) and value.is_integer() else found


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _keeps(value: Any, schema: dict[str, Any], keys: set[str], name: str) -> bool:
    """Whether a value of an enumeration obeys the bounds that stand beside it."""
    kind = next(iter(_types_of_value(value)))
    if keys & _OF_TYPE.get(kind, set()):
        raise ValueError(
            f"The JSON schema has {sorted(keys)[0]!r} beside 'enum' or 'const' (at {name!r}), "
            "which can't be turned into a grammar: list the values that obey it."
        )
    return True
