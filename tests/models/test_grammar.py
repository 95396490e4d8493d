"""Grammars keep what was asked for, judged by llama.cpp itself, and none of them brings the process down."""

from __future__ import annotations

import ctypes
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from localsmith.models.chat.tool_calls import split_tool_calls
from localsmith.models.grammar.constraint import (
    check_grammar,
    choice_grammar,
    json_schema_grammar,
    regex_grammar,
    tool_call_grammar,
)
from localsmith.models.grammar.reader import Grammar, read_gbnf
from pydantic import BaseModel, Field

pytestmark = pytest.mark.real_model

Accepts = Callable[[str, str], bool]
few = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


class LlamaGrammar:
    """llama.cpp's own judgement of whether a text obeys a grammar, without a model's logits."""

    def __init__(self, path: Path) -> None:
        import llama_cpp

        self._api: Any = llama_cpp
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self._end = llama_cpp.llama_vocab_eos(self._vocab)

    def accepts(self, grammar: str, text: str) -> bool:
        """Return whether `text` may be written and may end there."""
        api = self._api
        sampler = api.llama_sampler_init_grammar(self._vocab, grammar.encode(), b"root")
        assert sampler, f"llama.cpp refuses the grammar:\n{grammar}"
        try:
            for token in [*self._tokens(text), self._end]:
                if not self._allows(sampler, token):
                    return False
                if token != self._end:
                    api.llama_sampler_accept(sampler, token)
            return True
        finally:
            api.llama_sampler_free(sampler)

    def _allows(self, sampler: Any, token: int) -> bool:
        data = (self._api.llama_token_data * 1)(self._api.llama_token_data(token, 0.0, 0.0))
        array = self._api.llama_token_data_array(data, 1, -1, False)
        self._api.llama_sampler_apply(sampler, ctypes.byref(array))
        return bool(data[0].logit == 0.0)

    def _tokens(self, text: str) -> list[int]:
        raw = text.encode()
        buffer = (self._api.llama_token * (len(raw) + 8))()
        count = self._api.llama_tokenize(self._vocab, raw, len(raw), buffer, len(raw) + 8, False, False)
        if b"".join(self._piece(token) for token in buffer[:count]) != raw:
            assume(False)  # this vocabulary lacks a few bytes of rare characters
        return list(buffer[:count])

    def _piece(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(256)
        size = self._api.llama_token_to_piece(self._vocab, token, buffer, 256, 0, True)
        return buffer.raw[:size]

    def close(self) -> None:
        self._api.llama_model_free(self._model)


@pytest.fixture(scope="module")
def accepts(small_model_path: Path) -> Iterator[Accepts]:
    judge = LlamaGrammar(small_model_path)
    yield judge.accepts
    judge.close()


def texts_of(grammar: str, seed: int, size: int = 400) -> str:
    """Write a text that the grammar allows, at random, soon seeking the shortest way to the end."""
    chooser = random.Random(seed)
    rules = read_gbnf(grammar)
    costs = shortest(rules)
    written: list[str] = []
    todo: list[Any] = ["root"]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            options = rules.rules[item]
            if len(written) > size:
                options = (min(options, key=lambda option: cost_of(option, costs)),)
            todo += reversed(chooser.choice(options))
        else:
            low, high = chooser.choice([pair for pair in item if pair[0] < 0x2000] or item)
            low = max(low, 32) if high > 32 else low  # this vocabulary lacks a few control characters
            written.append(chr(chooser.randint(low, min(high, low + 40))))
    return "".join(written)


def cost_of(alternative: tuple[Any, ...], costs: dict[str, float]) -> float:
    return sum(1 + costs[item] if isinstance(item, str) else 1 for item in alternative)


def shortest(grammar: Grammar) -> dict[str, float]:
    costs = dict.fromkeys(grammar.rules, float("inf"))
    while True:
        new = {name: min(cost_of(option, costs) for option in rule) for name, rule in grammar.rules.items()}
        if new == costs:
            return costs
        costs = new


def mutated(text: str, seed: int) -> str:
    chooser = random.Random(seed)
    at = chooser.randrange(len(text) + 1)
    other = chooser.choice('019-"\\{}[],:. aeE\néx')
    return chooser.choice(
        [text[:at] + other + text[at:], text[:at] + text[at + 1 :], text[:at] + other + text[at + 1 :]]
    )


# -- JSON schemas


class Colour(BaseModel):
    """A colour."""

    name: Literal["red", "green", 'odd "one"\\']
    alpha: float = Field(ge=0, le=1)


class Circle(BaseModel):
    """A circle."""

    kind: Literal["circle"]
    radius: float = Field(gt=0, lt=99.5)


class Square(BaseModel):
    """A square."""

    kind: Literal["square"]
    side: int = Field(ge=-3, le=1205)


class Drawing(BaseModel):
    """Everything at once."""

    title: str = Field(min_length=1, max_length=12)
    note: str | None = None
    colours: list[Colour] = Field(min_length=1, max_length=3)
    shape: Annotated[Circle | Square, Field(discriminator="kind")]
    code: str = Field(pattern=r"^[A-Z]{2}-\d{2,4}$")
    places: dict[str, int] = {}
    pair: tuple[int, str] = (1, "a")
    parts: list[Drawing] = []


SCHEMAS: dict[str, Any] = {
    "drawing": Drawing.model_json_schema(),
    "optional": {
        "type": "object",
        "properties": {name: {"type": "integer"} for name in "abcd"},
        "required": ["b", "d"],
        "additionalProperties": False,
    },
    "all optional": {"type": "object", "properties": {name: {"type": "null"} for name in "abc"}},
    "open": {
        "type": "object",
        "properties": {"id": {"type": "integer"}, "ids": {"type": "boolean"}},
        "required": ["id"],
        "additionalProperties": {"type": "string", "maxLength": 3},
    },
    "required elsewhere": {"type": "object", "required": ["x"], "additionalProperties": {"type": "boolean"}},
    "types": {"type": ["integer", "null", "boolean"]},
    "anything": {},
    "enum": {"enum": [1, "1", None, [1, {"a": "b"}], 2.5, True, "é\n\\"]},
    "const": {"const": {"a": [1, '"\\\t']}},
    "all": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}}, "required": ["a"]},
            {"properties": {"a": {"maximum": 17}, "b": {"type": "string"}}, "required": ["b"]},
        ]
    },
    "ref with more": {
        "$defs": {"n": {"type": "integer", "minimum": 0}},
        "type": "array",
        "items": {"$ref": "#/$defs/n", "maximum": 25, "description": "small"},
        "minItems": 2,
        "maxItems": 4,
    },
    "union with more": {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "anyOf": [
            {"properties": {"b": {"type": "null"}}, "required": ["b"]},
            {"properties": {"c": {"const": 1}}},
        ],
    },
    "tuple": {
        "type": "array",
        "prefixItems": [{"type": "integer"}, {"type": "null"}],
        "minItems": 2,
        "items": {"type": "boolean"},
        "maxItems": 4,
    },
    "pattern inside": {"type": "string", "pattern": "a+$"},
    "pattern with escapes": {"type": "string", "pattern": r'^["\\\n]{1,3}[^"a-z]?$'},
    "up to": {"type": "integer", "maximum": -8},
    "over": {"type": "integer", "exclusiveMinimum": 99, "exclusiveMaximum": 10003},
    "fraction": {"type": "number", "minimum": 0.25, "maximum": 0.75},
    "fractions": {"type": "number", "exclusiveMinimum": -2.05, "maximum": 10.5},
    "negative": {"type": "number", "minimum": -7.5, "exclusiveMaximum": -7.25},
    "from": {"type": "number", "exclusiveMinimum": 0},
    "number": {"type": "number"},
    "map": {
        "type": "object",
        "additionalProperties": {"type": "integer"},
        "minProperties": 1,
        "maxProperties": 3,
    },
    **{
        f"format {name}": {"type": "string", "format": name}
        for name in (
            "date",
            "time",
            "date-time",
            "uuid",
            "ipv4",
            "ipv6",
            "email",
            "duration",
            "uri",
            "hostname",
        )
    },
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_a_schema_s_grammar_allows_obeys_the_schema(name: str, accepts: Accepts) -> None:
    grammar = json_schema_grammar(SCHEMAS[name])
    validator = jsonschema.Draft202012Validator(
        SCHEMAS[name], format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    num_broken = 0
    for seed in range(150):
        text = texts_of(grammar, seed)
        assert accepts(grammar, text), text
        validator.validate(json.loads(text))
        broken = mutated(text, seed)
        if accepts(grammar, broken):
            validator.validate(json.loads(broken))
        else:
            num_broken += 1
    assert num_broken > 5


def test_pydantic_takes_what_its_schema_s_grammar_allows() -> None:
    grammar = json_schema_grammar(Drawing.model_json_schema())
    for seed in range(100):
        Drawing.model_validate_json(texts_of(grammar, seed))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("optional", {"b": 1, "d": 2}),
        ("optional", {"a": -5, "b": 1, "c": 999999999, "d": 0}),
        ("all optional", {}),
        ("all optional", {"b": None}),
        ("all optional", {"a": None, "c": None}),
        ("open", {"id": 1, "ids": True, "idss": "x", "i": "", "other": "abc"}),
        ("anything", {"a": [1, -2.5e10, "x\n\u00e9\U0001f600", {}, [], None, True]}),
        ("union with more", {"a": 1, "b": None}),
        ("union with more", {"a": 1, "c": 1}),
        ("tuple", [1, None, True]),
        ("pattern inside", "xyza"),
        ("fractions", -2.04),
        ("fractions", 10.5),
        ("fraction", 0.3333),
        ("number", 1e10),
        ("map", {"a": 1, "b": -2}),
        ("format date-time", "2024-02-28T23:59:59.123Z"),
        ("format email", "jane.doe+x@mail.example.co.uk"),
        ("format duration", "P3DT4H5M"),
        ("format uri", "https://example.org:8080/a/b?c=d#e"),
    ],
)
def test_usual_values_are_allowed(name: str, value: Any, accepts: Accepts) -> None:
    grammar = json_schema_grammar(SCHEMAS[name])
    assert accepts(grammar, json.dumps(value, ensure_ascii=False))
    assert accepts(grammar, json.dumps(value, ensure_ascii=False, separators=(",", ":")))


