"""How `/v1/completions` writes its answers, log-probabilities in the old form.

Place in the data's way: a `Form` for `respond`, as `ChatForm` is for chat.

Example:
    form = CompletionForm(model="smollm2-135m", prompts=["Once"], choices_per_prompt=1)
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

from ..core.types import Delta, Prefill, Progress, StepEnded, TokenLogprob
from .chat_form import MIN_LOGPROB
from .chunk_writer import ChunkWriter
from .job import Completion, Run
from .json_bytes import dumps
from .usage import extension_of, finish_reason_of, usage_of


class CompletionForm:
    """Writes text completions.

    Args:
        model: The model's name, as the client gave it.
        prompts: The prompts, each repeated before its choices where `has_echo`.
        choices_per_prompt: Choices of each prompt.
        has_echo: Whether a choice begins with its prompt.
        has_logprobs: Whether log-probabilities were asked for.
        has_usage: Whether the stream ends with the usage.
        has_progress: Whether the stream tells how far the prompt is read.
    """

    def __init__(
        self,
        model: str,
        prompts: Sequence[str],
        choices_per_prompt: int,
        *,
        has_echo: bool = False,
        has_logprobs: bool = False,
        has_usage: bool = False,
        has_progress: bool = False,
    ) -> None:
        self._head = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        self._choices_per_prompt = choices_per_prompt
        count = len(prompts) * choices_per_prompt
        self._echoes = [prompts[i // choices_per_prompt] if has_echo else "" for i in range(count)]
        self._offsets = [len(echo) for echo in self._echoes]
        self._has_logprobs = has_logprobs
        self._has_progress = has_progress
        self._writer = ChunkWriter(self._head, "text", num_choices=count, has_usage=has_usage)

    def first(self, index: int) -> bytes:
        """Repeat the prompt, where the client asked."""
        echo = self._echoes[index]
        return self._writer.chunk(index, dumps(echo)) if echo else b""

    def piece(self, index: int, deltas: Sequence[Delta]) -> bytes:
        """Continue a choice."""
        text = deltas[0].text if len(deltas) == 1 else "".join([delta.text for delta in deltas])
        if not self._has_logprobs:
            return self._writer.chunk(index, dumps(text)) if text else b""
        tokens = [token for delta in deltas for token in delta.logprobs]
        told = _legacy_logprobs(tokens, self._offsets[index])
        self._offsets[index] += sum(len(piece) for piece in told["tokens"])
        return self._writer.chunk(index, dumps(text), dumps(told)) if text or tokens else b""

    def progress(self, index: int, event: Prefill | Progress | StepEnded) -> bytes:
        """Say how far the prompt is read, where the client asked."""
        if not self._has_progress or isinstance(event, StepEnded):
            return b""
        told = {"stage": "reading", "done": event.done, "total": event.total}
        return self._writer.chunk(index, b'""', b"null", b"null", dumps({"progress": told}))

    def last(self, index: int, run: Run) -> bytes:
        """Close a choice with the reason."""
        extension = extension_of(run)
        reason = dumps(finish_reason_of(run))
        return self._writer.chunk(
            index, b'""', b"null", reason, b"" if extension is None else dumps(extension)
        )

    def end(self, runs: Sequence[Run]) -> bytes:
        """Return the usage, where the client asked for it."""
        return self._writer.end(usage_of(runs, self._choices_per_prompt))

    def whole(self, completions: Sequence[Completion]) -> bytes:
        """Return the response in one piece."""
        choices: list[dict[str, Any]] = []
        for i, completion in enumerate(completions):
            logprobs = None
            if self._has_logprobs:
                logprobs = _legacy_logprobs(completion.logprobs, self._offsets[i])
            choices.append(
                {
                    "index": i,
                    "text": self._echoes[i] + completion.text,
                    "logprobs": logprobs,
                    "finish_reason": finish_reason_of(completion.run),
                }
            )
        runs = [completion.run for completion in completions]
        body = {**self._head, "choices": choices, "usage": usage_of(runs, self._choices_per_prompt)}
        return dumps(body)


def _legacy_logprobs(tokens: Sequence[TokenLogprob], offset: int) -> dict[str, list[Any]]:
    told: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for token in tokens:
        text = token.token.decode("utf-8", "replace")
        told["tokens"].append(text)
        told["token_logprobs"].append(max(token.logprob, MIN_LOGPROB))
        told["top_logprobs"].append(
            {top.token.decode("utf-8", "replace"): max(top.logprob, MIN_LOGPROB) for top in token.top}
        )
        told["text_offset"].append(offset)
        offset += len(text)
    return told
