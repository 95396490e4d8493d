"""A trace as OpenTelemetry spans, by the names that its conventions for generative AI give.

Place in the data's way: `Trace` -> `spans_of` -> `telemetry.py`, which sends them, or `otlp_json`, a line for
a file that a collector reads. Identifiers follow from the trace and the step's place in it: whoever sends a
trace twice has it once. Texts stay out unless asked for.

Source: OpenTelemetry semantic conventions for generative AI, spans and agent spans, in the form of v1.41
(https://github.com/open-telemetry/semantic-conventions/blob/v1.41.0/docs/gen-ai/gen-ai-spans.md and
gen-ai-agent-spans.md, status: development); OTLP's JSON encoding, OpenTelemetry protocol 1.5, section
"JSON Protobuf Encoding", and one request a line as in its "File Exporter" page. What the conventions have no
name for is called `localsmith.*`.

Example:
    >>> from localsmith.core.types import Question
    >>> answer = Answer("A tree.", "answered", steps=(Step("search", "5 passages", 0.1),), duration_s=0.2)
    >>> info = TraceInfo("0" * 31 + "1", "rag", "answered", "What?", "m", 0.0, 0.2, 0, 0, 0, 1)
    >>> [span.name for span in spans_of(Trace(info, Question("What?", collection="papers"), answer))]
    ['invoke_agent rag', 'retrieval papers']
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from .trace_rows import Trace, TraceInfo
from .types import Answer, Question, Step, StepKind, Usage

__all__ = ["SCOPE", "SERVICE", "Span", "Trace", "TraceInfo", "otlp_json", "spans_of"]

SERVICE = "localsmith"
SCOPE = "localsmith.traces"
NS_PER_S = 1_000_000_000
_HEX_ID = re.compile(r"[0-9a-f]{32}")
_TOOL = re.compile(r"([A-Za-z_][\w.-]{0,63}): ")
_NO_ID = "0" * 32

# What the conventions call the kinds that they know.
_OPERATIONS: dict[StepKind, str] = {
    "rewrite": "chat",
    "generate": "chat",
    "sample": "chat",
    "search": "retrieval",
    "program": "execute_tool",
    "tool": "execute_tool",
}
# OTLP's `SpanKind` and `StatusCode`: everything happens inside this process.
_INTERNAL = 1
_STATUS_ERROR = 2

Value: TypeAlias = str | int | float | bool | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """One span, of a run or of a step.

    Attributes:
        name: Operation and what it is done with.
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        parent_id: The span around it; "" for the run's own.
        begun_ns: Nanoseconds since the epoch, UTC.
        ended_ns: The same, at its end.
        attributes: By the conventions' names.
        error: What went wrong, in a word or, where texts are sent, as it was said; "" where nothing did.
    """

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    begun_ns: int
    ended_ns: int
    attributes: dict[str, Value] = field(default_factory=dict)
    error: str = ""


def spans_of(trace: Trace, *, with_texts: bool = False) -> list[Span]:
    """Return the run and its steps as spans, each before those within it.

    Args:
        trace: The run.
        with_texts: Whether questions, prompts, outputs, errors and answers go along.
    """
    return list(_Tree(trace, with_texts).spans())


class _Tree:
    """One trace on its way to spans."""

    def __init__(self, trace: Trace, with_texts: bool) -> None:
        self._trace = trace
        self._with_texts = with_texts
        known = trace.info.id
        is_usable = _HEX_ID.fullmatch(known) is not None and known != _NO_ID
        self._trace_id = (
            known if is_usable else hashlib.sha256(known.encode("utf-8", "replace")).hexdigest()[:32]
        )
        self._begun_ns = round(trace.info.begun_at * NS_PER_S)

    def spans(self) -> Iterator[Span]:
        info, answer = self._trace.info, self._trace.answer
        attributes: dict[str, Value] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": info.strategy,
            **self._common(answer.usage),
            "gen_ai.response.finish_reasons": (info.status,),
            "localsmith.trace_id": info.id,
            **_window(answer),
        }
        if info.error_type:
            attributes["error.type"] = info.error_type
        if self._with_texts:
            attributes |= {
                "gen_ai.input.messages": _asked(self._trace.question),
                "gen_ai.output.messages": _said("assistant", answer.text),
            }
        error = (info.error if self._with_texts else "") or info.error_type
        yield self._span(f"invoke_agent {info.strategy}", "", "", 0.0, info.duration_s, attributes, error)
        yield from self._steps(answer.steps, "", self._span_id(""))

    def _steps(self, steps: Iterable[Step], place: str, parent_id: str) -> Iterator[Span]:
        for position, step in enumerate(steps):
            here = f"{place}/{position}"
            name, attributes = self._described(step)
            error = (step.output if self._with_texts else "") or "step failed" if step.is_error else ""
            yield self._span(name, here, parent_id, step.begun_s, step.duration_s, attributes, error)
            yield from self._steps(step.steps, here, self._span_id(here))

    def _described(self, step: Step) -> tuple[str, dict[str, Value]]:
        operation = _OPERATIONS.get(step.kind, "chat" if step.usage is not None else "")
        attributes: dict[str, Value] = {"localsmith.step.kind": step.kind}
        if step.usage is not None:
            attributes |= self._common(step.usage)
        if step.is_error:
            attributes["error.type"] = "_OTHER"  # the conventions' word for one without a name
        if self._with_texts:
            attributes |= _texts(step, operation)
        if not operation:
            return step.kind, attributes
        attributes["gen_ai.operation.name"] = operation
        subject = self._trace.answer.model
        if operation == "retrieval":
            subject = self._trace.question.collection or ""
            attributes |= {"gen_ai.data_source.id": subject} if subject else {}
        elif operation == "execute_tool":
            subject = "python" if step.kind == "program" else _tool_of(step)
            attributes |= {"gen_ai.tool.name": subject} if subject else {}
            attributes["gen_ai.tool.type"] = "function"
        return f"{operation} {subject}".rstrip(), attributes

    def _common(self, usage: Usage) -> dict[str, Value]:
        model = self._trace.answer.model
        found: dict[str, Value] = {
            "gen_ai.provider.name": SERVICE,
            "gen_ai.usage.input_tokens": usage.prompt_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
            "gen_ai.usage.output_tokens": usage.completion_tokens,
            "localsmith.prefill_s": usage.prefill_s,
            "localsmith.decode_s": usage.decode_s,
        }
        if model:
            found["gen_ai.request.model"] = model
        if usage.time_to_first_token_s:
            found["gen_ai.response.time_to_first_chunk"] = usage.time_to_first_token_s
        return found

    def _span(
        self,
        name: str,
        place: str,
        parent_id: str,
        begun_s: float,
        duration_s: float,
        attributes: dict[str, Value],
        error: str,
    ) -> Span:
        begun_ns = self._begun_ns + round(begun_s * NS_PER_S)
        ended_ns = begun_ns + round(duration_s * NS_PER_S)
        return Span(
            name, self._trace_id, self._span_id(place), parent_id, begun_ns, ended_ns, attributes, error
        )

    def _span_id(self, place: str) -> str:
        return hashlib.sha256(f"{self._trace_id}{place}".encode()).hexdigest()[:16]


def _tool_of(step: Step) -> str:
    """Return the tool's name, with which the summary of a call begins; "" where it does not."""
    named = _TOOL.match(step.summary)
    return named.group(1) if named else ""


