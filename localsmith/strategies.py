"""The strategies of one front door: built when they are first asked for, out of the parts it has.

Place in the data's way: `Localsmith.events(question, strategy="pal")` -> here -> `agents/registry.py`, which
knows how each is built. What they share, such as the sandbox, is made once and closed here.

Example:
    ls = Localsmith()
    answer = ls.strategies["cot"].invoke(Question("Is 91 a prime number?"))
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .agents.registry import StrategyParts, build_strategy, strategy_info

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .agents.strategy import Strategy
    from .agents.tools.tool import Tool
    from .core.contracts import Sandbox
    from .front_door import Localsmith


class Strategies:
    """Strategies by name; getting one waits for the model to be loaded.

    Args:
        front_door: Whose model, documents and settings they use.
    """

    def __init__(self, front_door: Localsmith) -> None:
        self._front = front_door
        self._built: dict[str, Strategy] = {}
        self._sandbox: Sandbox | None = None
        self._lock = threading.RLock()

    def __getitem__(self, name: str) -> Strategy:
        """Return the strategy of this name.

        Raises:
            ConfigError: There is none of this name; the nearest is named.
            SandboxError: It runs programs, and no sandbox can run here.
            ModelError: The model can't be loaded.
        """
        strategy_info(name)
        with self._lock:
            if name not in self._built:
                self._built[name] = build_strategy(name, self._parts())
            return self._built[name]

    def close(self) -> None:
        """Stop what they share; they are built anew when they are asked for again."""
        with self._lock:
            self._built.clear()
            self._sandbox = None

    def _parts(self) -> StrategyParts:
        front = self._front
        return StrategyParts(
            model=front.engine,
            retriever=front.library,
            sandbox=self._shared_sandbox,
            tools=self._tools,
            state_dir=front.settings.home,
            answer=front.settings.answer,
            k=front.settings.retrieval.k,
            embedder=lambda: front.embedder,
        )

    def _shared_sandbox(self) -> Sandbox:
        from .agents.sandbox import choose_sandbox

        with self._lock:
            if self._sandbox is None:
                settings = self._front.settings
                self._sandbox = choose_sandbox(settings.sandbox, settings.home / "sandbox")
            return self._sandbox

    def _tools(self) -> Sequence[Tool]:
        return ()
