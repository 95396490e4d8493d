"""The engine as a LangChain chat model.

Place in the data's way: anything written for LangChain's `BaseChatModel` (chains, LangGraph agents,
evaluators) runs on the local model through this class.

Example:
    chat = ChatLocalsmith(engine=engine)
    chat.invoke("Name a prime.").content
    chat.with_structured_output(Prime).invoke("Name a prime.")
    chat.bind_tools([search]).invoke("Who won?").tool_calls
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableLambda, RunnableMap, RunnablePassthrough
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import ConfigDict, SkipValidation

from ...core.contracts import Generation, LanguageModel
from ...core.errors import OutputParseError
from ...core.types import Delta, SamplingParams
from ..grammar.constraint import json_schema_grammar
from .arguments import ChatRequest, to_request, to_tool_choice
from .bare_calls import CallReader
from .messages import to_chunk, to_message, to_usage, to_whole


class ChatLocalsmith(BaseChatModel):
    """A chat model on the local engine: invoke, stream and batch, plain and async, tools and JSON schema.

    Every call takes the fields of `SamplingParams` as keyword arguments, and those of `chat_arguments`:
    `regex`, `choice` or `json_schema` to constrain the text, `logprobs`, `deadline_s`, `priority`, `user`.

    Attributes:
        engine: The engine that runs the model, or any other `LanguageModel`.
        sampling: Defaults for every call.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    engine: SkipValidation[LanguageModel]
    sampling: SamplingParams = SamplingParams()

    @property
    def _llm_type(self) -> str:
        return "localsmith"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.engine.name, "n_ctx": self.engine.n_ctx}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = "localsmith"
        params["ls_model_name"] = kwargs.get("model", self.engine.name)
        params["ls_temperature"] = kwargs.get("temperature", self.sampling.temperature)
        params["ls_max_tokens"] = kwargs.get("max_tokens", self.sampling.max_tokens)
        if ends := stop or list(self.sampling.stop):
            params["ls_stop"] = ends
        return params

    def get_num_tokens(self, text: str) -> int:
        """Return the tokens of a plain text, exactly."""
        return self.engine.count_text(text)

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Return the tokens of the rendered prompt, exactly, tool schemas included."""
        prompt = [to_message(message) for message in messages]
        if not tools:
            return self.engine.count_prompt(prompt)
        count: Callable[..., int] = self.engine.count_prompt  # the engine's counts tools, too
        return count(prompt, [convert_to_openai_tool(tool) for tool in tools])

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools to the model; calls come back as `AIMessage.tool_calls`, their arguments by the schema.

        Args:
            tools: Functions, LangChain tools, pydantic classes or OpenAI's form.
            tool_choice: "auto" or None where the model may call or answer; "any", "required" or True where it
                has to call; a tool's name; "none" to offer nothing.
            kwargs: Passed on to every call.

        Raises:
            ValueError: `tool_choice` names no tool.
        """
        choice = to_tool_choice(tool_choice, tools)
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], tool_choice=choice, **kwargs)

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """Constrain the completion to a JSON schema by grammar, so that a finished one always parses.

        Args:
            schema: A JSON schema with a title, a pydantic class or a TypedDict.
            include_raw: Whether to return a dict of "raw", "parsed" and "parsing_error" instead, and to raise
                nothing where parsing fails.
            kwargs: Passed on to every call. `method` and `strict`, which other models need, change nothing.

        Returns:
            A runnable that returns a dict, or an instance of the pydantic class; it raises `OutputParseError`
            where `max_tokens` cut the completion off.

        Raises:
            ValueError: The schema says what no grammar can keep; the keyword is named.
        """
        kwargs = {key: value for key, value in kwargs.items() if key not in ("method", "strict")}
        json_schema = convert_to_json_schema(schema)
        output: Runnable[AIMessage, Any] = JsonOutputParser()
        if isinstance(schema, type) and is_basemodel_subclass(schema):
            output = PydanticOutputParser(pydantic_object=schema)
        model = self.bind(
            grammar=json_schema_grammar(json_schema),
            ls_structured_output_format={"kwargs": {"method": "json_schema"}, "schema": json_schema},
            **kwargs,
        )
        parser = RunnableLambda(_require_whole) | output
        if not include_raw:
            return model | parser
        parsed = RunnablePassthrough.assign(
            parsed=RunnableLambda(lambda made: made["raw"]) | parser, parsing_error=lambda _: None
        )
        failed = RunnablePassthrough.assign(parsed=lambda _: None)
        return RunnableMap(raw=model) | parsed.with_fallbacks([failed], exception_key="parsing_error")

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return _result([chunk.message for chunk in self._stream(messages, stop, run_manager, **kwargs)])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return _result(
            [chunk.message async for chunk in self._astream(messages, stop, run_manager, **kwargs)]
        )

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        request = to_request(self.sampling, stop, kwargs)
        generation = self._submit(messages, request)
        reader = _Reader(request)
        try:
            for event in generation:
                if isinstance(event, Delta) and (chunk := reader.push(event)):
                    if run_manager:
                        run_manager.on_llm_new_token(str(chunk.message.content), chunk=chunk)
                    yield chunk
        finally:
            generation.cancel()  # where the caller has left; without effect on one that has ended
        yield reader.finish(generation, self.engine.name)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        request = to_request(self.sampling, stop, kwargs)
        generation = self._submit(messages, request)
        reader = _Reader(request)
        try:
            async for event in generation:
                if isinstance(event, Delta) and (chunk := reader.push(event)):
                    if run_manager:
                        await run_manager.on_llm_new_token(str(chunk.message.content), chunk=chunk)
                    yield chunk
        finally:
            generation.cancel()
        yield reader.finish(generation, self.engine.name)

    def _submit(self, messages: list[BaseMessage], request: ChatRequest) -> Generation:
        return self.engine.submit(
            [to_message(message) for message in messages],
            request.sampling,
            deadline_s=request.deadline_s,
            tools=request.tools,
            priority=request.priority,
            user=request.user,
        )


