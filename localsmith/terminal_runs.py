"""A question asked in the terminal, from its first event to its last, and the calls that wait for a person.

Place in the data's way: `localsmith ask`, `chat` and `runs resume` -> here -> the front door's events, shown
by `terminal.py`. Where somebody sits at the terminal, they are asked about a call that needs approval; else
it waits.

Example:
    answer = show_question(ls, Question("Delete the old reports."), "react")
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from .terminal import console, printable, show_run

if TYPE_CHECKING:
    from .agents.acting.approval import Approval
    from .core.types import Answer, ApprovalNeeded, Question
    from .front_door import Localsmith

_CHOICES = "[y] make the call   [e] edit its arguments   [n] go on without it   [Enter] decide later"


def show_question(ls: Localsmith, question: Question, strategy: str | None) -> Answer:
    """Ask, show the run, and let the person decide on the calls that wait for them.

    Args:
        ls: The front door.
        question: The question.
        strategy: How it is answered; None for the setting.

    Returns:
        The last answer; one with stop reason "needs_approval" where a call still waits.
    """
    waiting: list[ApprovalNeeded] = []
    answer = show_run(lambda cancel: ls.events(question, strategy=strategy, cancel=cancel), waiting.append)
    return _go_on(ls, answer, waiting)


def show_resumed(ls: Localsmith, run_id: str, approval: Approval | None) -> Answer:
    """Go on with an unfinished run and show it.

    Args:
        ls: The front door.
        run_id: The run.
        approval: What the person decided on the call that waits; None to go on where nothing waits.
    """
    waiting: list[ApprovalNeeded] = []
    answer = show_run(lambda cancel: ls.resume(run_id, approval, cancel=cancel), waiting.append)
    return _go_on(ls, answer, waiting)


def show_waiting(ls: Localsmith, needed: ApprovalNeeded) -> Answer:
    """Ask about a call that waits and go on; stop reason "needs_approval" where it still waits then."""
    from .core.types import Answer

    return _go_on(ls, Answer("", "needs_approval", trace_id=needed.run_id), [needed])


def _go_on(ls: Localsmith, answer: Answer, waiting: list[ApprovalNeeded]) -> Answer:
    while waiting:
        needed = waiting.pop()
        _show_needed(needed)
        approval = _decide(needed) if sys.stdin.isatty() else None
        if approval is None:
            console.print(f"It waits: localsmith runs resume {needed.run_id}", markup=False, soft_wrap=True)
            return answer
        answer = show_run(
            lambda cancel, run_id=needed.run_id, said=approval: ls.resume(run_id, said, cancel=cancel),  # type: ignore[misc]
            waiting.append,
        )
    return answer


def _show_needed(needed: ApprovalNeeded) -> None:
    console.print(f"The model wants to call {printable(needed.tool)}.", style="bold yellow", markup=False)
    if needed.reason:
        console.print(printable(needed.reason), markup=False)
    console.print(f"    {printable(needed.arguments)}", markup=False, soft_wrap=True)


def _decide(needed: ApprovalNeeded) -> Approval | None:
    """Ask the person; None where they put it off."""
    from .agents.acting.approval import Approval

    console.print(_CHOICES, markup=False)
    while True:
        try:
            word = console.input("? ").strip().lower()
        except (EOFError, KeyboardInterrupt):
            return None
        if word in ("", "y", "yes", "n", "no"):
            break
        if word in ("e", "edit") and (arguments := _edited()) is not None:
            return Approval("approve", arguments=arguments, call=needed.call)
    if not word:
        return None
    return Approval("approve" if word[0] == "y" else "refuse", call=needed.call)


def _edited() -> str | None:
    """Ask for other arguments; None where what was typed is no JSON object."""
    try:
        text = console.input("Arguments as JSON: ").strip()
        if isinstance(json.loads(text), dict):
            return text
    except (EOFError, KeyboardInterrupt, ValueError):
        pass
    console.print("That is no JSON object.", style="yellow")
    return None
