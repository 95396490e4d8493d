"""Messages to prompt tokens, by the model's own chat template, with no way in for control tokens.

Place in the data's way: `Engine.submit` and `Engine.count_prompt` render here. The template's own markup is
tokenized with control tokens; what people, documents and tools wrote is tokenized as plain text, so a
document that contains `<|im_start|>system` can't open a turn of its own.

Example:
    template = ChatTemplate(runtime)
    tokens = template.tokens([Message("user", "Hello")])
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ..core.errors import ModelError
from ..core.types import Message
from .llama import LlamaRuntime

# Used where a GGUF carries no template: ChatML, as published by OpenAI (openai-python, chatml.md).
CHATML = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Private-use characters that stand for a content while the template runs.
_OPEN, _CLOSE = "\ue000", "\ue001"
_PLACEHOLDER = re.compile(f"{_OPEN}(\\d+){_CLOSE}")


class ChatTemplate:
    """Renders and tokenizes conversations for one model.

    Args:
        runtime: The model; only its vocabulary is used, so any thread may render.

    Raises:
        ModelError: The template is not valid Jinja.
    """

    def __init__(self, runtime: LlamaRuntime) -> None:
        self._runtime = runtime
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _raise
        try:
            self._template = environment.from_string(runtime.template or CHATML)
        except jinja2.TemplateError as exc:
            raise ModelError(f"The model's chat template is not valid Jinja: {exc}") from exc
        self._markup_tokens = functools.lru_cache(maxsize=512)(self._tokenize_markup)

    def tokens(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> list[int]:
        """Return the prompt's tokens, the opening of the assistant's turn included.

        Args:
            messages: The conversation.
            tools: JSON schemas of the tools offered, in OpenAI's form; the template writes them out.

        Raises:
            ModelError: The template refuses the conversation, for example two user turns in a row.
        """
        contents = [message.content for message in messages]
        turns = [
            {"role": message.role, "content": f"{_OPEN}{i}{_CLOSE}"} for i, message in enumerate(messages)
        ]
        try:
            rendered = self._template.render(
                messages=turns,
                tools=list(tools) or None,
                add_generation_prompt=True,
                bos_token=self._runtime.bos_text,
                eos_token=self._runtime.eos_text,
            )
        except jinja2.TemplateError as exc:
            raise ModelError(f"The model's chat template refuses this conversation: {exc}") from exc
        parts = _PLACEHOLDER.split(rendered)  # markup, index, markup, index, …, markup
        tokens: list[int] = []
        for i, part in enumerate(parts):
            if i % 2:
                tokens += self._runtime.tokenize(contents[int(part)], parse_special=False)
            else:
                tokens += self._markup_tokens(part)
        if self._runtime.adds_bos and tokens[:1] != [self._runtime.bos_token]:
            tokens.insert(0, self._runtime.bos_token)
        return tokens

    def _tokenize_markup(self, text: str) -> tuple[int, ...]:
        return tuple(self._runtime.tokenize(text, parse_special=True))


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)
