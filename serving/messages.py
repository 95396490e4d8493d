"""A request's messages as the engine takes them.

Place in the data's way: `ChatRequest.messages` -> here -> `core.types.Message`, rendered by the model's own
chat template.

Example:
    >>> to_messages([ChatMessage(role="developer", content="Be brief.")])
    [Message(role='system', content='Be brief.')]
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from ..core.types import Message, Role
from ..models.chat.tool_calls import tool_call_text
from .errors import bad_request
from .schemas import ChatMessage, ToolCall


def to_messages(messages: Sequence[ChatMessage]) -> list[Message]:
    """Return the conversation with tool calls written the way the model writes them.

    Raises:
        ApiError: A message has neither content nor tool calls, or calls in a role that makes none.
    """
    return [_to_message(message, i) for i, message in enumerate(messages)]


def _to_message(message: ChatMessage, position: int) -> Message:
    role: Role = "system" if message.role == "developer" else message.role
    parts = [_text(message)]
    if message.tool_calls and role != "assistant":
        raise bad_request(
            f"Only an assistant has tool calls, not a {message.role}.", f"messages.{position}.tool_calls"
        )
    if message.content is None and not message.tool_calls and role != "assistant":
        raise bad_request(f"A {message.role} message needs content.", f"messages.{position}.content")
    parts += [_call_text(call) for call in message.tool_calls or ()]
    return Message(role, "\n".join(part for part in parts if part))


def _text(message: ChatMessage) -> str:
    if message.content is None:
        return message.refusal or ""
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text or part.refusal for part in message.content)


def _call_text(call: ToolCall) -> str:
    try:
        arguments = json.loads(call.function.arguments)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):  # a call that went wrong; shown as it was
        arguments = {"_": call.function.arguments}
    return tool_call_text(call.function.name, arguments)
