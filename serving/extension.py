"""What a strategy's answer carries beside its text, in the field `localsmith` of a response.

Place in the data's way: `StrategyRun` ends with an `Answer` -> here -> the last piece of a stream, or the
response's JSON; `ChatForm` tells single steps while they end.

Example:
    body["localsmith"] = extension_of_answer(answer)
"""

from __future__ import annotations

from typing import Any

from ..core.types import Answer, ApprovalNeeded, Citation, Step

# What a program or a call was given and what came back is told; prompts and completions are in the trace.
_TELLING = frozenset({"program", "tool", "plan", "vote"})
MAX_OUTPUT_CHARS = 8000


def extension_of_answer(answer: Answer, approval: ApprovalNeeded | None = None) -> dict[str, Any]:
    """Return the extension of a finished run.

    Args:
        answer: What it came to.
        approval: The call that waits for a person; None where none does.
    """
    told: dict[str, Any] = {
        "stop_reason": answer.stop_reason,
        "citations": [_citation(citation) for citation in answer.citations],
        "steps": [step_told(step) for step in answer.steps],
        "model": answer.model,
        "trace_id": answer.trace_id,
        "duration_s": round(answer.duration_s, 3),
    }
    if approval is not None:
        told["approval"] = {
            "run_id": approval.run_id,
            "tool": approval.tool,
            "arguments": approval.arguments,
            "reason": approval.reason,
            "call": approval.call,
        }
    return told


def step_told(step: Step) -> dict[str, Any]:
    """Return a step with those within it."""
    told: dict[str, Any] = {
        "kind": step.kind,
        "summary": step.summary,
        "duration_s": round(step.duration_s, 3),
    }
    if step.kind in _TELLING and (step.prompt or step.output):
        told |= {"input": step.prompt[:MAX_OUTPUT_CHARS], "output": step.output[:MAX_OUTPUT_CHARS]}
    if step.is_error:
        told["is_error"] = True
    if step.steps:
        told["steps"] = [step_told(inner) for inner in step.steps]
    return told


def _citation(citation: Citation) -> dict[str, Any]:
    chunk = citation.passage.chunk
    return {
        "number": citation.number,
        "document": citation.passage.document_name,
        "document_id": chunk.document_id,
        "page": chunk.page,
        "quote": citation.quote,
        "start_char": citation.start_char,
        "end_char": citation.end_char,
        "claim": citation.claim,
        "support": round(citation.support, 3),
        "is_supported": citation.is_supported,
    }
