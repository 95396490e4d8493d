"""The engine as a LangChain chat model.

Place in the data's way: anything written for LangChain's `BaseChatModel` (chains, LangGraph agents,
evaluators) runs on the local model through this class.

Example:
    chat = ChatLocalsmith(engine=engine)
    chat.invoke("Name a prime.").content
    chat.with_structured_output(Prime).invoke("Name a prime.")
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolCall, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from pydantic import BaseModel, ConfigDict

from ..core.errors import OutputParseError
from ..core.types import Delta, Message, Role, SamplingParams
from .engine import Engine
from .generation import EngineGeneration
from .grammar import json_schema_grammar

_ROLES: dict[str, Role] = {"system": "system", "human": "user", "ai": "assistant", "tool": "tool"}
# The form in which Qwen2.5's chat template asks for tool calls.
_TOOL_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)


class ChatLocalsmith(BaseChatModel):
    """A chat model on the local engine: invoke, stream and batch, plain and async, tools and JSON schema.

    Attributes:
        engine: The engine that runs the model.
        sampling: Defaults for every call; `max_tokens`, `temperature`, `seed` and `stop` may be given a call.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    engine: Engine
    sampling: SamplingParams = SamplingParams()

    @property
    def _llm_type(self) -> str:
        return "localsmith"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.engine.name, "n_ctx": self.engine.n_ctx}

    def get_num_tokens(self, text: str) -> int:
        """Return the tokens of a plain text, exactly."""
        return self.engine.count_text(text)

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Return the tokens of the rendered prompt, exactly, tool schemas included."""
        schemas = [convert_to_openai_tool(tool) for tool in tools or ()]
        return self.engine.count_prompt([_to_message(message) for message in messages], schemas)

    def bind_tools(
        self, tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool], **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools to the model through its chat template; calls come back as `AIMessage.tool_calls`."""
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """Constrain the completion to a JSON schema by grammar, so that a finished one always parses.

        Args:
            schema: A JSON schema with a title, or a pydantic class.
            include_raw: Not offered: the grammar leaves no parsing error to look into.
            kwargs: Passed on to every call.

        Returns:
            A runnable that returns a dict, or an instance of the pydantic class; it raises `OutputParseError`
            where `max_tokens` cut the completion off.

        Raises:
            ValueError: `include_raw` is True.
        """
        if include_raw:
            raise ValueError("include_raw=True is not offered: output under a grammar always parses.")
        grammar = json_schema_grammar(convert_to_json_schema(schema))
        parser: Runnable[AIMessage, Any] = JsonOutputParser()
        if isinstance(schema, type) and issubclass(schema, BaseModel):
            parser = PydanticOutputParser(pydantic_object=schema)
        return self.bind(grammar=grammar, **kwargs) | RunnableLambda(_require_whole) | parser

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        generation = self._submit(messages, stop, kwargs)
        text = ""
        for event in generation:
            if isinstance(event, Delta):
                text += event.text
                if run_manager:
                    run_manager.on_llm_new_token(event.text)
        return self._result(text, generation, kwargs)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        generation = self._submit(messages, stop, kwargs)
        text = ""
        async for event in generation:
            if isinstance(event, Delta):
                text += event.text
                if run_manager:
                    await run_manager.on_llm_new_token(event.text)
        return self._result(text, generation, kwargs)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        generation = self._submit(messages, stop, kwargs)
        for event in generation:
            if isinstance(event, Delta):
                chunk = ChatGenerationChunk(message=AIMessageChunk(content=event.text))
                if run_manager:
                    run_manager.on_llm_new_token(event.text, chunk=chunk)
                yield chunk
        yield self._last_chunk(generation)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        generation = self._submit(messages, stop, kwargs)
        async for event in generation:
            if isinstance(event, Delta):
                chunk = ChatGenerationChunk(message=AIMessageChunk(content=event.text))
                if run_manager:
                    await run_manager.on_llm_new_token(event.text, chunk=chunk)
                yield chunk
        yield self._last_chunk(generation)

    def _submit(
        self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]
    ) -> EngineGeneration:
        names = SamplingParams.__dataclass_fields__.keys()
        unknown = set(kwargs) - names - {"tools"}
        if unknown:
            raise ValueError(f"Unknown argument(s) for ChatLocalsmith: {sorted(unknown)}")
        values = {name: getattr(self.sampling, name) for name in names}
        values |= {name: value for name, value in kwargs.items() if name in names}
        values["stop"] = tuple(stop or values["stop"])
        return self.engine.submit(
            [_to_message(message) for message in messages],
            SamplingParams(**values),
            tools=kwargs.get("tools", ()),
        )

    def _result(self, text: str, generation: EngineGeneration, kwargs: dict[str, Any]) -> ChatResult:
        text, calls = _split_tool_calls(text) if kwargs.get("tools") else (text, [])
        message = AIMessage(
            content=text,
            tool_calls=calls,
            usage_metadata=_usage(generation),
            response_metadata=self._metadata(generation),
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _last_chunk(self, generation: EngineGeneration) -> ChatGenerationChunk:
        message = AIMessageChunk(
            content="", usage_metadata=_usage(generation), response_metadata=self._metadata(generation)
        )
        return ChatGenerationChunk(message=message)

    def _metadata(self, generation: EngineGeneration) -> dict[str, Any]:
        return {"model_name": self.engine.name, "finish_reason": generation.finish_reason}


def _require_whole(message: AIMessage) -> AIMessage:
    reason = message.response_metadata.get("finish_reason")
    if reason != "stop":
        raise OutputParseError(
            f"The JSON was cut off ({reason}): {message.text[-80:]!r}",
            hint="Raise max_tokens, or bound the strings and arrays of the schema.",
        )
    return message


def _to_message(message: BaseMessage) -> Message:
    if message.type not in _ROLES:
        raise ValueError(f"ChatLocalsmith takes system, human, ai and tool messages, not {message.type!r}.")
    content = message.text if isinstance(message.content, list) else message.content
    if isinstance(message, AIMessage) and message.tool_calls:
        calls = (json.dumps({"name": c["name"], "arguments": c["args"]}) for c in message.tool_calls)
        content += "".join(f"\n<tool_call>\n{call}\n</tool_call>" for call in calls)
    if isinstance(message, ToolMessage):
        content = str(content)
    return Message(_ROLES[message.type], content.strip("\n") if message.type == "ai" else content)


def _split_tool_calls(text: str) -> tuple[str, list[ToolCall]]:
    calls = []
    for match in _TOOL_CALL.finditer(text):
        try:
            call = json.loads(match.group(1))
            name, arguments = call["name"], dict(call["arguments"])
            calls.append(ToolCall(name=name, args=arguments, id=uuid.uuid4().hex, type="tool_call"))
        except (ValueError, KeyError, TypeError):
            continue  # a malformed call stays in the text, where the caller can see it
    return (_TOOL_CALL.sub("", text).strip() if calls else text), calls


def _usage(generation: EngineGeneration) -> UsageMetadata:
    usage = generation.usage
    return UsageMetadata(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        input_token_details={"cache_read": usage.cached_tokens},
    )
