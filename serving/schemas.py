"""The bodies of requests, as OpenAI's API has them, with Localsmith's extensions.

Place in the data's way: JSON -> one of these -> `sampling.py` and `messages.py`. Everything not named here is
refused by name. What is named `Ignored` is accepted and changes nothing: it says how to store, bill or route.

Example:
    >>> CompletionRequest.model_validate_json('{"model": "m", "prompt": "Once"}').n
    1
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from ..core.types import Priority

MAX_STOPS = 16
MAX_STOP_CHARS = 500
MAX_TOOLS = 128
MAX_LOGPROBS = 20
MAX_LEGACY_LOGPROBS = 5
MAX_LOGIT_BIAS = 1024
MAX_GRAMMAR_CHARS = 200_000
MAX_SEED = 2**63

Ignored: TypeAlias = Any
Stop: TypeAlias = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]
Stops: TypeAlias = Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)]
Text: TypeAlias = Annotated[str, Field(max_length=MAX_GRAMMAR_CHARS)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class ContentPart(_Body):
    """A part of a message; only text is read."""

    type: Literal["text", "refusal"]
    text: str = ""
    refusal: str = ""


class FunctionCall(_Body):
    """The function that an assistant's tool call names."""

    name: str
    arguments: str = "{}"


class ToolCall(_Body):
    """A tool call that an assistant made in an earlier turn."""

    id: str = ""
    type: Literal["function"] = "function"
    function: FunctionCall
    index: Ignored = None


class ChatMessage(_Body):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_TOOLS)] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    refusal: str | None = None
    function_call: None = None
    audio: None = None
    annotations: Ignored = None
    localsmith: Ignored = None


class FunctionSpec(_Body):
    """What a tool is called, is for and takes."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: Ignored = None


class Tool(_Body):
    """A tool that the model may call."""

    type: Literal["function"]
    function: FunctionSpec


class NamedFunction(_Body):
    """The name of a function."""

    name: str


class NamedTool(_Body):
    """The one tool that has to be called."""

    type: Literal["function"]
    function: NamedFunction


class SchemaFormat(_Body):
    """A JSON schema that the answer obeys."""

    name: str = "answer"
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: Ignored = None


class ResponseFormat(_Body):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaFormat | None = None


class StreamOptions(_Body):
    """What a stream tells beside the text."""

    include_usage: bool = False
    include_progress: Annotated[bool, Field(description="Localsmith: tell how far the prompt is read.")] = (
        False
    )
    include_obfuscation: Ignored = None


class SamplingBody(_Body):
    """What chat and completions have in common."""

    model: str
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1)] | None = 1
    seed: Annotated[int, Field(ge=-MAX_SEED, lt=MAX_SEED)] | None = None
    stop: Stops | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: (
        Annotated[
            dict[str, Annotated[float, Field(ge=-100, le=100)]],
            Field(max_length=MAX_LOGIT_BIAS),
        ]
        | None
    ) = None
    user: Annotated[str, Field(max_length=512)] | None = None
    # Localsmith's own
    top_k: Annotated[int, Field(ge=0, le=10_000)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repeat_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    priority: Priority = "interactive"
    grammar: Annotated[Text | None, Field(description="GBNF grammar that the answer obeys.")] = None
    regex: Annotated[Text | None, Field(description="Regular expression that the answer matches.")] = None
    choice: Annotated[
        Annotated[list[Text], Field(min_length=1, max_length=1000)] | None,
        Field(description="The answer is one of these."),
    ] = None
    # Accepted without effect: they say how OpenAI stores, bills or routes.
    metadata: Ignored = None
    store: Ignored = None
    service_tier: Ignored = None
    safety_identifier: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_retention: Ignored = None


class ChatRequest(SamplingBody):
    """The body of `POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    modalities: list[Literal["text"]] | None = None
    prediction: Ignored = None
    # Only for strategies such as localsmith/rag
    collection: Annotated[str | None, Field(description="Collection that a strategy searches.")] = None
    document_ids: Annotated[list[str] | None, Field(max_length=10_000)] = None


class CompletionRequest(SamplingBody):
    """The body of `POST /v1/completions`."""

    prompt: str | Annotated[list[str], Field(min_length=1)]
    best_of: Annotated[int, Field(ge=1)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=MAX_LEGACY_LOGPROBS)] | None = None
    suffix: None = None


class EmbeddingRequest(_Body):
    """The body of `POST /v1/embeddings`."""

    model: str
    input: str | Annotated[list[str], Field(min_length=1)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
