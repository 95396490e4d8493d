"""`POST /v1/completions`: the continuation of raw texts.

Place in the data's way: prompts -> `submit_text`, n times each -> `respond`. Control tokens in a prompt count
as such: this is the endpoint for those who render the chat template themselves.

Example:
    curl http://127.0.0.1:8000/v1/completions -H "Content-Type: application/json" \
        -d '{"model": "localsmith", "prompt": "Once upon a time", "max_tokens": 20}'
"""

from __future__ import annotations

import time
from functools import partial

from fastapi import APIRouter, Request, Response

from ..core.contracts import ServedModel
from ..models.hot_swap import held
from .completion_form import CompletionForm
from .constraints import constraint_of
from .errors import bad_request
from .job import Job, Run
from .limits import read_model
from .openapi import body_of
from .respond import respond
from .sampling import names_max_tokens, num_choices, sampling_params
from .schemas import CompletionRequest
from .service import Service, fair_share_of, service_of
from .submit import submit_all

ROUTE = "/v1/completions"
router = APIRouter()


@router.post(ROUTE, openapi_extra=body_of(CompletionRequest))
async def create_completion(request: Request) -> Response:
    """Continue texts."""
    begun = time.perf_counter()
    service = service_of(request)
    body = await read_model(request, CompletionRequest, service.settings.max_body_bytes)
    user = fair_share_of(request, body.user)
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    model = await service.model(body.model)
    runs = await service.run(partial(_submit, model, body, prompts, service, user))
    options = body.stream_options
    form = CompletionForm(
        body.model,
        prompts,
        len(runs) // len(prompts),
        has_echo=bool(body.echo),
        has_logprobs=body.logprobs is not None,
        has_usage=bool(options and options.include_usage),
        has_progress=bool(options and options.include_progress),
    )
    return await respond(Job(runs, form, ROUTE, begun), request, is_stream=bool(body.stream))


def _submit(
    served: ServedModel, body: CompletionRequest, prompts: list[str], service: Service, user: str
) -> list[Run]:
    """Check the request and queue its completions, all with one model."""
    n = num_choices(body, service.settings, len(prompts))
    if body.best_of is not None and body.best_of != n:
        raise bad_request("best_of is not offered; ask for n and choose.", "best_of", "unsupported_parameter")
    if body.echo and body.logprobs is not None:
        raise bad_request(
            "Log-probabilities of the prompt are not offered: leave out echo or logprobs.",
            "echo",
            "unsupported_parameter",
        )
    constraint = constraint_of(body)
    with held(served) as model:
        params = sampling_params(body, model, service.settings, constraint)
        submits = [
            partial(
                model.submit_text,
                prompt,
                deadline_s=service.settings.deadline_s,
                priority=body.priority,
                user=user,
            )
            for prompt in prompts
        ]
        return [*submit_all(submits, params, n=n, is_length_fixed=names_max_tokens(body))]
