"""What the server serves, handed in by whoever starts it.

Place in the data's way: `localsmith serve` fills a `ServedParts` from the front door, tests from fakes; the
routes know nothing else of models, embedders or strategies.

Example:
    parts = ServedParts(model=lambda: engine, embedder=lambda: embedder, strategies={"rag": strategy})
    app = create_app(parts, ServeSettings())
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..core.contracts import Embedder, PartState, ServedModel
from ..core.types import Event, Question


class Strategy(Protocol):
    """Anything that turns a question into events, the last of which carries the answer."""

    def events(
        self, question: Question, *, cancel: threading.Event | None = None
    ) -> Generator[Event, None, None]:
        """Run; `cancel` ends the run with what there is. Closing the generator stops the model, too."""
        ...


def _nothing_loads() -> Sequence[PartState]:
    return ()


def _no_collections() -> Sequence[str]:
    return ()


@dataclass(frozen=True, slots=True)
class ServedParts:
    """The model, the embedder and the strategies, each asked for when a request needs it.

    Attributes:
        model: Returns the model at once; raises ModelNotReadyError while it loads, why it failed afterwards.
        embedder: Does the same for the embedder.
        strategies: By name; `{"rag": …}` is served as the model `localsmith/rag`.
        collections: Names of the collections that a request may name.
        loading: How far each part is; those of an empty sequence are ready.
    """

    model: Callable[[], ServedModel]
    embedder: Callable[[], Embedder]
    strategies: Mapping[str, Strategy] = field(default_factory=dict)
    collections: Callable[[], Sequence[str]] = _no_collections
    loading: Callable[[], Sequence[PartState]] = _nothing_loads
