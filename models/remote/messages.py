"""Messages and sampling parameters in the form of OpenAI's API.

Place in the data's way: `RemoteModel.submit` -> here -> the request's body. Tool calls that stand in the
text, as the local engine's model writes them, become OpenAI's `tool_calls`, so that the server's own template
renders them.

Example:
    >>> to_openai([Message("user", "Hello")])
    [{'role': 'user', 'content': 'Hello'}]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ...core.errors import ModelError
from ...core.types import Message, SamplingParams
from ..chat.tool_calls import split_tool_calls
from ..grammar.constraint import tool_call_grammar

# Programs whose API has llama.cpp's or vLLM's samplers beside OpenAI's parameters.
_HAS_SAMPLERS = {"vllm", "llamacpp", "localsmith"}


def to_openai(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the conversation as OpenAI's API takes it.

    A tool's result answers the oldest call that has none yet; without a call it is sent as the user's words,
    for a `tool` message without a call is an error to most servers.
    """
    told: list[dict[str, Any]] = []
    open_calls: list[str] = []
    num_calls = 0
    for message in messages:
        content = message.content
        if message.role == "tool" and not open_calls:
            told.append({"role": "user", "content": content})
            continue
        if message.role == "tool":
            told.append({"role": "tool", "tool_call_id": open_calls.pop(0), "content": content})
            continue
        one: dict[str, Any] = {"role": message.role, "content": content}
        if message.role == "assistant" and (split := split_tool_calls(content))[1]:
            # Counted through, not random, so that the same conversation is the same prompt: caches hold.
            open_calls = [f"call_{num_calls + i}" for i in range(len(split[1]))]
            num_calls += len(split[1])
            one = {
                "role": "assistant",
                "content": split[0] or None,
                "tool_calls": [
                    {"id": id_, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
                    for id_, c in zip(open_calls, split[1], strict=True)
                ],
            }
        told.append(one)
    return told


def tool_request(
    tools: Sequence[dict[str, Any]], sampling: SamplingParams
) -> tuple[dict[str, Any], SamplingParams]:
    """Return the request's tools, and the sampling parameters without the grammar of their calls.

    Servers keep the form of calls themselves, and llama-server refuses a grammar beside tools. A grammar that
    forces a call becomes `tool_choice`.

    Raises:
        ModelError: The grammar is none of `tool_call_grammar`.
    """
    request: dict[str, Any] = {"tools": list(tools)}
    if not sampling.grammar:
        return request, sampling
    names = [tool["function"]["name"] for tool in tools]
    wanted = (sampling.grammar, sampling.grammar_trigger)
    for choice in (None, "required", *names):
        made = tool_call_grammar(tools, choice=choice)
        if (made.grammar, made.trigger) == wanted:
            named = {"type": "function", "function": {"name": choice}}
            if choice is not None:
                request["tool_choice"] = named if choice in names else choice
            return request, replace(sampling, grammar="", grammar_trigger="")
    raise ModelError(
        "A grammar of your own and tools can't both be asked of another server.",
        hint="Leave one of them out.",
    )


def to_request(sampling: SamplingParams, kind: str) -> dict[str, Any]:
    """Return the sampling parameters as keyword arguments of OpenAI's client.

    What OpenAI's API doesn't have goes into `extra_body` where the server is known to take it, and is left
    out elsewhere, for a strict server refuses what it doesn't know. vLLM gets no repeat penalty: its own
    counts the prompt too, which punishes quoting from it.

    Args:
        sampling: How to choose tokens.
        kind: The server's program, `ServerFacts.kind`.

    Raises:
        ModelError: A grammar is asked of a server that isn't known to keep one.
    """
    request: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
    }
    if sampling.stop:
        request["stop"] = list(sampling.stop)
    if sampling.logit_bias:
        request["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias}
    extra = _extensions(sampling, kind)
    if kind == "openai":
        request["max_completion_tokens"] = sampling.max_tokens
    else:  # older than max_completion_tokens, and understood by every other server
        extra["max_tokens"] = sampling.max_tokens
    if extra:
        request["extra_body"] = extra
    return request


def _extensions(sampling: SamplingParams, kind: str) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if kind in _HAS_SAMPLERS:
        extra = {"top_k": sampling.top_k, "min_p": sampling.min_p}
    if kind == "vllm":
        extra["top_k"] = sampling.top_k or -1
    elif extra:
        extra["repeat_penalty"] = sampling.repeat_penalty
    if not sampling.grammar:
        return extra
    if sampling.grammar_trigger:
        raise ModelError(
            "A grammar that holds from a trigger on can't be asked of another server.",
            hint="Offer the tools instead; the server finds the calls.",
        )
    if kind not in _HAS_SAMPLERS:
        raise ModelError(
            "This server isn't known to keep a grammar.",
            hint="vLLM, llama-server and `localsmith serve` do.",
        )
    grammar = {"grammar": sampling.grammar}
    return extra | ({"structured_outputs": grammar} if kind == "vllm" else grammar)
