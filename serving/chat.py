"""`POST /v1/chat/completions`: the model by its name, a strategy by `localsmith/<name>`.

Place in the data's way: body -> messages, sampling, constraint -> n submissions -> `respond`.

Example:
    curl http://127.0.0.1:8000/v1/chat/completions -H "Content-Type: application/json" \
        -d '{"model": "localsmith", "messages": [{"role": "user", "content": "Hello"}]}'
"""

from __future__ import annotations

import time
from functools import partial

from fastapi import APIRouter, Request, Response

from ..core.contracts import ServedModel
from ..models.hot_swap import held
from .chat_form import ChatForm
from .constraints import constraint_of, tools_of
from .errors import bad_request
from .job import Job, Run
from .limits import read_model
from .messages import to_messages
from .openapi import body_of
from .respond import respond
from .sampling import names_max_tokens, num_choices, sampling_params
from .schemas import ChatRequest
from .service import Service, caller_of, fair_share_of, model_not_found, service_of
from .strategies import StrategyRun, question_of, strategy_name
from .submit import submit_all

ROUTE = "/v1/chat/completions"
router = APIRouter()


@router.post(ROUTE, openapi_extra=body_of(ChatRequest))
async def create_chat_completion(request: Request) -> Response:
    """Continue a conversation."""
    begun = time.perf_counter()
    service = service_of(request)
    body = await read_model(request, ChatRequest, service.settings.max_body_bytes)
    user = fair_share_of(request, body.user)
    strategy = strategy_name(body.model)
    caller_of(request).require("documents" if strategy else "chat")
    runs: list[Run]
    if strategy:
        runs = [await _strategy_run(service, body, strategy, user)]
    else:
        model = await service.model(body.model)
        runs = await service.run(partial(_submit, model, body, service, user))
    job = Job(runs, _form(body, len(runs)), ROUTE, begun)
    return await respond(job, request, is_stream=bool(body.stream))


def _submit(served: ServedModel, body: ChatRequest, service: Service, user: str) -> list[Run]:
    """Check the request and queue its completions, all with one model."""
    settings = service.settings
    for name in ("collection", "document_ids"):
        if getattr(body, name) is not None:
            raise bad_request(f"Only strategies such as localsmith/rag take {name!r}.", name)
    n = num_choices(body, settings)
    messages = to_messages(body.messages)
    tools = tools_of(body)
    constraint = constraint_of(body, tools)
    with held(served) as model:
        params = sampling_params(body, model, settings, constraint)
        submit = partial(
            model.submit,
            messages,
            deadline_s=settings.deadline_s,
            tools=tools,
            priority=body.priority,
            user=user,
        )
        return [*submit_all([submit], params, n=n, is_length_fixed=names_max_tokens(body))]


async def _strategy_run(service: Service, body: ChatRequest, name: str, user: str) -> StrategyRun:
    strategy = service.parts.strategies.get(name)
    if strategy is None:
        raise model_not_found(body.model)
    collections = await service.run(service.parts.collections)
    question = question_of(body, list(collections), user)
    return StrategyRun(strategy, question, service.settings.deadline_s)


def _form(body: ChatRequest, n: int) -> ChatForm:
    options = body.stream_options
    return ChatForm(
        body.model,
        num_choices=n,
        tools=set() if body.tool_choice == "none" else {tool.function.name for tool in body.tools or ()},
        is_parallel=body.parallel_tool_calls is not False,
        has_logprobs=bool(body.logprobs),
        has_usage=bool(options and options.include_usage),
        has_progress=bool(options and options.include_progress),
    )