class _Reader:
    """Turns a generation's pieces into chunks: tool calls apart from text."""

    def __init__(self, request: ChatRequest) -> None:
        names = {tool["function"]["name"] for tool in request.tools}
        self._stream = CallReader(names) if names else None
        self._num_calls = 0

    def push(self, event: Delta) -> ChatGenerationChunk | None:
        text, calls = self._stream.push(event.text) if self._stream else (event.text, [])
        if not (text or calls or event.logprobs):
            return None
        message = to_chunk(text, calls, self._num_calls, event.logprobs)
        self._num_calls += len(calls)
        return ChatGenerationChunk(message=message)

    def finish(self, generation: Generation, name: str) -> ChatGenerationChunk:
        text, calls = self._stream.finish() if self._stream else ("", [])
        message = to_chunk(text, calls, self._num_calls, ())
        has_calls = bool(self._num_calls + len(calls)) and generation.finish_reason == "stop"
        message.usage_metadata = to_usage(generation)
        message.response_metadata = {
            "model_name": name,
            "model_provider": "localsmith",
            "finish_reason": "tool_calls" if has_calls else generation.finish_reason,
        }
        message.chunk_position = "last"
        return ChatGenerationChunk(message=message)


def _result(chunks: list[BaseMessage]) -> ChatResult:
    message = to_whole([chunk for chunk in chunks if isinstance(chunk, AIMessageChunk)])
    return ChatResult(generations=[ChatGeneration(message=message)])


def _require_whole(message: AIMessage) -> AIMessage:
    reason = message.response_metadata.get("finish_reason")
    if reason != "stop":
        raise OutputParseError(
            f"The JSON was cut off ({reason}): {message.text[-80:]!r}",
            hint="Raise max_tokens, or bound the strings and arrays of the schema.",
        )
    return message
