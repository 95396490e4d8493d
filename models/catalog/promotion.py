"""Put a model in use, and go back: the one in use before is remembered, and a worse one is refused.

Place in the data's way: a run ends -> `register_trained` -> `promote` -> what runs notices within a second
(`localsmith/promotion_watch.py`) and answers with it -> `rollback`, step by step, where it disappoints.

Example:
    >>> promote(settings, "handbook-lora"); rollback(settings)  # doctest: +SKIP
    Change(before='handbook-lora', now='smollm2-135m')
"""

from __future__ import annotations

from dataclasses import dataclass

from ...core.errors import ConfigError, GateRejected, ModelNotFoundError, StorageError
from ...core.settings import Settings
from .installed import InstalledModel, changing, history, installed, installed_model
from .trash import trashed
from .weights import weights_of


@dataclass(frozen=True, slots=True)
class Change:
    """What was in use and what is now; None for the automatic choice."""

    before: str | None
    now: str | None


def promote(settings: Settings, name: str, *, anyway: bool = False) -> Change:
    """Put an installed chat model in use and remember the one before.

    Args:
        settings: Where models are kept.
        name: The model.
        anyway: Whether a model that is worse than its base is taken, too.

    Raises:
        GateRejected: Its figures say that it is worse than its base.
        ModelNotFoundError: It, or the base of an adapter, is not installed.
        ModelLoadError: A file of it is missing or damaged.
        ValueError: It is not a chat model.
    """
    model = installed_model(settings, name)
    if model.kind != "chat":
        raise ValueError(f"{name!r} is an embedding model; name it in the setting embedder.name instead.")
    weights_of(settings, model)
    if not anyway:
        _check_gate(model)
    with changing(settings.models_dir) as state:
        before = state.in_use
        state.choose(name)
    return Change(before, name)


def rollback(settings: Settings) -> Change:
    """Put back in use what was before the last change; again for the one before that.

    Raises:
        ConfigError: There is nothing to go back to.
        ModelNotFoundError: The earlier model, or its base, is gone.
        ModelLoadError: A file of it is missing or damaged.
        StorageError: Another process changed the record meanwhile.
    """
    before = history(settings)
    if not before:
        raise ConfigError(
            "There is no earlier model to go back to.", "Choose one: localsmith models promote NAME"
        )
    earlier = before[-1]
    if earlier is not None:
        _check_is_there(settings, earlier)
    with changing(settings.models_dir) as state:
        if state.history != before:
            raise StorageError("The record of models was changed meanwhile.", "Try again.")
        state.history.pop()
        change = Change(state.in_use, earlier)
        state.in_use = earlier
    return change


def _check_gate(model: InstalledModel) -> None:
    if model.lineage is None or not (worse := model.lineage.worse):
        return
    figures = "; ".join(str(metric) for metric in worse)
    raise GateRejected(
        f"{model.name} is worse than its base {model.lineage.base}: {figures}.",
        f"Train it further, or take it all the same: localsmith models promote {model.name} --anyway",
    )


def _check_is_there(settings: Settings, name: str) -> None:
    model = installed(settings).get(name)
    if model is not None:
        weights_of(settings, model)
        return
    back = f"Bring it back: localsmith models restore {name}. " if name in trashed(settings) else ""
    raise ModelNotFoundError(
        f"{name}, the model before, is not installed any more.",
        f"{back}Or choose another: localsmith models promote NAME",
    )
