"""The strategies of one front door: built when they are first asked for, out of the parts it has.

Place in the data's way: `Localsmith.events(question, strategy="pal")` -> here -> `agents/registry.py`, which
knows how each is built. What they share, such as the sandbox, is made once and closed here.

Example:
    ls = Localsmith()
    answer = ls.strategies["cot"].invoke(Question("Is 91 a prime number?"))
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING

from .agents.registry import StrategyParts, build_strategy, checkpoints_path, strategy_info

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from .agents.approval import Approval
    from .agents.checkpoints import Checkpoints, UnfinishedRun
    from .agents.strategy import Strategy
    from .agents.tools.tool import Tool
    from .core.contracts import Sandbox
    from .core.types import Event, Question
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

    def sandbox(self) -> Sandbox:
        """Return the sandbox that all strategies share; it is chosen at the first call.

        Raises:
            SandboxError: None can run here.
        """
        from .agents.sandbox import choose_sandbox

        with self._lock:
            if self._sandbox is None:
                settings = self._front.settings
                self._sandbox = choose_sandbox(settings.sandbox, settings.home / "sandbox")
            return self._sandbox

    def resume(
        self, run_id: str, approval: Approval | None = None, *, cancel: threading.Event | None = None
    ) -> Generator[Event, None, None]:
        """Go on with an unfinished run of `react`, chosen by name or by the planner.

        Args:
            run_id: The run: its answer's `trace_id`, or `ApprovalNeeded.run_id`.
            approval: What a person decided on the call that waits; None where none waits.
            cancel: Setting it ends the run with what there is.

        Raises:
            AgentError: There is no such run, it is at work, or a call waits and nothing was decided.
        """
        from .agents.react import ReactStrategy

        strategy = self["react"]
        assert isinstance(strategy, ReactStrategy)
        return strategy.resume(run_id, approval, cancel=cancel)

    def unfinished_runs(self, user: str | None = None) -> list[UnfinishedRun]:
        """Return the runs that can be resumed, the latest first; the model need not be loaded.

        Args:
            user: Only this user's; None for everybody's.
        """
        return self._checkpoints.list(user)

    def forget_run(self, run_id: str) -> None:
        """Delete an unfinished run; one that is not there is no error."""
        self._checkpoints.forget(run_id)

    @cached_property
    def _checkpoints(self) -> Checkpoints:
        from .agents.checkpoints import Checkpoints

        return Checkpoints(checkpoints_path(self._front.settings.home))

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
            sandbox=self.sandbox,
            tools=self._tools,
            state_dir=front.settings.home,
            answer=front.settings.answer,
            k=front.settings.retrieval.k,
            embedder=lambda: front.embedder,
        )

    def _tools(self) -> Sequence[Tool]:
        return ()


class NamedStrategy:
    """One strategy of a front door, which waits for what it needs when it is asked; the server serves these.

    Args:
        front_door: Whose it is.
        name: Its name.
    """

    def __init__(self, front_door: Localsmith, name: str) -> None:
        self._front = front_door
        self._name = name

    def events(
        self, question: Question, *, cancel: threading.Event | None = None
    ) -> Generator[Event, None, None]:
        """Run; see `Localsmith.events`."""
        return self._front.events(question, strategy=self._name, cancel=cancel)