@few
@given(st.integers(-(10**6), 10**6), st.integers(0, 10**6), st.booleans(), st.data())
@example(0, 0, False, None)
def test_integer_bounds_hold_on_both_sides(
    accepts: Accepts, low: int, width: int, is_strict: bool, data: st.DataObject | None
) -> None:
    high = low + width + 2 * is_strict
    keys = ("exclusiveMinimum", "exclusiveMaximum") if is_strict else ("minimum", "maximum")
    grammar = json_schema_grammar({"type": "integer", keys[0]: low, keys[1]: high})
    near = {low + i for i in (-1, 0, 1)} | {high + i for i in (-1, 0, 1)}
    for value in near | ({data.draw(st.integers(low - width, high + width))} if data else set()):
        is_inside = low < value < high if is_strict else low <= value <= high
        assert accepts(grammar, str(value)) == is_inside, value


@few
@given(
    st.decimals(-200, 200, places=3),
    st.decimals(0, 100, places=2),
    st.booleans(),
    st.booleans(),
    st.decimals(-300, 300, places=4),
)
def test_number_bounds_hold_on_both_sides(
    accepts: Accepts, low: Decimal, width: Decimal, is_over: bool, is_under: bool, other: Decimal
) -> None:
    high = low + width
    assume(low < high)
    keys = "exclusiveMinimum" if is_over else "minimum", "exclusiveMaximum" if is_under else "maximum"
    grammar = json_schema_grammar({"type": "number", keys[0]: float(low), keys[1]: float(high)})
    step = Decimal("0.0001")
    for value in (low, high, low - step, high + step, (low + high) / 2, other):
        is_over_low = low < value if is_over else low <= value
        is_under_high = value < high if is_under else value <= high
        text = format(value, "f")
        assume(not text.startswith("-0") or value)
        assert accepts(grammar, text) == (is_over_low and is_under_high), text


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"not": {"type": "null"}}, "not"),
        ({"type": "object", "patternProperties": {"^a": {}}}, "patternProperties"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "integer", "multipleOf": 3}, "multipleOf"),
        ({"type": "object", "properties": {"a": {"if": {}, "then": {}}}}, "if"),
        ({"type": "array", "contains": {"const": 1}}, "contains"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-ahead"),
        ({"type": "string", "pattern": "^a+$", "maxLength": 3}, "pattern.*maxLength"),
        ({"type": "string", "format": "iri-reference"}, "iri-reference"),
        ({"type": "string", "maxLength": 100_000}, "maxLength"),
        ({"type": "object", "propertyNames": {"maxLength": 3}}, "propertyNames"),
        ({"type": "object", "minProperties": 2}, "minProperties"),
        ({"enum": []}, "enum"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "at least 3"),
        ({"type": "array", "minItems": 3, "maxItems": 2}, "minItems"),
        ({"$ref": "#/$defs/gone"}, "gone"),
        ({"$ref": "https://example.org/schema.json"}, "example.org"),
        ({"$ref": "#"}, "itself"),
        ({"allOf": [{"$ref": "#"}]}, "itself"),
        ({"type": "strin"}, "strin"),
        (
            {"type": "object", "required": ["a"], "properties": {}, "additionalProperties": False},
            "requires 'a'",
        ),
        (False, "nothing"),
        ({"properties": 3}, "properties"),
        ({"type": "object", "properties": {"n": {"$ref": "#"}}, "required": ["n"]}, "never ends"),
    ],
)
def test_what_no_grammar_can_keep_is_refused_by_name(schema: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        json_schema_grammar(schema)


def test_a_schema_nested_without_end_is_an_error() -> None:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(300):
        schema = {"type": "array", "items": schema}
    with pytest.raises(ValueError, match="nested"):
        json_schema_grammar(schema)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@few
@given(json_values)
def test_any_json_value_is_allowed_by_the_open_schema(accepts: Accepts, value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assume("\x7f" not in text)
    assert accepts(json_schema_grammar({}), text)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                *"type enum items properties required minimum anyOf allOf oneOf".split(),
                *"$ref pattern minLength const additionalProperties prefixItems format maxItems".split(),
            ]
        ),
        json_values,
        max_size=4,
    )
)
def test_any_json_as_a_schema_makes_a_grammar_or_a_value_error(schema: dict[str, Any]) -> None:
    try:
        json_schema_grammar(schema)
    except ValueError:
        pass


