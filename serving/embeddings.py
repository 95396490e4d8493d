"""`POST /v1/embeddings`: texts as vectors, by the embedding model of the document library.

Place in the data's way: texts -> `Embedder.encode`, a few at a time on a thread of its own -> floats, or
base64 of little-endian float32, which is what OpenAI's client asks for.

Example:
    curl http://127.0.0.1:8000/v1/embeddings -H "Content-Type: application/json" \
        -d '{"model": "all-minilm-l6-v2", "input": ["trace trees", "type inference"]}'
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Request, Response

from ..core.contracts import Embedder
from .errors import bad_request
from .json_bytes import dumps
from .limits import read_model
from .openapi import body_of
from .schemas import EmbeddingRequest
from .service import Service, service_of

ROUTE = "/v1/embeddings"
# Between two slices others get their turn, and a client that has left is noticed.
SLICE_TEXTS = 32
router = APIRouter()


@router.post(ROUTE, openapi_extra=body_of(EmbeddingRequest))
async def create_embeddings(request: Request) -> Response:
    """Turn texts into vectors."""
    service = service_of(request)
    body = await read_model(request, EmbeddingRequest, service.settings.max_body_bytes)
    texts = [body.input] if isinstance(body.input, str) else body.input
    if len(texts) > service.settings.max_inputs:
        raise bad_request(
            f"{len(texts)} texts at once, at most {service.settings.max_inputs} are taken "
            "(serve.max_inputs).",
            "input",
        )
    embedder = await service.embedder(body.model)
    if body.dimensions not in (None, embedder.dimension):
        raise bad_request(
            f"{body.model} has {embedder.dimension} dimensions and can't be asked for {body.dimensions}.",
            "dimensions",
            "unsupported_parameter",
        )
    counts = await _in_thread(service, partial(_checked_counts, embedder, texts))
    vectors = []
    for start in range(0, len(texts), SLICE_TEXTS):
        if await request.is_disconnected():
            return Response(status_code=499)
        vectors.append(
            await _in_thread(service, partial(embedder.encode, texts[start : start + SLICE_TEXTS]))
        )
    write = partial(_response, np.concatenate(vectors), body, sum(counts))
    return Response(await _in_thread(service, write), media_type="application/json")


async def _in_thread(service: Service, call: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(service.embedding, call)


def _checked_counts(embedder: Embedder, texts: Sequence[str]) -> list[int]:
    """Return each text's tokens.

    Raises:
        ApiError: A text is empty, or longer than the model reads: it would be cut off silently.
    """
    counts = []
    for i, text in enumerate(texts):
        count = len(embedder.token_spans(text))
        if count > embedder.max_tokens:
            raise bad_request(
                f"Text {i} has {count} tokens, the model reads {embedder.max_tokens}. Split it.",
                "input",
                "context_length_exceeded",
            )
        if not text.strip():
            raise bad_request(f"Text {i} is empty.", "input")
        counts.append(count)
    return counts


def _response(vectors: npt.NDArray[np.float32], body: EmbeddingRequest, num_tokens: int) -> bytes:
    """Return the response's JSON for (n_texts, dimension) float32."""
    is_base64 = body.encoding_format == "base64"
    data = [
        {
            "object": "embedding",
            "index": i,
            "embedding": _base64(vector) if is_base64 else vector.tolist(),
        }
        for i, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
    return dumps({"object": "list", "model": body.model, "data": data, "usage": usage})


def _base64(vector: npt.NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
