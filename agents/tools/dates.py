"""Dates as a tool: what day it is, the days between two dates, a date so much later, a weekday.

Place in the data's way: models know calendars badly and today's date not at all; the standard library does
both.

Example:
    >>> reckon("between", "2024-02-01", "2024-03-01", None)
    '29 days'
"""

from __future__ import annotations

import calendar
import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

from ...core.errors import ToolArgumentError
from .tool import FunctionTool, Observation, ToolContext

_OPERATIONS = ("today", "weekday", "between", "add_days", "add_months", "add_years")
_DATE = {"type": "string", "maxLength": 10, "description": "YYYY-MM-DD"}
_MOST = 1_000_000


def dates(today: Callable[[], dt.date] = dt.date.today) -> FunctionTool:
    """Return the tool.

    Args:
        today: Tells the date; the machine's own by default.
    """

    def run(arguments: Mapping[str, Any], context: ToolContext) -> Observation:
        if arguments["operation"] == "today":
            return Observation(_named(today()))
        text = reckon(
            str(arguments["operation"]),
            arguments.get("date"),
            arguments.get("other_date"),
            arguments.get("n"),
        )
        return Observation(text)

    return FunctionTool(
        name="dates",
        description="Tell today's date, the weekday of a date, the days between two, or a date n days, "
        "months or years later (n may be negative).",
        parameters={
            "type": "object",
            "properties": {
                "operation": {"enum": list(_OPERATIONS)},
                "date": _DATE,
                "other_date": _DATE,
                "n": {"type": "integer", "minimum": -_MOST, "maximum": _MOST},
            },
            "required": ["operation"],
            "additionalProperties": False,
        },
        function=run,
        timeout_s=5.0,
    )


def reckon(operation: str, date: str | None, other_date: str | None, n: int | None) -> str:
    """Return what an operation gives, in words.

    Args:
        operation: "weekday", "between", "add_days", "add_months" or "add_years".
        date: The date, ISO 8601.
        other_date: The second date, for "between".
        n: How many, for the others.

    Raises:
        ToolArgumentError: A date or a number is missing, malformed or out of the calendar's range.
    """
    start = _read(date, "date")
    if operation == "weekday":
        return _named(start)
    if operation == "between":
        days = (_read(other_date, "other_date") - start).days
        return f"{days} day{'' if abs(days) == 1 else 's'}"
    if n is None:
        raise ToolArgumentError(f"{operation} needs n.")
    try:
        if operation == "add_days":
            return _named(start + dt.timedelta(days=n))
        return _named(_months_later(start, n if operation == "add_months" else 12 * n))
    except (OverflowError, ValueError) as exc:
        raise ToolArgumentError("The date lies outside of the years 1 to 9999.") from exc


def _months_later(date: dt.date, n: int) -> dt.date:
    """Return the same day n months later; the last of the month where it has no such day."""
    year, month = divmod(12 * date.year + date.month - 1 + n, 12)
    if not dt.MINYEAR <= year <= dt.MAXYEAR:
        raise ValueError(year)
    return dt.date(year, month + 1, min(date.day, calendar.monthrange(year, month + 1)[1]))


def _read(text: str | None, name: str) -> dt.date:
    if text is None:
        raise ToolArgumentError(f"{name} is missing.")
    try:
        return dt.date.fromisoformat(text.strip())
    except ValueError as exc:
        raise ToolArgumentError(f"{name} must be a date as YYYY-MM-DD, not {text!r}.") from exc


def _named(date: dt.date) -> str:
    return f"{date.isoformat()}, {calendar.day_name[date.weekday()]}"
