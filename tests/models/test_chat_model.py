"""The LangChain face of the engine, on the real small model."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from localsmith.core.errors import OutputParseError
from localsmith.core.settings import ModelSettings
from localsmith.core.types import SamplingParams
from localsmith.models.chat.model import ChatLocalsmith
from localsmith.models.chat.tool_calls import OPEN, ToolCallStream, split_tool_calls
from localsmith.models.engine import Engine
from localsmith.models.scripted import ScriptedModel
from pydantic import BaseModel, Field

pytestmark = pytest.mark.real_model


class Capital(BaseModel):
    """A capital city."""

    city: str = Field(max_length=30)
    is_large: bool


@pytest.fixture(scope="module")
def chat(small_model_path: Path) -> Iterator[ChatLocalsmith]:
    engine = Engine(small_model_path, name="small", settings=ModelSettings(n_ctx=2048))
    yield ChatLocalsmith(engine=engine, sampling=SamplingParams(max_tokens=40))
    engine.close()


def test_invoke_answers_with_usage(chat: ChatLocalsmith) -> None:
    message = chat.invoke([SystemMessage("Be brief."), HumanMessage("What is the capital of France?")])
    assert "Paris" in message.text
    assert message.usage_metadata is not None
    prompt = [SystemMessage("Be brief."), HumanMessage("What is the capital of France?")]
    assert message.usage_metadata["input_tokens"] == chat.get_num_tokens_from_messages(prompt)
    assert message.response_metadata["finish_reason"] == "stop"


def test_a_chain_streams_what_invoke_returns(chat: ChatLocalsmith) -> None:
    chain = ChatPromptTemplate.from_messages([("human", "What is the capital of {country}?")]) | chat
    chunks = list(chain.stream({"country": "Italy"}))
    assert len(chunks) > 3
    assert "".join(chunk.text for chunk in chunks) == chain.invoke({"country": "Italy"}).text
    assert chunks[-1].usage_metadata or any(chunk.usage_metadata for chunk in chunks)


def test_async_and_batch_agree_with_invoke(chat: ChatLocalsmith) -> None:
    expected = chat.invoke("Name a colour.").text
    assert asyncio.run(chat.ainvoke("Name a colour.")).text == expected
    assert [m.text for m in chat.batch(["Name a colour.", "Name a colour."])] == [expected, expected]

    async def collect() -> str:
        return "".join([chunk.text async for chunk in chat.astream("Name a colour.")])

    assert asyncio.run(collect()) == expected


def test_structured_output_always_parses(chat: ChatLocalsmith) -> None:
    structured = chat.with_structured_output(Capital, max_tokens=200, temperature=1.2)
    for seed in range(3):
        answer = structured.invoke("What is the capital of France?", seed=seed)
        assert isinstance(answer, Capital)


def test_json_cut_off_by_max_tokens_is_an_error_not_half_an_object(chat: ChatLocalsmith) -> None:
    with pytest.raises(OutputParseError, match="cut off"):
        chat.with_structured_output(Capital, max_tokens=3).invoke("What is the capital of France?")


def test_a_stop_text_and_an_unknown_argument(chat: ChatLocalsmith) -> None:
    assert "Paris" not in chat.invoke("What is the capital of France?", stop=["Paris"]).text
    with pytest.raises(ValueError, match="temprature"):
        chat.invoke("Hello", temprature=1)


def test_a_tool_conversation_can_be_continued(chat: ChatLocalsmith) -> None:
    call = {"name": "search", "args": {"query": "x"}, "id": "1", "type": "tool_call"}
    messages = [
        HumanMessage("Search x"),
        AIMessage("", tool_calls=[call]),
        ToolMessage("found y", tool_call_id="1"),
    ]
    assert chat.bind_tools([]).invoke(messages, max_tokens=5).text is not None


class Weather(BaseModel):
    """The weather in a city."""

    city: str = Field(max_length=20)
    days: int = Field(ge=1, le=7)


def test_a_forced_call_obeys_its_schema(chat: ChatLocalsmith) -> None:
    for choice in ("any", "Weather", True):
        bound = chat.bind_tools([Weather], tool_choice=choice, max_tokens=300, temperature=1.0)
        message = bound.invoke("Will it rain in Rome tomorrow?", seed=3)
        assert message.response_metadata["finish_reason"] == "tool_calls"
        assert message.text == ""
        Weather.model_validate(message.tool_calls[0]["args"])


def test_streamed_calls_add_up_to_the_invoked_ones(chat: ChatLocalsmith) -> None:
    bound = chat.bind_tools([Weather], tool_choice="Weather", max_tokens=300)
    whole = None
    for chunk in bound.stream("Will it rain in Rome tomorrow?"):
        whole = chunk if whole is None else whole + chunk
    assert isinstance(whole, AIMessageChunk)
    invoked = bound.invoke("Will it rain in Rome tomorrow?")
    assert [(c["name"], c["args"]) for c in whole.tool_calls] == [
        (c["name"], c["args"]) for c in invoked.tool_calls
    ]


def test_regex_and_choice_constrain_the_text(chat: ChatLocalsmith) -> None:
    assert chat.invoke("Is Rome in Italy?", choice=["yes", "no"]).text in ("yes", "no")
    assert re.fullmatch(r"[A-Z]{3}-\d{2}", chat.invoke("A code?", regex=r"[A-Z]{3}-\d{2}").text)


def test_log_probabilities_cover_the_text(chat: ChatLocalsmith) -> None:
    message = chat.invoke("Name a colour.", logprobs=True, top_logprobs=2)
    content = message.response_metadata["logprobs"]["content"]
    assert bytes(byte for token in content for byte in token["bytes"]).decode().startswith(message.text)
    for token in content:
        assert token["logprob"] <= 0
        assert len(token["top_logprobs"]) == 2
    assert "logprobs" not in chat.invoke("Name a colour.").response_metadata


# -- around the model's words


CALL = '<tool_call>\n{"name": "Weather", "arguments": {"city": "Rome", "days": 2}}\n</tool_call>'


def scripted(*replies: str, **options: Any) -> tuple[ChatLocalsmith, ScriptedModel]:
    model = ScriptedModel(replies, **options)
    return ChatLocalsmith(engine=model), model


def test_calls_come_apart_from_text_in_every_way_of_asking() -> None:
    reply = f"I look.\n{CALL}\n{CALL}"
    chat, _ = scripted(*[reply] * 4)
    bound = chat.bind_tools([Weather])

    async def streamed() -> AIMessageChunk:
        return reduce(add, [chunk async for chunk in bound.astream("Rome?")])

    messages = [
        bound.invoke("Rome?"),
        asyncio.run(bound.ainvoke("Rome?")),
        reduce(add, bound.stream("Rome?")),
        asyncio.run(streamed()),
    ]
    for message in messages:
        assert message.text == "I look."
        assert [call["args"] for call in message.tool_calls] == [{"city": "Rome", "days": 2}] * 2
        assert len({call["id"] for call in message.tool_calls}) == 2
        assert message.response_metadata["finish_reason"] == "tool_calls"
        assert message.usage_metadata


def test_a_call_whose_tags_the_model_left_away_is_a_call() -> None:
    bare = '{"name": "Weather", "arguments": {"city": "Rome", "days": 2}}'
    other = bare.replace("Weather", "Snow")
    chat, _ = scripted(bare, f"```json\n{bare}\n```", other)
    bound = chat.bind_tools([Weather])
    for _ in range(2):
        message = bound.invoke("Rome?")
        assert (message.text, message.tool_calls[0]["args"]) == ("", {"city": "Rome", "days": 2})
    assert bound.invoke("Rome?").text == other


def test_a_malformed_call_stays_in_the_text() -> None:
    broken = '<tool_call>\n{"name": }\n</tool_call>'
    chat, _ = scripted(broken)
    message = chat.bind_tools([Weather]).invoke("Rome?")
    assert (message.text, message.tool_calls) == (broken, [])


def test_without_tools_the_text_is_left_alone() -> None:
    chat, _ = scripted(CALL, CALL)
    assert chat.invoke("Write a tool call.").text == CALL
    assert chat.bind_tools([Weather], tool_choice="none").invoke("Rome?").text == CALL


@pytest.mark.parametrize(
    ("choice", "trigger"),
    [(None, OPEN), ("auto", OPEN), ("any", ""), ("required", ""), (True, ""), ("Weather", ""),
     ({"type": "function", "function": {"name": "Weather"}}, "")],
)  # fmt: skip
def test_a_tool_choice_sets_the_grammar_and_where_it_begins(choice: Any, trigger: str) -> None:
    chat, model = scripted(CALL)
    chat.bind_tools([Weather, Capital], tool_choice=choice).invoke("Rome?")
    assert model.samplings[0].grammar_trigger == trigger
    assert "Weather" in model.samplings[0].grammar


def test_contradictions_are_errors_that_name_them() -> None:
    chat, _ = scripted()
    with pytest.raises(ValueError, match="tool_choice='Snow'.*Weather"):
        chat.bind_tools([Weather], tool_choice="Snow")
    with pytest.raises(ValueError, match="'regex' and 'choice'"):
        chat.invoke("x", regex="a", choice=["a"])
    with pytest.raises(ValueError, match="'regex' and 'tools'"):
        chat.bind_tools([Weather]).invoke("x", regex="a")
    with pytest.raises(ValueError, match="itself"):
        chat.invoke("x", grammar='root ::= root "a" | "b"')
    with pytest.raises(ValueError, match="'image_url'"):
        chat.invoke([HumanMessage([{"type": "image_url", "image_url": {"url": "data:"}}])])


def test_a_tool_whose_schema_no_grammar_keeps_is_offered_all_the_same() -> None:
    def collect(tags: set[str]) -> None:
        """Collect tags."""

    chat, model = scripted("No.")
    assert chat.bind_tools([collect]).invoke("x").text == "No."
    assert model.samplings[0].grammar == ""
    with pytest.raises(ValueError, match="uniqueItems"):
        chat.bind_tools([collect], tool_choice="any").invoke("x")


def test_include_raw_hands_over_the_error_instead_of_raising_it() -> None:
    chat, _ = scripted('{"city": "Rome", "is_large": true}', '{"city": "Ro')
    structured = chat.with_structured_output(Capital, include_raw=True, max_tokens=20)
    good = structured.invoke("Capital?")
    assert good["parsed"] == Capital(city="Rome", is_large=True)
    assert good["parsing_error"] is None
    bad = structured.invoke("Capital?")
    assert bad["parsed"] is None
    assert bad["raw"].text == '{"city": "Ro'
    assert bad["parsing_error"] is not None


def test_a_streamed_answer_goes_back_into_the_conversation() -> None:
    chat, model = scripted(f"I look.\n{CALL}", "Sunny.")
    bound = chat.bind_tools([Weather])
    said = reduce(add, bound.stream("Rome?"))
    bound.invoke([HumanMessage("Rome?"), said, ToolMessage("sun", tool_call_id=said.tool_calls[0]["id"])])
    assert [message.role for message in model.prompts[1]] == ["user", "assistant", "tool"]
    assert model.prompts[1][1].content == f"I look.\n{CALL}"


def test_leaving_a_stream_cancels_its_generation() -> None:
    chat, _ = scripted("word " * 500)
    seen = []

    class Watched(ScriptedModel):
        def submit(self, *arguments: Any, **options: Any) -> Any:
            seen.append(super().submit(*arguments, **options))
            return seen[-1]

    chat = ChatLocalsmith(engine=Watched(["word " * 500], token_delay_s=0.001))
    stream = chat.stream("Go on.")
    next(stream)
    stream.close()
    assert list(seen[0])[-1:] == []
    assert seen[0].finish_reason == "cancelled"


def test_a_batch_runs_side_by_side() -> None:
    chat = ChatLocalsmith(engine=ScriptedModel(lambda _: "a b c d e", token_delay_s=0.1))
    start = time.perf_counter()
    assert [message.text for message in chat.batch(["x"] * 4)] == ["a b c d e"] * 4
    assert [message.text for message in asyncio.run(chat.abatch(["x"] * 4))] == ["a b c d e"] * 4
    assert time.perf_counter() - start < 2.5


# -- the stream of calls


TRICKY = '<tool_call>{"name": "f", "arguments": {"a": "</tool_call><tool_call>"}}</tool_call>'
PIECES = [CALL, TRICKY, "I look.", "\n", " ", "<tool", "_call>", "</tool_call>", '{"name": "f"}', "<", "é"]


@given(st.lists(st.sampled_from(PIECES), max_size=8), st.integers(1, 9))
def test_pieces_of_any_size_give_the_same_text_and_calls(parts: list[str], size: int) -> None:
    text = "".join(parts)
    whole_text, whole_calls = split_tool_calls(text)
    stream = ToolCallStream()
    shown, calls = "", []
    for at in range(0, len(text), size):
        more, found = stream.push(text[at : at + size])
        shown += more
        calls += found
    more, found = stream.finish()
    assert shown + more == whole_text
    assert [(c.name, c.arguments) for c in calls + found] == [(c.name, c.arguments) for c in whole_calls]
    if not whole_calls:
        assert whole_text == text


def test_no_half_of_a_call_is_shown() -> None:
    stream = ToolCallStream()
    shown = ""
    for character in f"I look.\n{CALL}":
        text, _ = stream.push(character)
        shown += text
        assert "<" not in shown
    assert shown == "I look."


def test_a_call_without_its_closing_tag_counts_at_the_end() -> None:
    assert len(split_tool_calls(CALL.removesuffix("\n</tool_call>"))[1]) == 1
    cut = CALL[:40]
    assert split_tool_calls(cut) == (cut, [])