def _window(answer: Answer) -> dict[str, Value]:
    report = answer.budget
    if report is None:
        return {}
    parts: dict[str, Value] = {
        f"localsmith.window.{part.name}_tokens": part.used_tokens for part in report.parts
    }
    return {
        "localsmith.window.n_ctx": report.n_ctx,
        "localsmith.window.prompt_tokens": report.prompt_tokens,
        "localsmith.window.limited_by": report.limited_by,
        **parts,
    }


def _texts(step: Step, operation: str) -> dict[str, Value]:
    found: dict[str, Value] = {"localsmith.step.summary": step.summary}
    names = ("gen_ai.tool.call.arguments", "gen_ai.tool.call.result")
    if operation == "execute_tool":
        return found | {
            name: text for name, text in zip(names, (step.prompt, step.output), strict=True) if text
        }
    if step.prompt:
        found["gen_ai.input.messages"] = _said("user", step.prompt)
    if step.output:
        found["gen_ai.output.messages"] = _said("assistant", step.output)
    return found


def _asked(question: Question) -> str:
    turns = [(message.role, message.content) for message in question.history]
    return _messages([*turns, ("user", question.text)])


def _said(role: str, text: str) -> str:
    return _messages([(role, text)])


def _messages(turns: Iterable[tuple[str, str]]) -> str:
    """Return messages in the conventions' form, as JSON."""
    return json.dumps(
        [{"role": role, "parts": [{"type": "text", "content": text}]} for role, text in turns],
        ensure_ascii=False,
    )


def otlp_json(trace: Trace, *, with_texts: bool = False) -> str:
    """Return a trace as one line of OTLP's JSON; see `spans_of` for the arguments."""
    spans = [_json_span(span) for span in spans_of(trace, with_texts=with_texts)]
    resource = {"attributes": _json_attributes({"service.name": SERVICE})}
    scopes = [{"scope": {"name": SCOPE}, "spans": spans}]
    line = json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": scopes}]}, ensure_ascii=False)
    return line.encode("utf-8", "replace").decode("utf-8")


def _json_span(span: Span) -> dict[str, object]:
    found: dict[str, object] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": _INTERNAL,
        "startTimeUnixNano": str(span.begun_ns),
        "endTimeUnixNano": str(span.ended_ns),
        "attributes": _json_attributes(span.attributes),
        "status": {"code": _STATUS_ERROR, "message": span.error} if span.error else {},
    }
    return found | ({"parentSpanId": span.parent_id} if span.parent_id else {})


def _json_attributes(attributes: dict[str, Value]) -> list[dict[str, object]]:
    return [{"key": key, "value": _json_value(value)} for key, value in attributes.items()]


def _json_value(value: Value) -> dict[str, object]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, tuple):
        return {"arrayValue": {"values": [_json_value(item) for item in value]}}
    return {"stringValue": value}
