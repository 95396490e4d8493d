"""What the MCP server serves, handed in by whoever starts it.

Place in the data's way: `localsmith mcp` fills an `McpParts` from the front door, tests from a library of
their own; the tools know nothing else of models, embedders or sandboxes.

Example:
    parts = McpParts(served, library=lambda: library, sandbox=lambda: sandbox)
    server = create_server(parts, ServeSettings())
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...core.contracts import Sandbox
from ..parts import ServedParts

if TYPE_CHECKING:
    from ...retrieval.library import Library


def _nothing_to_load() -> None:
    return


@dataclass(frozen=True, slots=True)
class McpParts:
    """The strategies, the documents and the sandbox, each asked for when a request needs it.

    Attributes:
        served: The strategies with their names, and how far each part is; the same as the HTTP server's.
        library: Returns the documents; raises why they can't be had. Called in a thread.
        sandbox: Returns the sandbox; raises SandboxError where none can run. Called in a thread.
        warm_up: Starts to load in the background; called when a client has said hello, not before, so that
            the hello is answered at once.
    """

    served: ServedParts
    library: Callable[[], Library]
    sandbox: Callable[[], Sandbox]
    warm_up: Callable[[], None] = _nothing_to_load
