"""The methods by name, and their settings from words.

Place in the data's way: `localsmith train sft --method lora --set rank=8` -> `method_of` -> a `Method`.

Example:
    >>> method_of("lora", {"rank": "8"}).rank
    8
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from typing import Any

from ...core.errors import TrainingError
from .bottleneck import BottleneckAdapters
from .full import FullFineTuning
from .ia3 import Ia3
from .lora import Lora
from .method import Method
from .prompts import PrefixTuning, PromptTuning
from .qlora import QLora
from .selective import SelectiveFineTuning

METHODS: Mapping[str, type[Any]] = {
    method.name: method
    for method in (
        Lora,
        QLora,
        FullFineTuning,
        SelectiveFineTuning,
        BottleneckAdapters,
        Ia3,
        PromptTuning,
        PrefixTuning,
    )
}


def method_of(name: str, options: Mapping[str, Any] | None = None) -> Method:
    """Return the method of this name with these settings.

    Args:
        name: A name of `METHODS`.
        options: Its settings by name, as values or as people type them; None for the defaults.

    Raises:
        TrainingError: There is no such method or setting, or a value is out of range.
    """
    if name not in METHODS:
        raise TrainingError(f"There is no method {name!r}.", hint=f"Methods are {', '.join(METHODS)}.")
    kind = METHODS[name]
    known = {field.name for field in dataclasses.fields(kind)}
    types = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in (options or {}).items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            others = f"Its settings are {', '.join(sorted(known)) or 'none'}."
            raise TrainingError(
                f"The method {name} has no setting {key!r}.", f"Did you mean {near[0]}?" if near else others
            )
        values[key] = _value(name, key, value, types[key])
    try:
        return typing.cast(Method, kind(**values))
    except ValueError as exc:
        raise TrainingError(f"The method {name} can't be used so: {exc}") from exc


def options_of(method: Method) -> dict[str, Any]:
    """Return a method's settings as JSON values; `method_of` takes them back."""
    values = dataclasses.asdict(typing.cast(Any, method))
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _value(method: str, key: str, value: Any, kind: Any) -> Any:
    """Return a setting's value in its own type."""
    try:
        if typing.get_origin(kind) is tuple:
            parts = value.split(",") if isinstance(value, str) else value
            return tuple(str(part).strip() for part in parts if str(part).strip())
        if typing.get_origin(kind) is typing.Literal:
            if value not in typing.get_args(kind):
                raise ValueError(f"it must be one of {', '.join(typing.get_args(kind))}")
            return value
        return kind(value)
    except (TypeError, ValueError) as exc:
        raise TrainingError(f"{key}={value} of the method {method} makes no sense: {exc}.") from exc
