"""How `/v1/chat/completions` writes its answers.

Place in the data's way: a `Form` for `respond`. Everything that is the same in every piece of a stream is
encoded once; a token costs the encoding of its text.

Example:
    form = ChatForm(model="smollm2-135m", tools={"weather"})
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from ..core.types import Delta, Prefill, Progress, StepEnded, TokenLogprob
from ..models.chat.bare_calls import CallReader
from ..models.chat.tool_calls import ParsedToolCall
from .chunk_writer import ChunkWriter
from .extension import step_told
from .job import Completion, Run
from .json_bytes import dumps
from .usage import extension_of, finish_reason_of, usage_of

# What a logarithm of zero is written as, as OpenAI does: JSON has no infinity.
MIN_LOGPROB = -9999.0


class ChatForm:
    """Writes chat completions.

    Args:
        model: The model's name, as the client gave it.
        num_choices: Choices of the prompt.
        tools: Names of the tools offered; with any, calls are looked for.
        is_parallel: Whether more than one call may be made.
        has_logprobs: Whether log-probabilities were asked for.
        has_usage: Whether the stream ends with the usage.
        has_progress: Whether the stream tells how far the prompt is read.
    """

    def __init__(
        self,
        model: str,
        *,
        num_choices: int = 1,
        tools: AbstractSet[str] = frozenset(),
        is_parallel: bool = True,
        has_logprobs: bool = False,
        has_usage: bool = False,
        has_progress: bool = False,
    ) -> None:
        self._head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self._num_choices = num_choices
        self._readers = [CallReader(tools) if tools else None for _ in range(num_choices)]
        self._num_calls = [0] * num_choices
        self._is_parallel = is_parallel
        self._has_logprobs = has_logprobs
        self._has_progress = has_progress
        self._writer = ChunkWriter(
            {"object": "chat.completion.chunk", **self._head},
            "delta",
            num_choices=num_choices,
            has_usage=has_usage,
        )

    def first(self, index: int) -> bytes:
        """Open a choice with the role."""
        return self._writer.chunk(index, b'{"role":"assistant","content":""}')

    def piece(self, index: int, deltas: Sequence[Delta]) -> bytes:
        """Continue a choice with text, and with the calls that are whole by now."""
        text = deltas[0].text if len(deltas) == 1 else "".join([delta.text for delta in deltas])
        logprobs = b"null"
        if self._has_logprobs:
            logprobs = dumps(_logprobs([token for delta in deltas for token in delta.logprobs]))
        reader = self._readers[index]
        calls: list[ParsedToolCall] = []
        if reader is not None:
            text, calls = reader.push(text)
        out = b""
        if text or (self._has_logprobs and any(delta.logprobs for delta in deltas)):
            out = self._writer.chunk(index, b'{"content":' + dumps(text) + b"}", logprobs)
        return out + self._calls(index, calls) if calls else out

    def progress(self, index: int, event: Prefill | Progress | StepEnded) -> bytes:
        """Say how far the prompt is read, or what a strategy does and has done, where the client asked."""
        if not self._has_progress:
            return b""
        if isinstance(event, StepEnded):
            step = dumps({"step": step_told(event.step)})
            return self._writer.chunk(index, b"{}", b"null", b"null", step)
        told: dict[str, Any] = {"stage": "reading", "done": event.done, "total": event.total}
        if isinstance(event, Progress):
            told |= {"stage": event.stage, "detail": event.detail, "eta_s": event.eta_s}
        return self._writer.chunk(index, b"{}", b"null", b"null", dumps({"progress": told}))

    def last(self, index: int, run: Run) -> bytes:
        """Close a choice with what was held back, the reason, and a strategy's citations."""
        out = b""
        reader = self._readers[index]
        if reader is not None:
            text, calls = reader.finish()
            if text:
                out = self._writer.chunk(index, b'{"content":' + dumps(text) + b"}")
            out += self._calls(index, calls)
        reason = finish_reason_of(run, self._num_calls[index] > 0)
        extension = extension_of(run)
        return out + self._writer.chunk(
            index, b"{}", b"null", dumps(reason), b"" if extension is None else dumps(extension)
        )

    def end(self, runs: Sequence[Run]) -> bytes:
        """Return the usage, where the client asked for it."""
        return self._writer.end(usage_of(runs, self._num_choices))

    def whole(self, completions: Sequence[Completion]) -> bytes:
        """Return the response in one piece."""
        body: dict[str, Any] = {"object": "chat.completion", **self._head}
        body["choices"] = [self._choice(i, completion) for i, completion in enumerate(completions)]
        body["usage"] = usage_of([completion.run for completion in completions], self._num_choices)
        if (extension := extension_of(completions[0].run)) is not None:
            body["localsmith"] = extension
        return dumps(body)

    def _calls(self, index: int, calls: Sequence[ParsedToolCall]) -> bytes:
        out = b""
        for call in calls:
            if self._num_calls[index] and not self._is_parallel:
                break
            told = {"index": self._num_calls[index], **_call(call)}
            out += self._writer.chunk(index, dumps({"tool_calls": [told]}))
            self._num_calls[index] += 1
        return out

    def _choice(self, index: int, completion: Completion) -> dict[str, Any]:
        text = completion.text
        calls: list[ParsedToolCall] = []
        reader = self._readers[index]
        if reader is not None:
            text, calls = reader.push(text)
            rest, late = reader.finish()
            text, calls = text + rest, calls + late
        if not self._is_parallel:
            calls = calls[:1]
        message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else "")}
        message["refusal"] = None
        if calls:
            message["tool_calls"] = [_call(call) for call in calls]
        return {
            "index": index,
            "message": message,
            "logprobs": _logprobs(completion.logprobs) if self._has_logprobs else None,
            "finish_reason": finish_reason_of(completion.run, bool(calls)),
        }


def _call(call: ParsedToolCall) -> dict[str, Any]:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    content = [{**_token(token), "top_logprobs": [_token(top) for top in token.top]} for token in tokens]
    return {"content": content, "refusal": None}


def _token(token: TokenLogprob) -> dict[str, Any]:
    return {
        "token": token.token.decode("utf-8", "replace"),
        "logprob": max(token.logprob, MIN_LOGPROB),
        "bytes": list(token.token),
    }
