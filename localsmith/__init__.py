"""Localsmith: agents on a model that runs on your own machine.

Example:
    from localsmith import Localsmith

    ls = Localsmith()
    ls.add("handbook.pdf")
    print(ls.ask("How many days of leave are there?"))

Importing this loads neither torch nor llama.cpp; they load with the first question.
"""

from .core.errors import LocalsmithError
from .core.types import Answer, Citation, Delta, Document, Event, Final, Message, Passage, Progress, Question
from .front_door import Localsmith

__version__ = "0.1.0"

__all__ = [
    "Answer",
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
    "__version__",
]
