"""What leaves the machine, and what doesn't: traces at a real OTLP receiver over HTTP."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from localsmith.core.errors import ConfigError, ModelError, TelemetryError
from localsmith.core.spans import otlp_json, spans_of
from localsmith.core.telemetry import TraceExporter
from localsmith.core.trace_rows import Trace
from localsmith.core.traces import TraceStore
from localsmith.core.types import Message, Question, Step
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

sys.path.insert(0, str(Path(__file__).parent))
from traced_runs import full_answer

SECRET = "xyzzy-4711"
BEGUN_AT = 1_790_000_000.0


class Collector:
    """An OTLP receiver: what was posted where, decoded by OpenTelemetry's own schema."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], ExportTraceServiceRequest]] = []
        self.status = 200
        collector = self

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.requests.append(
                    (self.path, dict(self.headers), ExportTraceServiceRequest.FromString(body))
                )
                self.send_response(collector.status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def spans(self) -> list[Any]:
        return [
            span
            for _, _, request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def raw(self) -> bytes:
        return b"".join(request.SerializeToString() for _, _, request in self.requests)


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    store = TraceStore(tmp_path / "t.sqlite3")
    question = Question(f"What is {SECRET}?", (Message("user", SECRET),), "papers")
    trace_id = store.add(question, full_answer(f"It is {SECRET}."), "rag", begun_at=time.time())
    found = store.get(trace_id)
    store.close()
    assert found is not None
    return replace(found, info=replace(found.info, begun_at=BEGUN_AT))


def attributes(span: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in span.attributes:
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, kind)
        found[pair.key] = [item.string_value for item in value.values] if kind == "array_value" else value
    return found


def test_a_run_arrives_as_a_tree_of_spans_with_the_conventions_names(
    collector: Collector, trace: Trace
) -> None:
    assert TraceExporter(collector.url).export([trace]) == 1
    [(path, headers, request)] = collector.requests
    assert path == "/v1/traces"
    assert {k.lower(): v for k, v in headers.items()}["content-type"] == "application/x-protobuf"
    [resource] = request.resource_spans
    assert attributes(resource.resource)["service.name"] == "localsmith"

    run, search, plan, sample, program, generate = spans = collector.spans()
    assert [span.name for span in spans] == [
        "invoke_agent rag", "retrieval papers", "plan", "chat smollm2", "execute_tool python", "chat smollm2",
    ]  # fmt: skip
    assert {span.trace_id.hex() for span in spans} == {"a" * 32}
    assert len({span.span_id for span in spans}) == 6
    assert run.parent_span_id == b""
    assert [span.parent_span_id for span in (search, plan, generate)] == [run.span_id] * 3
    assert [span.parent_span_id for span in (sample, program)] == [plan.span_id] * 2
    nanoseconds = [(span.start_time_unix_nano, span.end_time_unix_nano) for span in (run, plan)]
    begun = int(BEGUN_AT) * 10**9
    assert nanoseconds == [(begun, begun + 2_500_000_000), (begun + 100_000_000, begun + 1_100_000_000)]

    assert attributes(run) | {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "rag",
        "gen_ai.provider.name": "localsmith",
        "gen_ai.request.model": "smollm2",
        "gen_ai.response.finish_reasons": ["answered"],
        "gen_ai.usage.input_tokens": 300,
        "gen_ai.usage.cache_read.input_tokens": 170,
        "gen_ai.usage.output_tokens": 70,
        "localsmith.window.n_ctx": 8192,
    } == attributes(run)
    assert attributes(generate) | {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "smollm2",
        "gen_ai.usage.input_tokens": 200,
        "gen_ai.usage.cache_read.input_tokens": 150,
        "gen_ai.usage.output_tokens": 40,
        "gen_ai.response.time_to_first_chunk": 0.2,
    } == attributes(generate)
    assert attributes(search)["gen_ai.data_source.id"] == "papers"
    assert attributes(program)["gen_ai.tool.name"] == "python"
    assert (program.status.code, attributes(program)["error.type"]) == (2, "_OTHER")
    assert run.status.code == 0


def test_the_names_are_those_of_the_conventions(trace: Trace) -> None:
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

    known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    used = {name for span in spans_of(trace, with_texts=True) for name in span.attributes}
    assert {name for name in used if name.startswith("gen_ai.")} - known == set()
    assert {name for name in used if not name.startswith(("gen_ai.", "localsmith."))} == {"error.type"}


def test_texts_stay_here_unless_they_are_asked_for(collector: Collector, trace: Trace) -> None:
    steps = (Step("tool", SECRET, 0.1, None, 0.0, SECRET, SECRET, is_error=True), *trace.answer.steps)
    trace = Trace(
        replace(trace.info, error_type="ModelError", error=SECRET),
        trace.question,
        replace(trace.answer, steps=steps),
    )
    TraceExporter(collector.url).export([trace])
    assert SECRET.encode() not in collector.raw()
    assert SECRET not in otlp_json(trace)
    TraceExporter(collector.url, with_texts=True).export([trace])
    spans = collector.spans()[7:]
    asked = json.loads(attributes(spans[0])["gen_ai.input.messages"])
    assert [(turn["role"], turn["parts"][0]["content"]) for turn in asked] == [
        ("user", SECRET), ("user", f"What is {SECRET}?"),
    ]  # fmt: skip
    assert attributes(spans[1])["gen_ai.tool.call.result"] == SECRET
    assert SECRET in attributes(spans[-1])["gen_ai.output.messages"]


def test_a_call_is_named_by_its_tool(collector: Collector, trace: Trace) -> None:
    steps = (Step("tool", "calculator: 4", 0.1), Step("tool", "no such tool", 0.1))
    called = replace(trace, answer=replace(trace.answer, steps=steps))
    TraceExporter(collector.url).export([called])
    named, unnamed = collector.spans()[1:]
    assert (named.name, attributes(named)["gen_ai.tool.name"]) == ("execute_tool calculator", "calculator")
    assert unnamed.name == "execute_tool" and "gen_ai.tool.name" not in attributes(unnamed)


def test_a_failed_run_is_an_error_with_its_type(collector: Collector, tmp_path: Path) -> None:
    store = TraceStore(tmp_path / "failed.sqlite3")
    trace_id = store.add(Question("Why?"), full_answer(), "react", error=ModelError("It stumbled."))
    trace = store.get(trace_id)
    assert trace is not None
    TraceExporter(collector.url).export([trace])
    run = collector.spans()[0]
    assert (run.status.code, run.status.message) == (2, "ModelError")
    assert attributes(run)["error.type"] == "ModelError"


def test_a_trace_sent_twice_has_the_same_identifiers(collector: Collector, trace: Trace) -> None:
    odd = replace(trace, info=replace(trace.info, id="trace-17 ü"))
    for sent in (trace, odd):
        collector.requests.clear()
        TraceExporter(collector.url).export([sent, sent])
        spans = collector.spans()
        assert [span.span_id for span in spans[:6]] == [span.span_id for span in spans[6:]]
        assert len({span.trace_id for span in spans}) == 1 and any(spans[0].trace_id)


def test_the_json_is_what_the_protocol_says(trace: Trace, collector: Collector) -> None:
    line = json.loads(otlp_json(trace, with_texts=True))
    TraceExporter(collector.url, with_texts=True).export([trace])
    for span in line["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for name in ("traceId", "spanId", "parentSpanId"):
            if name in span:  # protobuf's own JSON has base64 where OTLP's has hexadecimal digits
                span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    read = ParseDict(line, ExportTraceServiceRequest())
    from_file, from_wire = (
        [(s.trace_id, s.span_id, s.parent_span_id, s.name, s.start_time_unix_nano, s.kind, attributes(s))
         for s in request.resource_spans[0].scope_spans[0].spans]
        for request in (read, collector.requests[0][2])
    )  # fmt: skip
    assert from_file == from_wire


def test_a_path_of_the_collector_is_kept_and_headers_are_sent(collector: Collector, trace: Trace) -> None:
    exporter = TraceExporter(f"{collector.url}/otlp/v1/traces", headers={"x-key": "k"})
    exporter.export([trace])
    assert collector.requests[0][0] == "/otlp/v1/traces"
    assert collector.requests[0][1]["x-key"] == "k"


def test_many_traces_go_in_requests_of_a_bearable_size(collector: Collector, trace: Trace) -> None:
    assert TraceExporter(collector.url).export([trace] * 45) == 45
    assert len(collector.requests) == 3 and len(collector.spans()) == 45 * 6


@pytest.mark.parametrize("reason", ["refused", "gone"])
def test_a_collector_that_does_not_take_them_is_told(collector: Collector, trace: Trace, reason: str) -> None:
    url = collector.url
    collector.status = 400
    if reason == "gone":
        url = "http://127.0.0.1:9"
    begun = time.monotonic()
    with pytest.raises(TelemetryError, match="did not take"):
        TraceExporter(url, timeout_s=1.0).export([trace])
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("endpoint", ["", "localhost:4318", "ftp://127.0.0.1:4318", "http://"])
def test_what_is_no_address_is_told(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="not the address"):
        TraceExporter(endpoint)


def test_sending_in_the_background_neither_waits_nor_loses(collector: Collector, trace: Trace) -> None:
    exporter = TraceExporter(collector.url)
    exporter.send(trace)
    exporter.close()
    exporter.close()
    assert len(collector.spans()) == 6


def test_sending_to_nobody_holds_nothing_up(trace: Trace) -> None:
    exporter = TraceExporter("http://127.0.0.1:9", timeout_s=0.5)
    begun = time.monotonic()
    for _ in range(50):
        exporter.send(trace)
    assert time.monotonic() - begun < 1.0
    exporter.close()


def test_opentelemetry_is_imported_only_when_something_is_sent() -> None:
    code = "import sys, localsmith.core.telemetry, localsmith.core.traces; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not [name for name in modules.split() if name.startswith("opentelemetry")]
