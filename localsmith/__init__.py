"""Localsmith: agents on a model that runs on your own machine.

Example:
    from localsmith import Localsmith

    ls = Localsmith()
    ls.add("handbook.pdf")
    print(ls.ask("How many days of leave are there?"))

Importing this loads neither torch nor llama.cpp nor the settings; they load with the first use.
"""

from typing import TYPE_CHECKING, Any

from .core.errors import LocalsmithError
from .core.types import (
    Answer,
    ApprovalNeeded,
    Citation,
    Delta,
    Document,
    Event,
    Final,
    Message,
    Passage,
    Progress,
    Question,
    Step,
    StepEnded,
)

if TYPE_CHECKING:
    from .front_door import Localsmith

__version__ = "0.1.0"

__all__ = [
    "Answer",
    "ApprovalNeeded",
    "Citation",
    "Delta",
    "Document",
    "Event",
    "Final",
    "Localsmith",
    "LocalsmithError",
    "Message",
    "Passage",
    "Progress",
    "Question",
    "Step",
    "StepEnded",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name == "Localsmith":  # imported late, so that the command line answers at once
        from .front_door import Localsmith

        return Localsmith
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
