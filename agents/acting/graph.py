"""The loop of a ReAct run as a LangGraph graph: think, act, think, …, each followed by a checkpoint.

Place in the data's way: `ReactStrategy` gives the two nodes; this file is all that knows LangGraph, beside
its saver in `checkpoints.py`. A node is a generator of events that returns the next `Trajectory`. After each
node the whole `Trajectory` is on disk, so a killed run goes on with the node it was in.

Example:
    graph = ReactGraph(saver, run_id, think, act)
    for event in graph.begin(trajectory):
        ...
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, TypedDict

from ...core.errors import AgentError
from ...core.types import Event
from .trajectory import Trajectory, from_json, to_json

if TYPE_CHECKING:
    from langgraph.checkpoint.sqlite import SqliteSaver

Node = Callable[[Trajectory], Generator[Event, None, Trajectory]]

_MAX_SUPERSTEPS = 10_000


class _State(TypedDict):
    trajectory: str


class ReactGraph:
    """One run on its graph."""

    def __init__(self, saver: SqliteSaver, run_id: str, think: Node, act: Node) -> None:
        """Build the graph.

        Args:
            saver: Where checkpoints go.
            run_id: The run; LangGraph calls it a thread.
            think: A turn of the model; then comes `act` where a call waits, and the end where it answered.
            act: Executes the call that waits.
        """
        from langgraph.graph import END, START, StateGraph

        def onward(state: _State) -> str:
            trajectory = from_json(state["trajectory"])
            if trajectory.answer is not None:
                return str(END)
            return "act" if trajectory.pending is not None else "think"

        builder = StateGraph(_State)
        builder.add_node("think", _node(think))
        builder.add_node("act", _node(act))
        builder.add_edge(START, "think")
        builder.add_conditional_edges("think", onward, ["act", "think", END])
        builder.add_conditional_edges("act", onward, ["think", END])
        self._graph = builder.compile(checkpointer=saver)
        self._config: Any = {"configurable": {"thread_id": run_id}, "recursion_limit": _MAX_SUPERSTEPS}

    def begin(self, trajectory: Trajectory) -> Generator[Event, None, None]:
        """Run from the beginning."""
        return self._stream({"trajectory": to_json(trajectory)})

    def go_on(self) -> Generator[Event, None, None]:
        """Run on from the last checkpoint."""
        return self._stream(None)

    def _stream(self, given: Any) -> Generator[Event, None, None]:
        # "sync": the checkpoint is on disk before the next node begins.
        events: Any = self._graph.stream(given, self._config, stream_mode="custom", durability="sync")
        yield from events

    @property
    def trajectory(self) -> Trajectory:
        """The run as its last checkpoint has it.

        Raises:
            AgentError: There is no checkpoint, or a version with other fields wrote it.
        """
        state = self._graph.get_state(self._config)
        try:
            return from_json(state.values["trajectory"])
        except (KeyError, ValueError) as exc:
            raise AgentError(
                "The run's checkpoint can't be read.", hint="Forget the run and ask the question again."
            ) from exc


def halt(reason: str) -> None:
    """End the run within a node, so that it begins with this node again when it goes on.

    Args:
        reason: What it waits for; LangGraph keeps it with the checkpoint.
    """
    from langgraph.types import interrupt

    interrupt(reason)


def _node(node: Node) -> Any:  # LangGraph's protocols of nodes fit no plain function type
    def run(state: _State) -> _State:
        from langgraph.config import get_stream_writer

        write = get_stream_writer()
        events = node(from_json(state["trajectory"]))
        while True:
            try:
                write(next(events))
            except StopIteration as stop:
                return {"trajectory": to_json(stop.value)}

    return run
