"""A server's refusals and failures as Localsmith's errors.

Place in the data's way: everything that goes wrong between `RemoteModel` and its server passes here once; no
error of openai, httpx or langchain-openai gets further.

Example:
    raise remote_error(exc, Asked(url="http://gpu:8000/v1", model="qwen"))
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import httpx

from ...core.errors import (
    AccessDenied,
    ContextOverflow,
    GenerationError,
    LocalsmithError,
    ModelNotFoundError,
    ModelNotReadyError,
    Overloaded,
)
from ...core.settings import REMOTE_KEY_VARIABLE

MAX_QUOTED_CHARS = 300
# How vLLM, SGLang and OpenAI itself word it; llama-server and `localsmith serve` also send a code.
_OVERFLOW = re.compile(r"context (length|window|size)|maximum (model|context|input)", re.IGNORECASE)
_OVERFLOW_CODES = {"context_length_exceeded", "exceed_context_size_error"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of the server, for the error's words.

    Attributes:
        url: The server's address.
        model: The model's name there.
        prompt_tokens: Tokens of the prompt, as counted or estimated here.
        max_tokens: Tokens asked for the completion.
        n_ctx: The window.
    """

    url: str
    model: str
    prompt_tokens: int = 0
    max_tokens: int = 0
    n_ctx: int = 0


def remote_error(exc: Exception, asked: Asked) -> LocalsmithError:
    """Return what to raise `from exc`."""
    if isinstance(exc, LocalsmithError):
        return exc
    response = getattr(exc, "response", None)
    if isinstance(response, httpx.Response):
        return _refusal(response.status_code, _body(exc, response), asked)
    kind = type(exc).__name__
    if kind == "APITimeoutError" or isinstance(exc, httpx.TimeoutException):
        return ModelNotReadyError(
            f"The server {asked.url} does not answer in time.",
            hint="Look whether it is well, then try again.",
        )
    if kind == "APIConnectionError" or isinstance(exc, httpx.ConnectError):
        return ModelNotReadyError(
            f"The server {asked.url} can't be reached: {_cause(exc)}.",
            hint="Start it, or correct the address in model.name.",
        )
    if isinstance(exc, httpx.TransportError):
        return GenerationError(
            f"The connection to {asked.url} broke: {_cause(exc)}.", hint="Look whether it is well; try again."
        )
    if isinstance(body := getattr(exc, "body", None), dict):  # an error in the middle of a stream
        return _refusal(int(body.get("code", 500)) if _is_number(body.get("code")) else 500, body, asked)
    return GenerationError(f"{asked.url} sent what is no completion: {exc}", hint="Is it OpenAI-compatible?")


def overflow(prompt_tokens: int, max_tokens: int, n_ctx: int) -> ContextOverflow:
    """Return the error of a prompt that is too long, with the server's window in its hint."""
    error = ContextOverflow(prompt_tokens, max_tokens, n_ctx)
    error.hint = "Shorten the question or the conversation, or start the model server with a larger window."
    return error


def _refusal(status: int, error: dict[str, Any], asked: Asked) -> LocalsmithError:
    words = str(error.get("message") or f"HTTP {status}")[:MAX_QUOTED_CHARS]
    says = f"{asked.url} says: {words}"
    if status in (401, 403):
        return AccessDenied(
            f"The server {asked.url} refuses the key ({status}).",
            hint=f"Set {REMOTE_KEY_VARIABLE} to a key that is valid there.",
        )
    if status == 429:
        return Overloaded(f"The server is busy. {says}", hint="Try again in a moment.")
    if status in (502, 503, 504):
        return ModelNotReadyError(f"The server is not ready. {says}", hint="Try again in a moment.")
    if status == 404:
        return ModelNotFoundError(f"No model {asked.model} there. {says}", hint="Check model.name.")
    if status in (400, 413, 422) and _is_overflow(error, words):
        prompt = error.get("n_prompt_tokens", asked.prompt_tokens)
        return overflow(int(prompt), asked.max_tokens, int(error.get("n_ctx", asked.n_ctx)))
    if status < 500:
        return GenerationError(f"The request was refused. {says}")
    return GenerationError(f"The model failed. {says}", hint="Try again; if it stays, look into its log.")


def _is_overflow(error: dict[str, Any], words: str) -> bool:
    codes = {str(error.get("code")), str(error.get("type"))}
    return bool(codes & _OVERFLOW_CODES or _OVERFLOW.search(words))


def _body(exc: Exception, response: httpx.Response) -> dict[str, Any]:
    """Return the `error` object, whatever it is wrapped in."""
    body = getattr(exc, "body", None)
    if body is None:
        try:
            body = response.json()
        except (ValueError, httpx.ResponseNotRead):
            body = None
    if isinstance(body, dict):
        inner = body.get("error", body)
        return inner if isinstance(inner, dict) else {"message": inner}
    return {"message": body} if isinstance(body, str) else {}


def _cause(exc: BaseException) -> str:
    """Return the deepest reason, which is the one that says something."""
    while (cause := exc.__cause__ or exc.__context__) is not None:
        exc = cause
    return (str(exc) or type(exc).__name__).rstrip(".")


def _is_number(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and value.isdecimal())
