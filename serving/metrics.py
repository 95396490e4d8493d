"""What Prometheus reads: requests, latencies, time to the first token, and the engine's own counts.

Place in the data's way: the guard counts requests here, the streams their first tokens; `/metrics` reads it
together with `ServedModel.stats`.

Example:
    metrics = ServerMetrics(parts)
    text = metrics.text()
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..core.errors import LocalsmithError
from ..core.types import EngineStats
from .parts import ServedParts

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_GONE = 499  # nginx's number for a client that left before the answer


class ServerMetrics:
    """The server's figures, in a registry of their own.

    Args:
        parts: Where the engine's figures come from.
    """

    def __init__(self, parts: ServedParts) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_EngineCollector(parts))
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "localsmith_http_requests",
            "Requests by route, method and status.",
            ("route", "method", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "localsmith_http_request_seconds",
            "Wall time of requests, streams to their end.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._first_token = Histogram(
            "localsmith_time_to_first_token_seconds",
            "From the request to the first token.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.streams = Gauge(
            "localsmith_http_streams", "Completions being sent now.", registry=self._registry
        )

    def count_request(self, scope: Mapping[str, Any], status: int, seconds: float) -> None:
        """Count a finished request; status 0 stands for a client that left before the answer."""
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in ("GET", "POST") else "other"
        self._requests.labels(route, method, str(status or _GONE)).inc()
        self._seconds.labels(route).observe(seconds)

    def count_first_token(self, route: str, seconds: float) -> None:
        """Count how long a client waited for the first token."""
        self._first_token.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return all figures in Prometheus's text form; takes locks, so call it off the event loop."""
        return generate_latest(self._registry)


class _EngineCollector(Collector):
    """Reads the engine's figures when they are asked for."""

    def __init__(self, parts: ServedParts) -> None:
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        is_ready = GaugeMetricFamily("localsmith_ready", "1 where the part is loaded.", labels=["part"])
        for state in self._parts.loading():
            is_ready.add_metric([state.name], float(state.state == "ready"))
        yield is_ready
        try:
            stats = self._parts.model().stats()
        except LocalsmithError:
            return
        yield from _gauges(stats)
        yield from _counters(stats)


def _gauges(stats: EngineStats) -> Iterator[Metric]:
    yield GaugeMetricFamily("localsmith_running", "Requests in the batch.", stats.num_running)
    yield GaugeMetricFamily("localsmith_waiting", "Requests in the queue.", stats.num_waiting)
    yield GaugeMetricFamily("localsmith_kv_cells", "Cells of the KV cache.", stats.kv_cells)
    yield GaugeMetricFamily("localsmith_kv_cells_used", "Cells in use.", stats.kv_cells_used)
    yield GaugeMetricFamily("localsmith_sequences", "Sequences of the KV cache.", stats.sequences)
    yield GaugeMetricFamily("localsmith_sequences_used", "Sequences in use.", stats.sequences_used)


def _counters(stats: EngineStats) -> Iterator[Metric]:
    for name, words, value in (
        ("prompt_tokens", "Prompt tokens of all requests.", stats.prompt_tokens),
        ("cached_tokens", "Prompt tokens found in the KV cache.", stats.cached_tokens),
        ("completion_tokens", "Tokens generated.", stats.completion_tokens),
        ("draft_tokens", "Tokens proposed by prompt lookup.", stats.draft_tokens),
        ("accepted_draft_tokens", "Proposed tokens that were right.", stats.accepted_draft_tokens),
        ("steps", "Calls of llama_decode.", stats.num_steps),
        ("decode_seconds", "Seconds inside llama_decode.", stats.decode_s),
        ("sampling_seconds", "Seconds spent choosing tokens.", stats.sampling_s),
        ("busy_seconds", "Seconds with at least one request.", stats.busy_s),
    ):
        yield CounterMetricFamily(f"localsmith_{name}", words, value)
    finished = CounterMetricFamily("localsmith_finished", "Requests by how they ended.", labels=["reason"])
    for reason, count in stats.finished:
        finished.add_metric([reason], count)
    yield finished
