"""What a tool is: a name, the JSON schema of its arguments, a time limit, and whether a person must agree.

Place in the data's way: `ReactStrategy` is handed tools; each turn's grammar is built from their schemas,
`call_tool` runs one, and what it returns goes back into the prompt as data, never as instructions.

Example:
    >>> word_count = FunctionTool(
    ...     name="count_words",
    ...     description="Count the words of a text.",
    ...     parameters={
    ...         "type": "object",
    ...         "properties": {"text": {"type": "string"}},
    ...         "required": ["text"],
    ...     },
    ...     function=lambda arguments, context: Observation(str(len(arguments["text"].split()))),
    ... )
    >>> word_count.run({"text": "to be or not"}, ToolContext(Question("How many?"))).text
    '4'
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ...core.types import Passage, Question

DEFAULT_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Observation:
    """What a tool returned.

    Attributes:
        text: For the model to read. Untrusted: whoever wrote the document, page or table wrote it.
        passages: Passages found; the strategy writes them below the text, each under the number it has in the
            whole run, so that the answer can cite it.
    """

    text: str
    passages: tuple[Passage, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may know of the run it is called in.

    Attributes:
        question: Who asks what, over which collection and documents.
        cancel: Set when nobody waits for the result any more: the person stopped, or the time is up.
    """

    question: Question
    cancel: threading.Event = field(default_factory=threading.Event)


class Tool(Protocol):
    """Something a model can call."""

    @property
    def name(self) -> str:
        """Letters, digits, "_", "-" and ".", at most 64; unique among the tools of a strategy."""
        ...

    @property
    def description(self) -> str:
        """What it does and when to use it, for the model, in a sentence or two."""
        ...

    @property
    def parameters(self) -> dict[str, Any]:
        """JSON schema of its arguments, of type "object"."""
        ...

    @property
    def timeout_s(self) -> float:
        """A call that takes longer is given up, in seconds."""
        ...

    @property
    def needs_approval(self) -> bool:
        """Whether a person has to agree to each call; so it must be where a call changes anything."""
        ...

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Observation:
        """Do it.

        Args:
            arguments: They obey `parameters`, except where a keyword can't be checked; see `arguments.py`.
            context: The run it is called in.

        Returns:
            What the model reads.

        Raises:
            ToolArgumentError: It can't use these arguments; the model reads why and tries again.
            ToolExecutionError: It failed; the model reads why and goes on.
        """
        ...


@dataclass(frozen=True, slots=True)
class FunctionTool:
    """A tool made of a function.

    Attributes:
        name: See `Tool`.
        description: See `Tool`.
        parameters: See `Tool`.
        function: Called with the arguments and the context; what it raises is what `Tool.run` may raise.
        timeout_s: See `Tool`.
        needs_approval: See `Tool`.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    function: Callable[[Mapping[str, Any], ToolContext], Observation]
    timeout_s: float = DEFAULT_TIMEOUT_S
    needs_approval: bool = False

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Observation:
        """Call the function."""
        return self.function(arguments, context)
