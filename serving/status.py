"""`GET /v1/models`, `/healthz` and `/metrics`: what is served, whether it is ready, how it does.

Place in the data's way: clients list the models, load balancers ask for health, Prometheus for figures.

Example: `curl http://127.0.0.1:8000/healthz`
"""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request, Response

from ..core.contracts import PartState
from ..core.errors import LocalsmithError, ModelNotReadyError
from .errors import LOADING_RETRY_S
from .json_bytes import dumps
from .metrics import CONTENT_TYPE
from .service import Service, model_not_found, service_of
from .strategies import PREFIX

STARTED_AT = int(time.time())
router = APIRouter()


@router.get("/v1/models")
async def list_models(request: Request) -> Response:
    """List the chat model, the embedding model and the strategies; what still loads is left out."""
    models = _models(service_of(request))
    return Response(dumps({"object": "list", "data": models}), media_type="application/json")


@router.get("/v1/models/{model_id:path}")
async def retrieve_model(request: Request, model_id: str) -> Response:
    """Describe one model."""
    for model in _models(service_of(request)):
        if model["id"] == model_id:
            return Response(dumps(model), media_type="application/json")
    raise model_not_found(model_id)


@router.get("/healthz")
async def health(request: Request) -> Response:
    """Say whether requests are answered: 200 and "ready", or 503 and how far loading is."""
    states = service_of(request).parts.loading()
    is_failed = any(state.state == "failed" for state in states)
    is_ready = all(state.state == "ready" for state in states)
    status = "ready" if is_ready else "failed" if is_failed else "loading"
    body = {"status": status, "parts": {state.name: _part(state) for state in states}}
    headers = {} if is_ready else {"retry-after": str(int(LOADING_RETRY_S))}
    return Response(dumps(body), 200 if is_ready else 503, headers, "application/json")


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Return the figures in Prometheus's text form."""
    service = service_of(request)
    return Response(await service.run(service.metrics.text), headers={"content-type": CONTENT_TYPE})


def _models(service: Service) -> list[dict[str, Any]]:
    parts = service.parts
    found = []
    try:
        model = parts.model()
        found.append(_model(model.name) | {"context_length": model.n_ctx})
    except LocalsmithError as exc:
        if not isinstance(exc, ModelNotReadyError):
            raise
    found += [_model(PREFIX + name) for name in parts.strategies]
    try:
        found.append(_model(parts.embedder().name.partition("@")[0]))
    except LocalsmithError:
        return found  # the chat goes on without an embedder
    return found


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": STARTED_AT, "owned_by": "localsmith"}


def _part(state: PartState) -> dict[str, Any]:
    told: dict[str, Any] = {"state": state.state, "progress": state.progress, "detail": state.detail}
    if state.error is not None:
        told["error"] = f"{state.error} {state.error.hint}".rstrip()
    return told
