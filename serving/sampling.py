"""A request's parameters as `SamplingParams`, within the server's limits.

Place in the data's way: `ChatRequest` or `CompletionRequest` -> here -> `ServedModel.submit`. n choices are n
submissions that differ by their seed; the engine computes their prompt once.

Example:
    params = sampling_params(body, model, ServeSettings(), grammar=Grammar())
"""

from __future__ import annotations

import secrets
from dataclasses import replace

from ..core.contracts import ServedModel
from ..core.settings import ServeSettings
from ..core.types import SamplingParams
from .constraints import Constraint
from .errors import bad_request
from .schemas import ChatRequest, CompletionRequest, SamplingBody

# llama.cpp takes the largest 32-bit seed for "choose one", so it is left out.
NUM_SEEDS = 2**32 - 1


def sampling_params(
    body: SamplingBody, model: ServedModel, settings: ServeSettings, constraint: Constraint
) -> SamplingParams:
    """Return the parameters of a request's first choice.

    Args:
        body: The request.
        model: The model; `logit_bias` names its tokens.
        settings: Defaults and limits.
        constraint: What the completion has to obey.

    Raises:
        ApiError: A value is beyond a limit.
    """
    defaults = SamplingParams()
    seed = secrets.randbelow(NUM_SEEDS) if body.seed is None else body.seed % NUM_SEEDS
    return SamplingParams(
        max_tokens=_max_tokens(body, model, settings),
        temperature=settings.temperature if body.temperature is None else body.temperature,
        top_k=defaults.top_k if body.top_k is None else body.top_k,
        top_p=defaults.top_p if body.top_p is None else body.top_p,
        min_p=defaults.min_p if body.min_p is None else body.min_p,
        repeat_penalty=body.repeat_penalty or defaults.repeat_penalty,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        logit_bias=_logit_bias(body, model),
        seed=seed,
        stop=(body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ()),
        grammar=constraint.grammar,
        grammar_trigger=constraint.trigger,
        num_logprobs=_num_logprobs(body),
    )


def with_seed_of(params: SamplingParams, choice: int) -> SamplingParams:
    """Return the parameters of choice number `choice`, from 0."""
    return replace(params, seed=(params.seed + choice) % NUM_SEEDS)


def num_choices(body: SamplingBody, settings: ServeSettings, num_prompts: int = 1) -> int:
    """Return how many completions of each prompt are wanted.

    Raises:
        ApiError: There would be more than the server makes at once.
    """
    n = body.n or 1
    if n * num_prompts > settings.max_choices:
        raise bad_request(
            f"{n * num_prompts} completions are asked for at once, at most {settings.max_choices} are made "
            "(serve.max_choices).",
            "n" if num_prompts == 1 else "prompt",
        )
    return n


def names_max_tokens(body: SamplingBody) -> bool:
    """Whether the request itself says how long the completion may be."""
    return _asked_max_tokens(body) is not None


def _asked_max_tokens(body: SamplingBody) -> int | None:
    newer = body.max_completion_tokens if isinstance(body, ChatRequest) else None
    return body.max_tokens if newer is None else newer


def _max_tokens(body: SamplingBody, model: ServedModel, settings: ServeSettings) -> int:
    asked = _asked_max_tokens(body)
    limit = settings.max_tokens or model.n_ctx
    if asked is None:
        return min(settings.default_max_tokens, limit)
    if settings.max_tokens and asked > settings.max_tokens:
        raise bad_request(
            f"max_tokens is {asked}, at most {settings.max_tokens} are made (serve.max_tokens).", "max_tokens"
        )
    return asked


def _logit_bias(body: SamplingBody, model: ServedModel) -> tuple[tuple[int, float], ...]:
    pairs = []
    for name, bias in (body.logit_bias or {}).items():
        if not (name.isascii() and name.isdecimal() and len(name) < 10 and int(name) < model.n_vocab):
            raise bad_request(
                f"logit_bias: {name[:40]!r} is no token of this model; "
                f"they go from 0 to {model.n_vocab - 1}.",
                "logit_bias",
            )
        pairs.append((int(name), bias))
    return tuple(pairs)


def _num_logprobs(body: SamplingBody) -> int | None:
    if isinstance(body, CompletionRequest):
        return body.logprobs
    assert isinstance(body, ChatRequest)
    if body.top_logprobs is not None and not body.logprobs:
        raise bad_request("top_logprobs needs `logprobs: true`.", "top_logprobs")
    return (body.top_logprobs or 0) if body.logprobs else None
