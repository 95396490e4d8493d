"""Traces sent to an OpenTelemetry collector, when a person names one; nothing leaves this machine before.

Place in the data's way: `localsmith traces export --to` sends what is stored; the front door hands
`TraceExporter.send` to `recorded` where `traces.otlp_endpoint` is set. OTLP over HTTP, protobuf, by
OpenTelemetry's own library (extra `telemetry`), imported when an exporter is made.

Example:
    exporter = TraceExporter("http://127.0.0.1:4318")
    exporter.export([store.get(trace_id)])
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog

from .errors import ConfigError, TelemetryError
from .extras import install_command
from .spans import SCOPE, SERVICE, Span, spans_of
from .trace_rows import Trace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

_log = structlog.get_logger(__name__)

TRACES_PATH = "/v1/traces"  # OTLP specification, section "OTLP/HTTP Request"
TIMEOUT_S = 10.0
TRACES_PER_REQUEST = 20


class TraceExporter:
    """The way to one collector.

    Args:
        endpoint: Address of the collector, `http://HOST:PORT`; a path of its own is kept, else `/v1/traces`
            is asked.
        with_texts: Whether questions, prompts, outputs and answers are sent along.
        headers: Sent with every request, for collectors that want a key.
        timeout_s: Seconds that one request may take, its repetitions included.

    Raises:
        ConfigError: The endpoint is not an address, or OpenTelemetry is not installed.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        with_texts: bool = False,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.url = _url(endpoint)
        self._with_texts = with_texts
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as exc:
            raise ConfigError(
                "Traces can't be sent: OpenTelemetry is not installed.",
                hint=f"Install it: {install_command('telemetry')}.",
            ) from exc
        self._client = OTLPSpanExporter(self.url, headers=dict(headers or {}), timeout=timeout_s)
        self._make_queue: Callable[[], Any] = lambda: BatchSpanProcessor(self._client)
        self._queue: Any = None
        self._lock = threading.Lock()

    def export(self, traces: Iterable[Trace]) -> int:
        """Send traces now and return how many there were.

        Raises:
            TelemetryError: The collector can't be reached or refuses them.
        """
        from opentelemetry.sdk.trace.export import SpanExportResult

        num, remaining = 0, iter(traces)
        while batch := list(islice(remaining, TRACES_PER_REQUEST)):
            spans = [span for trace in batch for span in _readable(trace, self._with_texts)]
            if self._client.export(spans) is not SpanExportResult.SUCCESS:
                raise TelemetryError(
                    f"The collector at {self.url} did not take the traces ({num} were sent before).",
                    hint="Check that it runs and speaks OTLP over HTTP; its usual port is 4318.",
                )
            num += len(batch)
        return num

    def send(self, trace: Trace) -> None:
        """Send a trace in the background; neither waits nor raises, and drops it when the queue is full."""
        with self._lock:
            if self._queue is None:
                self._queue = self._make_queue()
        try:
            for span in _readable(trace, self._with_texts):
                self._queue.on_end(span)
        except (TypeError, ValueError) as exc:
            _log.warning("trace_not_sent", trace_id=trace.info.id, error=str(exc))

    def close(self) -> None:
        """Send what waits and end; a second call does nothing."""
        with self._lock:
            if self._queue is not None:
                self._queue.shutdown()
                self._queue = None


def _url(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"{endpoint!r} is not the address of a collector.", hint="Give it as http://127.0.0.1:4318."
        )
    return endpoint if parts.path.strip("/") else endpoint.rstrip("/") + TRACES_PATH


def _readable(trace: Trace, with_texts: bool) -> Iterator[ReadableSpan]:
    """Yield a trace's spans in the form that OpenTelemetry's exporters take."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, TraceFlags
    from opentelemetry.trace.status import Status, StatusCode

    resource = Resource({"service.name": SERVICE})
    scope = InstrumentationScope(SCOPE)
    # The run is over: these spans are read from the store, not measured by a tracer, whose clock is now.
    for span in spans_of(trace, with_texts=with_texts):
        flags = TraceFlags(TraceFlags.SAMPLED)
        trace_id = int(span.trace_id, 16)
        own = SpanContext(trace_id, int(span.span_id, 16), is_remote=False, trace_flags=flags)
        around = None
        if span.parent_id:
            around = SpanContext(trace_id, int(span.parent_id, 16), is_remote=False, trace_flags=flags)
        yield ReadableSpan(
            span.name,
            context=own,
            parent=around,
            resource=resource,
            attributes=_storable(span),
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
            start_time=span.begun_ns,
            end_time=span.ended_ns,
            instrumentation_scope=scope,
        )


def _storable(span: Span) -> dict[str, Any]:
    # Protobuf holds UTF-8: a lone surrogate would fail the whole request.
    return {
        key: value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value
        for key, value in span.attributes.items()
    }
