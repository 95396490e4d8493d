from __future__ import annotations

import datetime as dt

import pytest
from localsmith.agents.tools.dates import dates, reckon
from localsmith.agents.tools.tool import ToolContext
from localsmith.agents.tools.units import convert, units
from localsmith.core.errors import ToolArgumentError
from localsmith.core.types import Question

CONTEXT = ToolContext(Question("?"))


@pytest.mark.parametrize(
    ("operation", "date", "other", "n", "told"),
    [
        ("between", "2024-02-01", "2024-03-01", None, "29 days"),
        ("between", "2024-03-02", "2024-03-01", None, "-1 day"),
        ("weekday", "1969-07-20", None, None, "1969-07-20, Sunday"),
        ("add_days", "2023-12-31", None, 1, "2024-01-01, Monday"),
        ("add_months", "2024-01-31", None, 1, "2024-02-29, Thursday"),
        ("add_months", "2024-03-31", None, -4, "2023-11-30, Thursday"),
        ("add_years", "2024-02-29", None, 1, "2025-02-28, Friday"),
    ],
)
def test_the_calendar_is_reckoned_with(
    operation: str, date: str, other: str | None, n: int | None, told: str
) -> None:
    assert reckon(operation, date, other, n) == told


def test_today_is_what_the_clock_says() -> None:
    tool = dates(lambda: dt.date(2026, 3, 1))
    assert tool.run({"operation": "today"}, CONTEXT).text == "2026-03-01, Sunday"


@pytest.mark.parametrize(
    ("operation", "date", "other", "n"),
    [
        ("between", "2024-02-30", "2024-03-01", None),
        ("between", "2024-02-01", None, None),
        ("add_days", "2024-02-01", None, None),
        ("add_years", "2024-02-01", None, 9000),
        ("weekday", "1.2.2024", None, None),
        ("weekday", None, None, None),
    ],
)
def test_what_is_no_date_is_said_so(
    operation: str, date: str | None, other: str | None, n: int | None
) -> None:
    with pytest.raises(ToolArgumentError):
        reckon(operation, date, other, n)


@pytest.mark.parametrize(
    ("value", "source", "target", "told"),
    [
        (37, "C", "F", "98.6 F"),
        (-40, "°F", "celsius", "-40 C"),
        (1, "mile", "km", "1.609344 km"),
        (36, "km/h", "m/s", "10 m/s"),
        (5, "GiB", "MB", "5368.7091200 MB".replace("00 ", " ")),
        (1, "gallon", "l", "3.785411784 l"),
        (2, "kWh", "kJ", "7200 kJ"),
    ],
)
def test_units_are_converted_by_their_exact_factors(
    value: float, source: str, target: str, told: str
) -> None:
    assert convert(value, source, target) == told


@pytest.mark.parametrize(("source", "target"), [("km", "kg"), ("parsec", "m"), ("m", "")])
def test_units_that_do_not_fit_are_said_so(source: str, target: str) -> None:
    with pytest.raises(ToolArgumentError):
        convert(1, source, target)


def test_the_units_tool_names_its_result() -> None:
    assert units().run({"value": 2, "from": "kg", "to": "g"}, CONTEXT).text == "2000 g"
