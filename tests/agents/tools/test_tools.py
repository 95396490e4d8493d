"""What all tools share: arguments held to a schema, limits, errors in words; and the adapters."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema
import pytest
from langchain_core.tools import StructuredTool, tool
from localsmith.agents.tools.arguments import signature, writable_schema
from localsmith.agents.tools.call import CallCancelled, call_tool
from localsmith.agents.tools.check import check_arguments
from localsmith.agents.tools.documents import search_documents
from localsmith.agents.tools.langchain import from_langchain
from localsmith.agents.tools.python import run_python
from localsmith.agents.tools.standard import standard_tools
from localsmith.agents.tools.tool import FunctionTool, Observation, ToolContext
from localsmith.core.errors import (
    ConfigError,
    IndexNotFoundError,
    ToolArgumentError,
    ToolExecutionError,
)
from localsmith.core.types import Chunk, Passage, ProgramResult, Question
from localsmith.models.grammar.constraint import json_schema_grammar

CONTEXT = ToolContext(Question("?"))
NUMBER = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}, "required": ["n"]}


def made(function: Any, **changed: Any) -> FunctionTool:
    return FunctionTool("count", "Count.", NUMBER, function, **changed)


def test_arguments_are_checked_before_the_tool_sees_them() -> None:
    seen: list[Mapping[str, Any]] = []
    counting = made(lambda arguments, context: (seen.append(arguments), Observation("ok"))[1])
    for wrong in ({}, {"n": -1}, {"n": "1"}, {"n": True}, {"n": 1, "m": 2}):
        with pytest.raises(ToolArgumentError):
            call_tool(counting, wrong, CONTEXT)
    assert seen == []
    assert call_tool(counting, {"n": 1}, CONTEXT).text == "ok"


def test_a_tool_that_hangs_is_given_up_and_told_so() -> None:
    told = threading.Event()

    def hang(arguments: Any, context: ToolContext) -> Observation:
        told.set() if context.cancel.wait(10) else None
        return Observation("late")

    begun = time.monotonic()
    with pytest.raises(ToolExecutionError, match="took longer than 0.1 s"):
        call_tool(made(hang, timeout_s=0.1), {"n": 1}, CONTEXT)
    assert time.monotonic() - begun < 2 and told.wait(2)


def test_cancelling_ends_the_wait() -> None:
    cancel = threading.Event()
    threading.Timer(0.1, cancel.set).start()
    begun = time.monotonic()
    with pytest.raises(CallCancelled):
        call_tool(
            made(lambda a, c: Observation(str(c.cancel.wait(10)))),
            {"n": 1},
            ToolContext(Question("?"), cancel),
        )
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize(
    "error",
    [RuntimeError("boom"), KeyError("x"), IndexNotFoundError("gone"), SystemExit(3), RecursionError()],
)
def test_whatever_a_tool_raises_is_an_error_that_the_model_can_read(error: BaseException) -> None:
    def fail(arguments: Any, context: ToolContext) -> Observation:
        raise error

    with pytest.raises(ToolExecutionError, match="count"):
        call_tool(made(fail), {"n": 1}, CONTEXT)


def test_a_tool_that_returns_something_else_is_an_error() -> None:
    with pytest.raises(ToolExecutionError, match="returned int"):
        call_tool(made(lambda arguments, context: 3), {"n": 1}, CONTEXT)


SCHEMAS: list[dict[str, Any]] = [
    NUMBER,
    {"type": "object", "properties": {"a": {"enum": ["x", 1, None]}, "b": {"const": 2}}},
    {"type": "object", "properties": {"a": {"type": ["string", "null"], "maxLength": 3}}},
    {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "number"}, "maxItems": 2}}},
    {"type": "object", "properties": {"a": {"anyOf": [{"type": "integer"}, {"type": "string"}]}}},
    {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/p"}},
        "$defs": {"p": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}},
    },
    {"type": "object", "properties": {"a": {"allOf": [{"type": "integer"}, {"minimum": 3}]}}},
    {"type": "object", "properties": {"a": {"type": "string", "pattern": "^a+$"}}},
    {"type": "object", "properties": {"a": {"type": "number", "exclusiveMinimum": 0, "maximum": 5}}},
]
VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        2,
        3,
        5,
        6,
        -1,
        1.0,
        2.5,
        "",
        "a",
        "x",
        "aaaa",
        "b",
        [],
        [1],
        [1, 2, 3],
        ["a"],
    ),
    *({}, {"x": 1}, {"x": "1"}, {"y": 1}),
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_check_agrees_with_jsonschema(schema: dict[str, Any]) -> None:
    closed = {**schema, "additionalProperties": False}
    for value in [{}, *({key: value} for key in ("a", "b", "n") for value in VALUES)]:
        try:
            check_arguments(closed, value)
        except ToolArgumentError:
            is_allowed = False
        else:
            is_allowed = True
        expected = jsonschema.Draft202012Validator(closed).is_valid(value)
        assert is_allowed == expected, value


@pytest.mark.parametrize("value", [None, [], "x", 3])
def test_arguments_that_are_no_object_are_refused(value: Any) -> None:
    with pytest.raises(ToolArgumentError):
        check_arguments(NUMBER, value)


def test_every_text_and_list_of_a_call_is_bounded() -> None:
    schema = writable_schema(
        {
            "type": "object",
            "properties": {
                "text": {"type": "string"},
                "texts": {"type": "array", "items": {"type": "string", "maxLength": 5}},
                "inner": {"type": "object", "properties": {"text": {"type": "string"}}},
                "both": {"type": ["string", "null"]},
                "short": {"type": "string", "maxLength": 7},
                "chosen": {"enum": ["a", "b"]},
            },
        }
    )["properties"]
    assert schema["text"]["maxLength"] == schema["inner"]["properties"]["text"]["maxLength"] == 300
    assert (schema["both"]["maxLength"], schema["short"]["maxLength"]) == (300, 7)
    assert schema["texts"]["maxItems"] == 12 and "maxLength" not in schema["chosen"]


def test_what_no_grammar_can_keep_is_widened_and_still_checked() -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "not": {"const": 3}}, "m": {"type": "integer", "maximum": 5}},
        "required": ["n"],
    }
    with pytest.raises(ValueError, match="not"):
        json_schema_grammar(schema)
    widened = writable_schema(schema)
    json_schema_grammar(widened)
    assert widened["properties"] == {"n": {"type": "integer"}, "m": {"type": "integer", "maximum": 5}}
    with pytest.raises(ConfigError):
        writable_schema({"type": "string"})


def test_the_prompt_shows_arguments_in_one_line() -> None:
    assert (
        signature(
            {
                "properties": {
                    "unit": {"enum": ["C", "F"]},
                    "date": {"type": "string", "description": "YYYY-MM-DD"},
                    "n": {"type": "integer"},
                },
                "required": ["unit"],
            }
        )
        == '{"unit": "C" or "F", "date"?: string (YYYY-MM-DD), "n"?: integer}'
    )


# -- document search, Python, LangChain


class Shelf:
    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int, tuple[str, ...]]] = []

    def search(
        self, query: str, collection: str, k: int = 8, document_ids: Sequence[str] = ()
    ) -> list[Passage]:
        self.asked.append((query, collection, k, tuple(document_ids)))
        if collection == "gone":
            raise IndexNotFoundError("There is no collection 'gone'.")
        chunk = Chunk("c1", "d1", 0, "The bridge was opened in 1878.", 0, 30, 1, (), 8)
        return [Passage(chunk, "bridges.pdf", 1, 1.0)] if "bridge" in query else []


def test_search_asks_in_the_questions_collection_and_documents() -> None:
    shelf = Shelf()
    searching = search_documents(shelf, k=2)
    question = Question("When?", collection="papers", document_ids=("d1",))
    found = call_tool(searching, {"query": "bridge opened"}, ToolContext(question))
    assert [passage.document_name for passage in found.passages] == ["bridges.pdf"]
    assert shelf.asked == [("bridge opened", "papers", 2, ("d1",))]
    assert call_tool(searching, {"query": "weather"}, CONTEXT).text == "Nothing was found."
    for collection in (None, "gone"):
        with pytest.raises(ToolExecutionError):
            call_tool(searching, {"query": "bridge"}, ToolContext(Question("?", collection=collection)))


class FakeSandbox:
    name = "fake"

    def run(self, program: str, *, timeout_s: float | None = None) -> ProgramResult:
        if "1/0" in program:
            return ProgramResult("error", "before", "ZeroDivisionError: division by zero")
        return ProgramResult("ok", "42\n" if "print" in program else "")


def test_a_programs_output_is_the_observation_and_its_error_is_one_too() -> None:
    running = run_python(FakeSandbox())
    assert call_tool(running, {"program": "print(6*7)"}, CONTEXT).text == "42"
    assert "print()" in call_tool(running, {"program": "6*7"}, CONTEXT).text
    with pytest.raises(ToolExecutionError, match="(?s)before.*ZeroDivisionError"):
        call_tool(running, {"program": "1/0"}, CONTEXT)


@tool
def stock(part: str, least: int = 2) -> int:
    """Tell how many of a part are in stock."""
    return len(part) + least


def test_a_langchain_tool_is_called_with_its_own_schema() -> None:
    adapted = from_langchain(stock, needs_approval=False)
    assert (adapted.name, adapted.description) == ("stock", "Tell how many of a part are in stock.")
    assert call_tool(adapted, {"part": "bolt"}, CONTEXT).text == "6"
    with pytest.raises(ToolArgumentError):
        call_tool(adapted, {"least": 3}, CONTEXT)


def test_an_asynchronous_langchain_tool_works_and_a_person_agrees_by_default() -> None:
    async def double(n: int) -> dict[str, int]:
        """Double a number."""
        return {"doubled": 2 * n}

    adapted = from_langchain(StructuredTool.from_function(coroutine=double, name="to double"))
    assert adapted.needs_approval and adapted.name == "to_double"
    assert json.loads(call_tool(adapted, {"n": 4}, CONTEXT).text) == {"doubled": 8}


def test_the_standard_tools_are_those_that_can_be_used() -> None:
    def names(**parts: Any) -> list[str]:
        return [tool.name for tool in standard_tools(**parts)]

    assert names() == ["calculator", "dates", "units"]
    everything = standard_tools(
        retriever=Shelf(), sandbox=FakeSandbox(), tables=lambda question: [], allowed_hosts=["example.org"]
    )
    assert [tool.name for tool in everything] == [
        "search_documents", "calculator", "dates", "units", "run_python", "list_tables", "query_tables",
        "fetch_page",
    ]  # fmt: skip
    assert [tool.name for tool in everything if tool.needs_approval] == ["fetch_page"]
    assert len({tool.name for tool in everything}) == len(everything)
    random.Random(0).shuffle(everything)
    for one in everything:
        json_schema_grammar(writable_schema(one.parameters))
