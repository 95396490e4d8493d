"""Messages to prompt tokens, by the model's own chat template, with no way in for control tokens.

Place in the data's way: `Engine.submit` and `Engine.count_prompt` render here, and so does training, so that
a model is trained on the very tokens that it is served with. The template's own markup is tokenized with
control tokens; what people, documents and tools wrote is tokenized as plain text, so a document that contains
`<|im_start|>system` can't open a turn of its own.

Example:
    template = ChatTemplate(runtime)
    tokens = template.tokens([Message("user", "Hello")])
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from typing import Any, Protocol

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ...core.errors import ModelError
from ...core.types import Message
from .tool_calls import CLOSE, OPEN

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
# Texts of a tool's schema that templates compare with, such as "string"; they can't hold a control token.
_WORD = re.compile(r"[\w.-]{0,64}")
# For templates that don't know tools; the form is the one that `tool_calls` reads.
_TOOLS_TEXT = f"""# Tools

You can call functions. These are their JSON schemas, one a line:
%s

To call one, write a JSON object with its name and arguments, and wait for the result:
{OPEN}
{{"name": "the function's name", "arguments": {{"argument": "value"}}}}
{CLOSE}"""


class Vocabulary(Protocol):
    """What a template needs of a model; any thread may use it."""

    template: str
    """The model's chat template, Jinja source; "" where it has none."""
    bos_token: int
    bos_text: str
    eos_text: str
    adds_bos: bool
    """Whether the model expects a beginning-of-sequence token before every prompt."""

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        """Return the tokens of `text`; markup becomes control tokens only with `parse_special`."""
        ...

    def is_end(self, token: int) -> bool:
        """Return whether the token ends a generation."""
        ...


class ChatTemplate:
    """Renders and tokenizes conversations for one model.

    Args:
        runtime: The model's vocabulary.

    Raises:
        ModelError: The template is not valid Jinja.
    """

    def __init__(self, runtime: Vocabulary) -> None:
        self._runtime = runtime
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _raise
        environment.filters["tojson"] = _to_json
        try:
            self._template = environment.from_string(runtime.template or CHATML)
        except jinja2.TemplateError as exc:
            raise ModelError(f"The model's chat template is not valid Jinja: {exc}") from exc
        self._knows_tools = "tools" in runtime.template
        self._markup_tokens = functools.lru_cache(maxsize=512)(self._tokenize_markup)

    def tokens(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> list[int]:
        """Return the prompt's tokens, the opening of the assistant's turn included.

        Args:
            messages: The conversation.
            tools: JSON schemas of the tools offered, in OpenAI's form; the template writes them out, or the
                system message does where the template doesn't know tools.

        Raises:
            ModelError: The template refuses the conversation, for example two user turns in a row.
        """
        if tools and not self._knows_tools:
            messages, tools = _with_tools_as_text(messages, tools), ()
        parts, contents = self._parts(messages, tools, opens_reply=True)
        tokens: list[int] = []
        for i, part in enumerate(parts):
            if i % 2:
                tokens += self._runtime.tokenize(contents[int(part)], parse_special=False)
            else:
                tokens += self._markup_tokens(part)
        if self._runtime.adds_bos and tokens[:1] != [self._runtime.bos_token]:
            tokens.insert(0, self._runtime.bos_token)
        return tokens

    def text(self, messages: Sequence[Message]) -> str:
        """Return the prompt as text, for people and for comparisons; what is read are `tokens`.

        Raises:
            ModelError: The template refuses the conversation.
        """
        parts, contents = self._parts(messages, (), opens_reply=True)
        return "".join(contents[int(part)] if i % 2 else part for i, part in enumerate(parts))

    def reply_tokens(self, messages: Sequence[Message]) -> list[int]:
        """Return the tokens by which the model would write the last message, the end of its turn included.

        Together with `tokens(messages[:-1])` they are what a model is trained on.

        Args:
            messages: A conversation that ends with the assistant's message, which is not empty.

        Raises:
            ModelError: The template refuses the conversation, or does not end the assistant's turn with a
                token that ends a generation.
        """
        parts, contents = self._parts(messages, (), opens_reply=False)
        last = sum(1 for message in messages if message.content) - 1  # empty ones hold no index
        number = next((i for i in range(len(parts) - 2, 0, -2) if int(parts[i]) == last), None)
        if number is None:
            raise ModelError("The model's chat template leaves out the last message.")
        tokens = self._runtime.tokenize(contents[last], parse_special=False)
        for token in self._markup_tokens(parts[number + 1]):
            tokens.append(token)
            if self._runtime.is_end(token):
                return tokens
        raise ModelError(
            "The model's chat template does not end the assistant's turn with an end token.",
            hint="A model trained on it would not know where to stop; use a base with another template.",
        )

    def _parts(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]], *, opens_reply: bool
    ) -> tuple[list[str], list[str]]:
        """Return markup, index, markup, index, …, markup, and the contents that the indices stand for.

        The contents of the messages have the first indices, in their order.
        """
        contents: list[str] = []
        turns = [{"role": turn.role, "content": _hold(turn.content, contents)} for turn in messages]
        try:
            rendered = self._template.render(
                messages=turns,
                tools=[_held(tool, contents) for tool in tools] or None,
                add_generation_prompt=opens_reply,
                bos_token=self._runtime.bos_text,
                eos_token=self._runtime.eos_text,
                _contents=contents,
            )
        except jinja2.TemplateError as exc:
            raise ModelError(f"The model's chat template refuses this conversation: {exc}") from exc
        return _PLACEHOLDER.split(rendered), contents

    def _tokenize_markup(self, text: str) -> tuple[int, ...]:
        return tuple(self._runtime.tokenize(text, parse_special=True))


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _held(value: Any, contents: list[str]) -> Any:
    """Return the value with placeholders for its texts, which are put into `contents`."""
    if isinstance(value, dict):
        return {key: _held(inner, contents) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_held(inner, contents) for inner in value]
    return value if not isinstance(value, str) or _WORD.fullmatch(value) else _hold(value, contents)


def _hold(text: str, contents: list[str]) -> str:
    if not text:
        return ""  # templates ask whether there is any
    contents.append(text)
    return f"{_OPEN}{len(contents) - 1}{_CLOSE}"


@jinja2.pass_context
def _to_json(context: jinja2.runtime.Context, value: Any, **options: Any) -> str:
    """Write JSON as the models were trained on it: keys in order, nothing escaped for HTML.

    Source:
        transformers, utils/chat_template_utils.py, `tojson`.
    """
    contents: list[str] = context["_contents"]
    kept = {key: option for key, option in options.items() if key in ("indent", "separators", "sort_keys")}
    text = json.dumps(value, ensure_ascii=False, **kept)
    return _hold(_PLACEHOLDER.sub(functools.partial(_quoted, contents), text), contents)


def _quoted(contents: list[str], match: re.Match[str]) -> str:
    """Return a placeholder's text as it stands inside a JSON string."""
    place = int(match[1])
    return json.dumps(contents[place], ensure_ascii=False)[1:-1] if place < len(contents) else match[0]


def _with_tools_as_text(messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> list[Message]:
    text = _TOOLS_TEXT % "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    turns = [
        Message("user", f"<tool_response>\n{turn.content}\n</tool_response>") if turn.role == "tool" else turn
        for turn in messages
    ]
    if turns and turns[0].role == "system":
        return [Message("system", f"{turns[0].content}\n\n{text}"), *turns[1:]]
    return [Message("system", text), *turns]
