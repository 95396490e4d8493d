"""Numbers, states and errors in words for people.

Place in the data's way: the last step before a page shows something; nothing here knows Streamlit.

Example:
    >>> duration(3.2), duration(125), size(1_250_000)
    ('3.2 s', '2 min 5 s', '1.2 MB')
"""

from __future__ import annotations

import structlog

from ..core.errors import LocalsmithError
from ..core.types import Progress

log = structlog.get_logger(__name__)

UNEXPECTED = "Something went wrong."
UNEXPECTED_HINT = "The details are in the log file. Your conversations and documents are unharmed."

_STAGES = {
    "loading": "Waiting for the model",
    "rewriting": "Understanding the question",
    "searching": "Searching the documents",
    "reading": "Reading",
    "answering": "Answering",
    "checking": "Checking the citations",
    "planning": "Choosing how to answer",
    "thinking": "Thinking",
    "programming": "Writing a program",
    "running": "Running the program",
    "voting": "Counting the votes",
}


def duration(seconds: float) -> str:
    """Return a length of time, as exact as a person wants it."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def size(num_bytes: int) -> str:
    """Return a file size in decimal units."""
    value = float(num_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            digits = 0 if unit == "bytes" or value >= 100 else 1
            return f"{value:.{digits}f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def count(number: int, noun: str) -> str:
    """Return "1 page", "2 pages", "1,234 pages"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def stage(progress: Progress) -> str:
    """Return what a run is doing, with n of m and the time left where they are known."""
    words = _STAGES.get(progress.stage, progress.stage.capitalize())
    if progress.stage == "loading":
        words += f" {progress.done / progress.total:.0%}" if progress.done and progress.total else ""
    elif progress.done is not None and progress.total:
        unit = " tokens" if progress.stage == "reading" else ""
        words += f" {progress.done:,} of {progress.total:,}{unit}"
    if progress.detail:
        words += f" · {progress.detail}"
    if progress.eta_s is not None and progress.eta_s >= 1:
        words += f" · about {duration(round(progress.eta_s))} left"
    return words


def of_error(error: BaseException) -> tuple[str, str]:
    """Return message and hint for any error; what isn't ours goes to the log with its traceback."""
    if isinstance(error, LocalsmithError):
        return str(error), error.hint
    log.error("unexpected_error", exc_info=error)
    return UNEXPECTED, UNEXPECTED_HINT
