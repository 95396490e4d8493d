"""The LangChain face of the engine, on the real small model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from localsmith.core.errors import OutputParseError
from localsmith.core.settings import ModelSettings
from localsmith.core.types import SamplingParams
from localsmith.models.chat_model import ChatLocalsmith, _split_tool_calls
from localsmith.models.engine import Engine
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
    with pytest.raises(ValueError, match="include_raw"):
        chat.with_structured_output(Capital, include_raw=True)


def test_json_cut_off_by_max_tokens_is_an_error_not_half_an_object(chat: ChatLocalsmith) -> None:
    with pytest.raises(OutputParseError, match="cut off"):
        chat.with_structured_output(Capital, max_tokens=3).invoke("What is the capital of France?")


def test_a_stop_text_and_an_unknown_argument(chat: ChatLocalsmith) -> None:
    assert "Paris" not in chat.invoke("What is the capital of France?", stop=["Paris"]).text
    with pytest.raises(ValueError, match="temprature"):
        chat.invoke("Hello", temprature=1)


def test_tools_reach_the_prompt_and_calls_come_back() -> None:
    text, calls = _split_tool_calls(
        'I will look.\n<tool_call>\n{"name": "search", "arguments": {"query": "x"}}\n</tool_call>'
    )
    assert text == "I will look."
    assert calls[0]["name"] == "search"
    assert calls[0]["args"] == {"query": "x"}
    broken = '<tool_call>\n{"name": }\n</tool_call>'
    assert _split_tool_calls(broken) == (broken, [])


def test_a_tool_conversation_can_be_continued(chat: ChatLocalsmith) -> None:
    call = {"name": "search", "args": {"query": "x"}, "id": "1", "type": "tool_call"}
    messages = [
        HumanMessage("Search x"),
        AIMessage("", tool_calls=[call]),
        ToolMessage("found y", tool_call_id="1"),
    ]
    assert chat.bind_tools([]).invoke(messages, max_tokens=5).text is not None