# -- regular expressions and choices

PATTERNS = [
    r"[ab]+c?",
    r"(a|bc)*d{2,3}",
    r"(a*b?)*",
    r"(?:x|)y{,2}z{2,}",
    r"\w+@\w+\.(com|org)",
    r"^\d{3}-\d{4}$",
    r"[^\n\-\]a]{1,3}",
    r"(?P<x>é|ü|\U0001F600)?.",
    r'"[^"\\]*"',
    r"\S\s\D\W",
    r"((a?){0,3}b)*",
    r"[\d_-]+?",
    r"a{2}{3}" if sys.version_info < (3, 11) else r"(a{2}){3}",
    r"[]x]|[^]x]",
    r"\$\^\.\*\/",
    "ab|c|",
    r"a{x}",
    "()",
]


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_regex_s_grammar_allows_what_fullmatch_matches(
    accepts: Accepts, pattern: str, data: st.DataObject
) -> None:
    compiled = re.compile(pattern, re.ASCII)
    grammar = regex_grammar(pattern)
    text = data.draw(st.from_regex(compiled, fullmatch=True))
    assume("\0" not in text and len(text) < 14)  # `re` takes exponential time for some of these
    assert accepts(grammar, text)
    written = texts_of(grammar, data.draw(st.integers(0, 10**6)), size=6)
    assert len(written) > 20 or compiled.fullmatch(written), written
    for seed in range(5):
        other = mutated(text, data.draw(st.integers(0, 10**6)) + seed)
        assert accepts(grammar, other) == bool(compiled.fullmatch(other)), other


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("x(?=a)b", "look-ahead at position 1"),
        ("(?<!a)b", "look-behind"),
        (r"(a)\1", "back-reference"),
        ("a{1,100000}", "repeats at position"),
        ("a++", "possessive"),
        (r"a\b", "word boundary at position 1"),
        ("(?i)a", "inline flag"),
        ("a^b", r"anchor '\^'"),
        ("(a", "malformed"),
        ("((a{900}){900}){900}", "too large"),
        ("(?>a)", "atomic"),
        (r"\x00", "U\\+0000"),
        ("(" * 200 + ")" * 200, "nesting"),
        ("a$b", "anchor"),
    ],
)
def test_a_regex_beyond_a_grammar_is_refused_by_name_and_place(pattern: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        regex_grammar(pattern)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab01()[]{}|?*+^$\\.,-dwsbZ", max_size=12))
def test_any_text_as_a_regex_makes_a_grammar_or_a_value_error(pattern: str) -> None:
    try:
        regex_grammar(pattern)
    except ValueError:
        pass


@few
@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), min_size=1
    )
)
def test_a_choice_allows_exactly_its_texts(accepts: Accepts, choices: list[str]) -> None:
    grammar = choice_grammar(choices)
    for text in choices:
        assert accepts(grammar, text)
        assert accepts(grammar, text[:-1]) == (text[:-1] in choices)
        assert accepts(grammar, text + "x") == (text + "x" in choices)


