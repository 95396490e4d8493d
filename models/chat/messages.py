"""LangChain's messages as ours, and what a generation yields as LangChain's.

Place in the data's way: `ChatLocalsmith` turns its input into `core.types.Message` here and its output into
message chunks; nothing else knows both forms.

Example:
    >>> to_message(HumanMessage("Name a prime."))
    Message(role='user', content='Name a prime.')
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk

from ...core.contracts import Generation
from ...core.types import Message, Role, TokenLogprob
from .tool_calls import ParsedToolCall, tool_call_text

_ROLES: tuple[tuple[type[BaseMessage], Role], ...] = (
    (SystemMessage, "system"),
    (HumanMessage, "user"),
    (AIMessage, "assistant"),
    (ToolMessage, "tool"),
)
_NAMED_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


def to_message(message: BaseMessage) -> Message:
    """Return a message in our form, tool calls written the way the model writes them.

    Raises:
        ValueError: Its role or a part of its content is none that a text model knows.
    """
    role = _role(message)
    content = _text(message)
    if isinstance(message, AIMessage) and message.tool_calls:
        calls = [tool_call_text(call["name"], call["args"]) for call in message.tool_calls]
        content = "\n".join([content, *calls] if content else calls)
    return Message(role, content)


def to_chunk(
    text: str, calls: Sequence[ParsedToolCall], first_index: int, logprobs: Iterable[TokenLogprob]
) -> AIMessageChunk:
    """Return a piece of an answer.

    Args:
        text: The text to append.
        calls: Tool calls that are whole now.
        first_index: Number of calls before these in the same answer.
        logprobs: What the model held of the tokens of this piece.
    """
    content = [_logprob(token) for token in logprobs]
    return AIMessageChunk(
        content=text,
        tool_call_chunks=[
            tool_call_chunk(name=call.name, args=call.arguments, id=call.id, index=first_index + i)
            for i, call in enumerate(calls)
        ],
        response_metadata={"logprobs": {"content": content}} if content else {},
    )


def to_usage(generation: Generation) -> UsageMetadata:
    """Return what a generation cost, in LangChain's form."""
    usage = generation.usage
    return UsageMetadata(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        input_token_details={"cache_read": usage.cached_tokens},
    )


def to_whole(chunks: Sequence[AIMessageChunk]) -> AIMessage:
    """Return the chunks of an answer as one message."""
    whole = chunks[0] if len(chunks) == 1 else chunks[0].__add__(chunks[1:])
    return AIMessage(
        content=whole.content,
        tool_calls=[
            {
                "name": call["name"] or "",
                "args": json.loads(call["args"] or "{}"),
                "id": call["id"],
                "type": "tool_call",
            }
            for call in whole.tool_call_chunks
        ],
        usage_metadata=whole.usage_metadata,
        response_metadata=whole.response_metadata,
    )


def _role(message: BaseMessage) -> Role:
    for kind, role in _ROLES:
        if isinstance(message, kind):
            return role
    if isinstance(message, ChatMessage) and message.role in _NAMED_ROLES:
        return _NAMED_ROLES[message.role]
    raise ValueError(f"ChatLocalsmith takes system, human, ai and tool messages, not {message.type!r}.")


def _text(message: BaseMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    parts = []
    for block in message.content:
        if isinstance(block, str):
            parts.append(block)
        elif block.get("type") == "text":
            parts.append(str(block.get("text", "")))
        elif isinstance(message, HumanMessage | SystemMessage):
            raise ValueError(f"The model reads text only, not {block.get('type')!r}.")
        elif isinstance(message, ToolMessage):
            parts.append(json.dumps(block, ensure_ascii=False))
    return "".join(parts)


def _logprob(token: TokenLogprob) -> dict[str, Any]:
    """Return a token's log-probability in OpenAI's form."""
    entry = {"token": _shown(token), "bytes": list(token.token), "logprob": token.logprob}
    top = [
        {"token": _shown(other), "bytes": list(other.token), "logprob": other.logprob} for other in token.top
    ]
    return {**entry, "top_logprobs": top}


def _shown(token: TokenLogprob) -> str:
    return token.token.decode("utf-8", errors="replace")
