"""Loops in a ReAct run: the same call with the same result, told at the second time, ended at the third.

Place in the data's way: `ReactStrategy` asks after every observation; small models go round in circles more
often than they run out of steps.

Example:
    >>> call = Call("calculator", '{"expression": "1/0"}')
    >>> times_seen([Exchange("", "…", call, "division by zero")], call, "division by zero")
    2
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from .actions import Call
from .trajectory import Exchange

TOLD_AT, ENDED_AT = 2, 3
NOTE = "You have made this very call before, with the same result. Do something else, or answer."


def times_seen(exchanges: Iterable[Exchange], call: Call, outcome: str) -> int:
    """Return how often this call has had this outcome, this time included.

    Calls in between don't matter, so that a circle of two or three calls is found as well; neither do the
    order of the arguments and white space in texts.
    """
    return 1 + sum(
        exchange.call is not None
        and bool(exchange.heard)
        and exchange.outcome == outcome
        and is_same(exchange.call, call)
        for exchange in exchanges
    )


def is_same(one: Call, other: Call) -> bool:
    """Tell whether two calls ask for the same."""
    return _key(one) == _key(other)


def _key(call: Call) -> tuple[str, str]:
    values = {
        name: " ".join(value.split()) if isinstance(value, str) else value
        for name, value in call.values.items()
    }
    return call.tool, json.dumps(values, sort_keys=True)
