"""The OpenAPI page: what each body looks like, for clients and for the tests that try to break the server.

Place in the data's way: routes read their bodies themselves (`limits.read_model`), so they tell FastAPI here
what they read.

Example:
    @router.post("/v1/embeddings", openapi_extra=body_of(EmbeddingRequest))
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from .schemas import ChatRequest, CompletionRequest, EmbeddingRequest

_REF = "#/components/schemas/{model}"


def body_of(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the part of a route's description that names its body."""
    schema = {"$ref": _REF.format(model=kind.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def add_bodies(app: FastAPI) -> None:
    """Put the bodies' schemas into the application's OpenAPI page."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        page = make()
        kinds = [(kind, "validation") for kind in (ChatRequest, CompletionRequest, EmbeddingRequest)]
        _, schemas = models_json_schema(kinds, ref_template=_REF)  # type: ignore[arg-type]
        page.setdefault("components", {}).setdefault("schemas", {}).update(schemas["$defs"])
        return page

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way
