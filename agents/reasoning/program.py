r"""A program in a model's reply, and what its run gives as the answer.

Place in the data's way: `pal.py` has a reply -> `program_in` cuts the program out -> `runnable` makes it tell
its result -> the sandbox runs it -> `outcome` is the answer, or the error in words for the model.

Example:
    >>> program = program_in("```python\ndef solution():\n    return 6 * 7\n```")
    >>> outcome(sandbox.run(runnable(program))).answer
    '42'
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...core.types import ProgramResult
from .extraction import number_of

FUNCTION = "solution"
# A float's last digits are noise of its binary form; two programs that agree up to here agree.
NUM_DECIMALS = 6
# What is longer is no answer to show; and no error message that a small model makes use of.
MAX_RESULT_CHARS = 1000
MAX_ERROR_CHARS = 600

_MARK = "<<the result>>"
_FENCE = re.compile(r"^[ \t]*```[ \t]*(?:python3?|py)?[ \t]*$", re.IGNORECASE | re.MULTILINE)
_BEGINNING = re.compile(r"^(?:def |import |from |@|#)", re.MULTILINE)
_PLAIN_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?", re.IGNORECASE)
_NOTHING = {"None", "nan", "inf", "-inf", ""}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a program: an answer or an error, the other being ""."""

    answer: str = ""
    error: str = ""


def program_in(reply: str) -> str | None:
    """Return the program in a reply: the first fenced block with the function, or what looks like code.

    Returns:
        The program, or None where the reply has no function `solution`.
    """
    parts = _FENCE.split(reply)
    blocks = [*parts[1::2], *parts[0::2]] if len(parts) > 1 else parts
    for block in blocks:
        if re.search(rf"^[ \t]*def\s+{FUNCTION}\s*\(", block, re.MULTILINE):
            beginning = _BEGINNING.search(block)
            return block[beginning.start() if beginning else 0 :].strip("\n")
    return None


def runnable(program: str) -> str:
    """Return the program with the lines that tell its result."""
    return f'{program}\n\n\nprint("\\n{_MARK}", {FUNCTION}(), sep="\\n")\n'


def outcome(result: ProgramResult) -> Outcome:
    """Return the answer that a run has printed, or why there is none, in words for the model."""
    if result.status != "ok":
        said = result.error.strip()[-MAX_ERROR_CHARS:]
        return Outcome(error=said or f"It was stopped: {result.status}.")
    _, mark, printed = result.stdout.rpartition(_MARK)
    answer = printed.strip()
    if not mark or answer in _NOTHING:
        return Outcome(error=f"{FUNCTION}() returned {answer or 'nothing'}; it has to return the answer.")
    if len(answer) > MAX_RESULT_CHARS:
        return Outcome(error=f"{FUNCTION}() returned {len(answer)} characters; it has to return the answer.")
    if _PLAIN_NUMBER.fullmatch(answer):
        return Outcome(number_of(answer, NUM_DECIMALS) or answer)
    return Outcome(answer)