@pytest.mark.parametrize("choices", [[], [""], "yes", ["a\0"], [str(i) for i in range(2000)]])
def test_a_choice_of_nothing_is_an_error(choices: Any) -> None:
    with pytest.raises(ValueError, match="choice|U\\+0000"):
        choice_grammar(choices)


# -- tool calls


def tool(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [
    tool("find", query={"type": "string", "maxLength": 8}),
    tool("add", a={"type": "integer"}, b={"type": "integer", "minimum": 5}),
    {"type": "function", "function": {"name": "now"}},
]


@pytest.mark.parametrize(("choice", "names"), [(None, None), ("required", None), ("add", {"add"})])
def test_tool_calls_obey_their_schema_and_are_read_back(
    accepts: Accepts, choice: str | None, names: set[str] | None
) -> None:
    made = tool_call_grammar(TOOLS, choice=choice)
    assert made.trigger == ("" if choice else "<tool_call>")
    schemas = {tool["function"]["name"]: tool["function"].get("parameters", {}) for tool in TOOLS}
    seen = set()
    for seed in range(60):
        text = texts_of(made.grammar, seed)
        assert accepts(made.grammar, text)
        assert text.startswith("<tool_call>")
        rest, calls = split_tool_calls(text)
        assert rest == ""
        assert calls
        for call in calls:
            jsonschema.validate(json.loads(call.arguments), schemas[call.name])
            seen.add(call.name)
    assert seen == (names or set(schemas))


def test_one_tool_s_arguments_don_t_fit_another(accepts: Accepts) -> None:
    grammar = tool_call_grammar(TOOLS, choice="required").grammar
    call = '<tool_call>\n{"name": "%s", "arguments": %s}\n</tool_call>'
    assert accepts(grammar, call % ("add", '{"a": 1, "b": 5}'))
    assert accepts(grammar, call % ("add", '{"a": 1, "b": 5}') + "\n" + call % ("now", "{}"))
    assert not accepts(grammar, call % ("find", '{"a": 1, "b": 5}'))
    assert not accepts(grammar, call % ("add", '{"a": 1, "b": 4}'))
    assert not accepts(grammar, "I would rather not.")


def test_wrong_tools_are_errors() -> None:
    with pytest.raises(ValueError, match="no tool 'gone'; there are add, find, now"):
        tool_call_grammar(TOOLS, choice="gone")
    with pytest.raises(ValueError, match="Two tools"):
        tool_call_grammar([*TOOLS, TOOLS[0]], choice=None)
    with pytest.raises(ValueError, match="no tools"):
        tool_call_grammar([], choice=None)
    with pytest.raises(ValueError, match="not"):
        tool_call_grammar([tool("x", a={"not": {}})], choice=None)


# -- grammars from outside

NESTED = "\n".join(f'r{i} ::= "a" r{i + 1} "x" | "a" r{i + 1} "y"' for i in range(40)) + '\nr40 ::= "a"'
BEGIN = "\n".join(f"r{i} ::= r{i + 1} | r{i + 1}" for i in range(40)) + '\nr40 ::= "a"'
CHAIN = "\n".join(f"r{i} ::= r{i + 1}" for i in range(20_000)) + '\nr20000 ::= "a"'
HOSTILE = {
    "backwards repeat": ('root ::= "a"{3,2}', "backwards"),
    "hidden left recursion": ('root ::= x root "b" | "a"\nx ::= y\ny ::= "" | "b"', "itself"),
    "left recursion": ('root ::= root "a" | "b"', "itself"),
    "undefined": ("root ::= gone", "'gone'"),
    "no root": ('top ::= "a"', "root"),
    "empty": ("", "root"),
    "defined twice": ('root ::= "a"\nroot ::= "b"', "twice"),
    "repeat of nothing": ('root ::= "a" | *', "nothing to repeat"),
    "huge repeat": ('root ::= "a"{99999999}', "2000"),
    "overflowing repeat": ('root ::= "a"{99999999999999999999999}', "form"),
    "repeat of a repeat": ('root ::= "a"*+', "parentheses"),
    "many repeats": (
        "root ::= r0\n" + "\n".join(f'r{i} ::= "a"{{2000}} "b"{{0,2000}}' for i in range(60)),
        "parts",
    ),
    "empty set": ("root ::= []", "no character"),
    "NUL": ('root ::= "\\x00"', "no character"),
    "surrogate": ('root ::= "\\uD800"', "no character"),
    "beyond Unicode": ('root ::= "\\UFFFFFFFF"', "no character"),
    "range backwards": ("root ::= [z-a]", "backwards"),
    "nothing left": ("root ::= [^\\x01-\\U0010FFFE]", "negated"),
    "deep groups": ("root ::= " + "(" * 50_000 + '"a"' + ")" * 50_000, "nested"),
    "deep chain": (f"root ::= r0\n{CHAIN}", "begin"),
    "endless": ('root ::= "a" root', "never ends"),
    "many beginnings": (f"root ::= r0\n{BEGIN}", "begin"),
    "doubling by depth": (f"root ::= r0\n{NESTED}", "multiply"),
    "doubling by recursion": ('root ::= "a" root "b" | "a" root "c" | "d"', "multiply"),
    "doubling behind a prefix": ('root ::= [a-z]{500} s\ns ::= "(" s "b" | "(" s "c" | "d"', "multiply"),
    "expression": ('root ::= t "+" root | t\nt ::= "(" root ")" | [0-9]', "multiply"),
    "tokens": ("root ::= <[999999999999]>", "tokens"),
    "unclosed": ('root ::= "a', "missing"),
    "bad escape": ('root ::= "\\q"', "escape"),
    "too long": ('root ::= "' + "a" * 500_000 + '"', "characters"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_grammar_that_would_harm_the_process_is_refused_soon(name: str) -> None:
    grammar, reason = HOSTILE[name]
    start = time.perf_counter()
    with pytest.raises(ValueError, match=reason):
        check_grammar(grammar)
    assert time.perf_counter() - start < 5


def test_llama_cpp_s_own_examples_pass() -> None:
    from llama_cpp import llama_grammar

    for name in ("ARITHMETIC", "C", "CHESS", "JAPANESE", "JSON_ARR", "JSON", "LIST"):
        check_grammar(getattr(llama_grammar, f"{name}_GBNF"))


RUN = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
import random
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_grammar import LlamaGrammar, texts_of
from localsmith.models.grammar.constraint import check_grammar
judge = LlamaGrammar(Path(sys.argv[1]))
chooser = random.Random(int(sys.argv[3]))
names = ["root", "r1", "r2", "r3"]
ends = ["", "", "", "", "*", "+", "?", "{2}", "{0,3}", "{2,}"]

def written(depth):
    def item():
        kind = chooser.random()
        if kind < 0.2 and depth < 3:
            return "(" + written(depth + 1) + ")"
        return chooser.choice(names if kind < 0.32 else ['"a"', '"ab"', "[a-c]", "[^a]", ".", '"b"', '""'])
    one = lambda: " ".join(item() + chooser.choice(ends) for _ in range(chooser.randint(1, 3)))
    return " | ".join(one() for _ in range(chooser.randint(1, 3)))

passed = 0
for i in range(1500):
    text = "\\n".join(name + " ::= " + written(0) for name in names)
    try:
        check_grammar(text)
    except ValueError:
        continue
    passed += 1
    assert judge.accepts(text, texts_of(text, i, 30)), text
    judge.accepts(text, "".join(chooser.choice("abc") for _ in range(40)))
print(passed)
"""


@pytest.mark.parametrize("seed", range(2))
def test_llama_cpp_survives_every_grammar_that_passes(small_model_path: Path, seed: int) -> None:
    command = [sys.executable, "-c", RUN, str(small_model_path), str(Path(__file__).parent), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) > 20
