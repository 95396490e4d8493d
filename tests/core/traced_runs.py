"""Runs for the tests of traces: one with everything in it, and many small ones."""

from __future__ import annotations

from localsmith.core.types import (
    Answer,
    Box,
    BudgetPart,
    BudgetReport,
    Chunk,
    Citation,
    Passage,
    Step,
    Usage,
)


def full_answer(text: str = "A trace tree holds traces [1].", trace_id: str = "a" * 32) -> Answer:
    """Return an answer whose steps are a tree, one of them failed."""
    chunk = Chunk("c", "d", 0, "Trace trees.", 3, 15, 2, ("Intro",), 4, (Box(2, 0.1, 0.2, 0.3, 0.4),))
    passage = Passage(chunk, "tracemonkey.pdf", 1, 0.5, 1, None, 0.8)
    part = BudgetPart("passages", 700, 3, 2, 400, "time")
    first = Usage(100, 20, 30, 0.1, 0.2, 0.3)
    second = Usage(200, 150, 40, 0.2, 0.4, 0.6)
    inner = (
        Step("sample", "Sample 1", 0.8, first, 0.2, "user: solve it", "x = 1"),
        Step("program", "NameError", 0.1, None, 1.0, "print(x)", "NameError: x", is_error=True),
    )
    steps = (
        Step("search", "3 passages from 1 document", 0.1, None, 0.0),
        Step("plan", "Two ways tried", 1.0, None, 0.1, steps=inner),
        Step("generate", "Ended by stop", 1.2, second, 1.1, "system: s\n\nuser: What?", text),
    )
    return Answer(
        text,
        "answered",
        (Citation(1, passage, text, "Trace trees.", 0.9, True),),
        (passage,),
        steps,
        first + second,
        BudgetReport(8192, 900, "time", 800, 400, (part,)),
        "smollm2",
        trace_id,
        2.5,
    )


def small_answer(number: int, text: str = "") -> Answer:
    """Return a short answer of its own."""
    step = Step("generate", "Ended by stop", 0.5, Usage(50 + number, 10, 20, 0.1, 0.2, 0.3), 0.0, "p", "o")
    return Answer(
        text or f"Answer {number}.", "answered", steps=(step,), usage=step.usage or Usage(), model="smollm2",
        trace_id=f"{number:032x}", duration_s=0.5,
    )  # fmt: skip
