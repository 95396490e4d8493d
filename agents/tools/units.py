"""Units of measure as a tool: length, mass, volume, time, speed, area, data, energy, temperature.

Place in the data's way: small models get factors wrong and forget the offset of temperatures.

Example:
    >>> convert(100, "km/h", "mph")
    '62.1371192237 mph'
    >>> convert(37, "C", "F")
    '98.6 F'
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from ...core.errors import ToolArgumentError
from .tool import FunctionTool, Observation, ToolContext

# In the kind's first unit. Source: BIPM, The International System of Units (9th edition), and NIST SP 811,
# appendix B, for inch, pound and US gallon, which are exact by definition.
_KINDS: dict[str, dict[str, str]] = {
    "length": {
        "m": "1", "km": "1000", "cm": "0.01", "mm": "0.001", "um": "0.000001", "nm": "0.000000001",
        "in": "0.0254", "ft": "0.3048", "yd": "0.9144", "mi": "1609.344", "nmi": "1852",
    },
    "mass": {
        "kg": "1", "g": "0.001", "mg": "0.000001", "t": "1000", "lb": "0.45359237", "oz": "0.028349523125",
        "st": "6.35029318",
    },
    "volume": {
        "l": "1", "ml": "0.001", "cl": "0.01", "m3": "1000", "cm3": "0.001", "gal": "3.785411784",
        "qt": "0.946352946", "pt": "0.473176473", "cup": "0.2365882365", "floz": "0.0295735295625",
    },
    "time": {
        "s": "1", "ms": "0.001", "min": "60", "h": "3600", "d": "86400", "week": "604800",
    },
    "speed": {"m/s": "1", "km/h": "5/18", "mph": "0.44704", "kn": "463/900", "ft/s": "0.3048"},
    "area": {
        "m2": "1", "km2": "1000000", "cm2": "0.0001", "ha": "10000", "acre": "4046.8564224",
        "ft2": "0.09290304", "mi2": "2589988.110336",
    },
    "data": {
        "B": "1", "kB": "1000", "MB": "1000000", "GB": "1000000000", "TB": "1000000000000", "KiB": "1024",
        "MiB": "1048576", "GiB": "1073741824", "TiB": "1099511627776", "bit": "1/8",
    },
    "energy": {"J": "1", "kJ": "1000", "cal": "4.184", "kcal": "4184", "Wh": "3600", "kWh": "3600000"},
    "temperature": {"K": "1", "C": "1", "F": "5/9"},
}  # fmt: skip
_OFFSETS = {"K": Fraction(0), "C": Fraction("273.15"), "F": Fraction("459.67")}
_OTHER_NAMES = {
    "mile": "mi", "miles": "mi", "meter": "m", "metre": "m", "meters": "m", "metres": "m", "foot": "ft",
    "feet": "ft", "inch": "in", "inches": "in", "yard": "yd", "yards": "yd", "pound": "lb", "pounds": "lb",
    "lbs": "lb", "ounce": "oz", "ounces": "oz", "gram": "g", "grams": "g", "kilogram": "kg",
    "kilograms": "kg", "kilometer": "km", "kilometers": "km", "kilometre": "km", "kilometres": "km",
    "liter": "l", "litre": "l", "liters": "l", "litres": "l", "gallon": "gal", "gallons": "gal",
    "hour": "h", "hours": "h", "minute": "min", "minutes": "min", "second": "s", "seconds": "s", "day": "d",
    "days": "d", "weeks": "week", "celsius": "C", "fahrenheit": "F", "kelvin": "K", "°c": "C", "°f": "F",
    "kmh": "km/h", "kph": "km/h", "hectare": "ha", "hectares": "ha", "acres": "acre", "cups": "cup",
}  # fmt: skip
_MAX_VALUE = 1e15


def units() -> FunctionTool:
    """Return the tool."""

    def run(arguments: Mapping[str, Any], context: ToolContext) -> Observation:
        return Observation(convert(arguments["value"], str(arguments["from"]), str(arguments["to"])))

    unit = {"type": "string", "minLength": 1, "maxLength": 12}
    return FunctionTool(
        name="units",
        description="Convert a value between units, such as km to mi, kg to lb, C to F, GiB to MB.",
        parameters={
            "type": "object",
            "properties": {"value": {"type": "number"}, "from": unit, "to": unit},
            "required": ["value", "from", "to"],
        },
        function=run,
        timeout_s=5.0,
    )


def convert(value: float, source: str, target: str) -> str:
    """Return a value in another unit, to 12 significant digits.

    Args:
        value: How much.
        source: The unit it is in.
        target: The unit wanted.

    Raises:
        ToolArgumentError: A unit is not known, the two measure different things, or the value is too large.
    """
    if not abs(value) <= _MAX_VALUE:
        raise ToolArgumentError(f"The value must be at most {_MAX_VALUE:g}.")
    source, target = _unit(source), _unit(target)
    kind = _kind(source)
    if target not in _KINDS[kind]:
        raise ToolArgumentError(
            f"{source} measures {kind}, {target} {_kind(target)}: they can't be converted."
        )
    exact = Fraction(str(value))
    if kind == "temperature":
        exact += _OFFSETS[source]
    exact *= Fraction(_KINDS[kind][source]) / Fraction(_KINDS[kind][target])
    if kind == "temperature":
        exact -= _OFFSETS[target]
    return f"{float(exact):.12g} {target}"


def _unit(name: str) -> str:
    """Return the unit as it stands in the table: exact case first, for mb is no MB."""
    name = name.strip().replace("²", "2").replace("³", "3")
    known = [unit for units in _KINDS.values() for unit in units]
    if name in known:
        return name
    if name.lower() in _OTHER_NAMES:
        return _OTHER_NAMES[name.lower()]
    alike = [unit for unit in known if unit.lower() == name.lower()]
    if len(alike) == 1:
        return alike[0]
    raise ToolArgumentError(f"There is no unit {name!r}; there are {', '.join(known)}.")


def _kind(unit: str) -> str:
    return next(kind for kind, units in _KINDS.items() if unit in units)
