"""Health, figures and the OpenAPI page; and that no request the page allows makes the server fail."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from localsmith.core.errors import ModelLoadError, ModelNotReadyError
from localsmith.models.scripted import ScriptedModel
from localsmith.serving.parts import ServedParts
from prometheus_client.parser import text_string_to_metric_families
from schemathesis import GenerationMode

HELLO = {"model": "scripted", "messages": [{"role": "user", "content": "Hi"}]}


def state(name: str, state: str, **more: Any) -> SimpleNamespace:
    return SimpleNamespace(name=name, state=state, **({"progress": None, "detail": "", "error": None} | more))


def loading(*states: Any) -> ServedParts:
    def not_ready() -> Any:
        raise ModelNotReadyError("Loading.")

    return ServedParts(not_ready, not_ready, loading=lambda: states)


def test_health_says_ready(serve: Callable[..., Any]) -> None:
    response = httpx.get(serve().url + "/healthz")
    assert (response.status_code, response.json()["status"]) == (200, "ready")


def test_health_says_how_far_loading_is(serve: Callable[..., Any]) -> None:
    parts = loading(
        state("model", "loading", progress=0.4, detail="loading qwen"), state("embedder", "ready")
    )
    response = httpx.get(serve(parts=parts).url + "/healthz")
    assert response.status_code == 503 and "retry-after" in response.headers
    assert response.json()["status"] == "loading"
    assert response.json()["parts"]["model"]["progress"] == 0.4


def test_health_says_why_loading_failed(serve: Callable[..., Any]) -> None:
    error = ModelLoadError("The file is damaged.", hint="localsmith models pull x")
    response = httpx.get(serve(parts=loading(state("model", "failed", error=error))).url + "/healthz")
    assert response.status_code == 503 and response.json()["status"] == "failed"
    assert "models pull" in response.json()["parts"]["model"]["error"]


def figures(url: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = httpx.get(url + "/metrics").text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_count_requests_first_tokens_and_the_engine(serve: Callable[..., Any]) -> None:
    server = serve()
    httpx.post(server.url + "/v1/chat/completions", json=HELLO)
    httpx.post(server.url + "/v1/chat/completions", json=HELLO | {"stream": True})
    httpx.post(server.url + "/v1/chat/completions", json=HELLO | {"n": 0})
    httpx.get(server.url + "/etc/passwd")
    found = figures(server.url)

    def value(name: str, **labels: str) -> float:
        return found[f"localsmith_{name}", frozenset(labels.items())]

    route = "/v1/chat/completions"
    assert value("http_requests_total", route=route, method="POST", status="200") == 2
    assert value("http_requests_total", route=route, method="POST", status="400") == 1
    assert value("http_requests_total", route="other", method="GET", status="404") == 1
    assert value("time_to_first_token_seconds_count", route=route) == 2
    assert value("http_request_seconds_count", route=route) == 3
    assert value("finished_total", reason="stop") == 2
    assert value("http_streams") == 0


def test_metrics_are_there_before_the_model_is(serve: Callable[..., Any]) -> None:
    found = figures(serve(parts=loading(state("model", "loading"))).url)
    assert found["localsmith_ready", frozenset({("part", "model")})] == 0


@pytest.fixture(scope="module")
def described(serve_module: Callable[..., Any]) -> Any:
    server = serve_module(ScriptedModel(lambda messages: "word " * 5), requests_per_minute=0)
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


OPERATIONS = (
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model_id}"),
    ("GET", "/healthz"),
    ("GET", "/metrics"),
)


def test_the_openapi_page_lists_every_route(described: Any) -> None:
    found = [result.ok() for result in described.get_all_operations()]
    assert {(operation.method.upper(), operation.path) for operation in found} == set(OPERATIONS)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=[path for _, path in OPERATIONS])
def test_no_request_makes_the_server_fail(
    described: Any, method: str, path: str, mode: GenerationMode
) -> None:
    operation = described[path][method]
    if mode is GenerationMode.NEGATIVE and not operation.body:
        return  # nothing that could be wrong

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        if isinstance(case.body, dict) and mode is GenerationMode.POSITIVE:
            # Any other name would end at the first check.
            case.body["model"] = "hashing-64" if path == "/v1/embeddings" else "scripted"
        response = case.call()
        assert response.status_code < 500, response.text
        if response.status_code >= 400:
            assert set(response.json()["error"]) == {"message", "type", "param", "code"}

    check()


def test_the_openapi_page_describes_every_body(serve: Callable[..., Any]) -> None:
    page = httpx.get(serve().url + "/openapi.json").json()
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings"):
        body = page["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        name = body["$ref"].rpartition("/")[2]
        assert page["components"]["schemas"][name]["properties"]["model"]
    assert "$defs" not in str(page)


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_no_page_loads_scripts_from_elsewhere(serve: Callable[..., Any], path: str) -> None:
    assert httpx.get(serve().url + path).status_code == 404
