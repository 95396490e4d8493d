r"""What a run came to, in words a model can use: status, traceback with source lines, limits with numbers.

Place in the data's way: `wasm` and `bubblewrap` hand in how the program ended, `ProgramResult` comes out.

Example:
    >>> error_text('  File "<program>", line 1, in <module>\nZeroDivisionError: division by zero', "1/0")
    'Traceback (most recent call last):\n  line 1: 1/0\nZeroDivisionError: division by zero'
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...core.types import ProgramResult, ProgramStatus

PROGRAM_NAME = "<program>"
MAX_PROGRAM_CHARS = 1_000_000
_MAX_ERROR_CHARS = 1500
_MAX_FRAMES = 4
_FRAME = re.compile(r'^  File "(?P<file>[^"\n]*)", line (?P<line>\d+)')
_SYNTAX_LINE = re.compile(r"\(<program>, line (?P<line>\d+)\)$")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may take.

    Attributes:
        timeout_s: Wall time.
        memory_bytes: Memory.
        output_chars: Characters of standard output that are kept.
    """

    timeout_s: float
    memory_bytes: int
    output_chars: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How a program ended, as the sandbox saw it.

    Attributes:
        exit_status: What it exited with; None where something stopped it.
        stdout: Standard output, perhaps cut.
        stderr: The end of standard error.
        stopped_by: The limit that stopped it, or "crashed"; None where it ended by itself.
        detail: More on a crash, for the model.
        duration_s: Wall time of the run.
    """

    exit_status: int | None
    stdout: str = ""
    stderr: str = ""
    stopped_by: ProgramStatus | None = None
    detail: str = ""
    duration_s: float = 0.0


def result(ending: Ending, program: str, limits: Limits) -> ProgramResult:
    """Turn how a program ended into what a strategy reads.

    Args:
        ending: How it ended.
        program: Its source, for the traceback's lines.
        limits: What it was allowed.
    """
    stdout = ending.stdout[: limits.output_chars]
    status, error = _judge(ending, program, limits)
    if status in ("ok", "timeout") and len(ending.stdout) > limits.output_chars:
        status = "output"
        error = f"OutputLimit: it printed more than {limits.output_chars} characters. {error}".rstrip()
    return ProgramResult(status, stdout, error, ending.duration_s)


def too_long(program: str) -> ProgramResult | None:
    """Refuse a program that no model writes on purpose; None for any other."""
    if len(program) <= MAX_PROGRAM_CHARS:
        return None
    return ProgramResult("error", error=f"The program is longer than {MAX_PROGRAM_CHARS} characters.")


def error_text(stderr: str, program: str) -> str:
    """Shorten a traceback to the program's own frames, each with its source line.

    Args:
        stderr: What the program wrote to standard error; the traceback is its end.
        program: Its source.
    """
    lines = stderr.rstrip().splitlines()
    last_frame = max((i for i, line in enumerate(lines) if _FRAME.match(line)), default=None)
    if last_frame is None:
        return "\n".join(lines)[-_MAX_ERROR_CHARS:]
    tail = [line for line in lines[last_frame + 1 :] if not line.startswith("  ")]
    message = "\n".join(tail) or "The program failed."
    shown = [_shown(int(line), program) for file, line in _frames(lines) if file == PROGRAM_NAME]
    if not shown and (syntax := _SYNTAX_LINE.search(message)):
        shown = [_shown(int(syntax["line"]), program)]
    left_out = ["  ..."] if len(shown) > _MAX_FRAMES else []
    head = ["Traceback (most recent call last):", *left_out, *shown[-_MAX_FRAMES:]]
    return "\n".join([*head, message[:_MAX_ERROR_CHARS]])


def _frames(lines: list[str]) -> list[tuple[str, int]]:
    """Return file and line of the last traceback's frames; one with line 0 is no place."""
    start = max((i for i, line in enumerate(lines) if line.startswith("Traceback (most")), default=0)
    found = [match for line in lines[start:] if (match := _FRAME.match(line))]
    return [(match["file"], int(match["line"])) for match in found if match["line"] != "0"]


def _shown(line: int, program: str) -> str:
    lines = program.splitlines()
    source = lines[line - 1].strip() if 0 < line <= len(lines) else ""
    return f"  line {line}: {source[:200]}".rstrip()


def _judge(ending: Ending, program: str, limits: Limits) -> tuple[ProgramStatus, str]:
    if ending.stopped_by == "timeout":
        return "timeout", f"TimeoutError: the program did not end within {limits.timeout_s:g} s."
    if ending.stopped_by == "memory" or _is_out_of_memory(ending):
        return "memory", f"MemoryError: it needed more than {limits.memory_bytes / 2**20:.0f} MiB."
    if ending.stopped_by == "output":
        return "output", f"OutputLimit: it printed more than {limits.output_chars} characters."
    if ending.stopped_by is not None:
        return ending.stopped_by, ending.detail or "The program crashed the interpreter."
    if ending.exit_status == 0:
        return "ok", ""
    text = error_text(ending.stderr, program)
    return "error", text or f"The program ended with exit status {ending.exit_status}."


def _is_out_of_memory(ending: Ending) -> bool:
    """Whether the last words are a MemoryError, or what Python says when not even that can be printed."""
    if not ending.exit_status:
        return False
    lines = ending.stderr.rstrip().splitlines()[-7:]
    last = lines[-1] if lines else ""
    return last.startswith(("MemoryError", "numpy._core._exceptions._ArrayMemoryError")) or (
        last == "lost sys.stderr" and any("MemoryError" in line for line in lines)
    )
