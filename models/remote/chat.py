"""The one door to langchain-openai: a `ChatOpenAI` for a server, and its answers in pieces.

Place in the data's way: `RemoteModel` asks here for the pieces of a completion; `Localsmith.chat_model` is
the `ChatOpenAI` itself. The library is an extra, imported when a remote model is first used.

Example:
    chat = open_chat("http://gpu:8000/v1", "qwen", SecretStr(""), {"temperature": 0})
    async for piece in chat_pieces(chat, messages, {}):
        ...
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import SecretStr

from ...core.errors import GenerationError, ModelLoadError
from ...core.extras import install_command
from ...core.types import TokenLogprob
from ..chat.tool_calls import tool_call_text

if TYPE_CHECKING:
    from langchain_openai import ChatOpenAI

CONNECT_TIMEOUT_S = 10.0
# Between two pieces: a queue and a long prompt can take minutes before the first.
SILENCE_TIMEOUT_S = 900.0
MAX_RETRIES = 1  # a connection kept alive may have died unseen; more is for the caller to decide


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a completion.

    Attributes:
        text: Its text.
        logprobs: Its tokens, where asked for.
        reason: OpenAI's `finish_reason`, in the last piece; "" before.
        usage: Prompt, cached and completion tokens, in the piece after the last; None before.
    """

    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    reason: str = ""
    usage: tuple[int, int, int] | None = None


def require_library() -> None:
    """Import langchain-openai.

    Raises:
        ModelLoadError: It is not installed.
    """
    try:
        import langchain_openai  # noqa: F401 - only whether it is there
    except ImportError as exc:
        raise ModelLoadError(
            "A model on another server needs langchain-openai, which is not installed.",
            hint=f"Install it: {install_command('remote')}.",
        ) from exc


def open_chat(
    api_url: str,
    model: str,
    api_key: SecretStr,
    request: dict[str, Any],
    http: httpx.AsyncClient | None = None,
) -> ChatOpenAI:
    """Return a chat model on a server; nothing is sent yet.

    Args:
        api_url: The API's address.
        model: The model's name there.
        api_key: The key; never empty, for the library would look for one of OpenAI's in the environment.
        request: Parameters of every call, as `remote_messages.to_request` returns them.
        http: The connections; None for the library's own, which can be used from any event loop.

    Raises:
        ModelLoadError: langchain-openai is not installed.
    """
    require_library()
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(
        base_url=api_url,
        model=model,
        api_key=api_key,
        timeout=timeout(),
        max_retries=MAX_RETRIES,
        stream_usage=True,
        stream_chunk_timeout=None,  # SILENCE_TIMEOUT_S says the same of the connection
        use_responses_api=False,
        http_async_client=http,
        openai_proxy="",  # OPENAI_PROXY is for another service; HTTP_PROXY and NO_PROXY are obeyed
        **request,
    )


def timeout() -> httpx.Timeout:
    """Return how long a server may be silent."""
    return httpx.Timeout(SILENCE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)


async def chat_pieces(
    chat: ChatOpenAI, messages: Sequence[dict[str, Any]], request: dict[str, Any]
) -> AsyncGenerator[Piece, None]:
    """Yield a chat completion; tool calls come at the end, as text in the form of `tool_calls`."""
    calls: dict[int, list[str]] = {}
    # astream is typed as an iterator; it is a generator, and closing it closes the connection.
    stream: AsyncGenerator[Any, None] = chat.astream(list(messages), **request)  # type: ignore[assignment]
    async with aclosing(stream):
        async for chunk in stream:
            for call in chunk.tool_call_chunks:
                name_and_arguments = calls.setdefault(call["index"] or 0, ["", ""])
                name_and_arguments[0] += call["name"] or ""
                name_and_arguments[1] += call["args"] or ""
            told = chunk.response_metadata
            reason = str(told.get("finish_reason") or "")
            if reason == "content_filter":
                raise GenerationError("The server's content filter stopped the answer.")
            text = chunk.text
            if reason and calls:
                text += "\n".join(_call_text(name, arguments) for name, arguments in calls.values())
            logprobs = (told.get("logprobs") or {}).get("content") or ()
            yield Piece(text, tuple(map(_logprob, logprobs)), reason, _usage(chunk.usage_metadata))


async def text_pieces(chat: ChatOpenAI, prompt: str, request: dict[str, Any]) -> AsyncGenerator[Piece, None]:
    """Yield the continuation of a raw text, from `/v1/completions`."""
    options = {"stream": True, "stream_options": {"include_usage": True}}
    stream = await chat.root_async_client.completions.create(
        model=chat.model_name, prompt=prompt, **options, **request
    )
    async with stream:
        async for chunk in stream:
            usage = None
            if chunk.usage is not None:
                cached = chunk.usage.prompt_tokens_details
                usage = (
                    chunk.usage.prompt_tokens,
                    (cached.cached_tokens or 0) if cached else 0,
                    chunk.usage.completion_tokens,
                )
            choice = chunk.choices[0] if chunk.choices else None
            if choice is None:
                yield Piece(usage=usage)
                continue
            yield Piece(choice.text or "", _text_logprobs(choice.logprobs), choice.finish_reason or "", usage)


def _call_text(name: str, arguments: str) -> str:
    try:
        value = json.loads(arguments or "{}")
    except ValueError:
        value = None
    # One that went wrong is shown as it is.
    return tool_call_text(name, value if isinstance(value, dict) else {"_": arguments})


def _usage(told: Any) -> tuple[int, int, int] | None:
    if not told:
        return None
    cached = (told.get("input_token_details") or {}).get("cache_read") or 0
    return told["input_tokens"], cached, told["output_tokens"]


def _logprob(token: dict[str, Any]) -> TokenLogprob:
    raw = token.get("bytes")
    return TokenLogprob(
        token=str(token["token"]).encode() if raw is None else bytes(raw),
        logprob=min(0.0, float(token["logprob"])),
        top=tuple(_logprob(top) for top in token.get("top_logprobs") or ()),
    )


def _text_logprobs(told: Any) -> tuple[TokenLogprob, ...]:
    if told is None or not told.tokens:
        return ()
    tops = told.top_logprobs or [None] * len(told.tokens)
    return tuple(
        TokenLogprob(
            token.encode(),
            min(0.0, logprob or 0.0),
            tuple(TokenLogprob(word.encode(), min(0.0, value)) for word, value in (top or {}).items()),
        )
        for token, logprob, top in zip(told.tokens, told.token_logprobs or (), tops, strict=False)
    )
