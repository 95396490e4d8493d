"""Every strategy by its name, as the command line, the HTTP server and the chat offer them.

Place in the data's way: a name and the parts there are -> the strategy, built when it is first asked for. To
add one, write its file, a line in `STRATEGIES` and one in `_BUILDERS`. Importing this loads no strategy.

Example:
    strategy = build_strategy("pal-vote", parts)
    print(strategy.invoke(Question("How many apples are left?")))
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import ConfigError

if TYPE_CHECKING:
    from ..core.contracts import Embedder, LanguageModel, Retriever, Sandbox
    from ..core.settings import AnswerSettings
    from .strategy import Strategy
    from .tools.tool import Tool

AUTO = "auto"
# Source of the sample counts: Wang et al., Self-Consistency, ICLR 2023 (arXiv 2203.11171), figure 2: most of
# the gain comes with the first five to ten samples.
NUM_COT_SAMPLES = 8
NUM_PAL_SAMPLES = 5


@dataclass(frozen=True, slots=True)
class StrategyInfo:
    """A strategy as people choose it.

    Attributes:
        name: Its name on the command line and behind `localsmith/` over HTTP.
        title: Its name in the chat.
        description: What it does, in one line.
        reads_documents: Whether it may search the person's documents, and so needs the embedder.
    """

    name: str
    title: str
    description: str
    reads_documents: bool = False


STRATEGIES: Mapping[str, StrategyInfo] = {
    info.name: info
    for info in (
        StrategyInfo(AUTO, "Automatic", "Picks and combines the ways below, and says why.", True),
        StrategyInfo("rag", "Documents", "Answers from your documents, with citations.", True),
        StrategyInfo("direct", "Direct", "The model answers at once, from what it knows."),
        StrategyInfo("few-shot", "Few-shot", "The model follows a few worked examples."),
        StrategyInfo("cot", "Chain of thought", "The model reasons step by step, then answers."),
        StrategyInfo("cot-sc", "Chain of thought, voted", "Several chains of thought; the majority decides."),
        StrategyInfo("pal", "Program", "The model writes a program; the sandbox runs it."),
        StrategyInfo(
            "pal-vote", "Program, voted", "Several programs; the majority of their results decides."
        ),
        StrategyInfo("react", "Tools", "The model searches, calculates and calls tools, step by step.", True),
    )
}


@dataclass(frozen=True, slots=True)
class StrategyParts:
    """What strategies are built from; what is costly is called for only by those that need it.

    Attributes:
        model: The chat model.
        retriever: Finds passages.
        sandbox: Returns the sandbox that runs programs; raises SandboxError where none can run.
        tools: Returns the tools of ReAct.
        state_dir: Folder for checkpoints; made by whoever writes into it.
        answer: Time budget and sampling.
        k: Passages looked for.
        embedder: Returns the embedder, by which examples are chosen; None for choosing without one.
        has_own_tools: Whether the person added tools; the planner then considers them for any question.
    """

    model: LanguageModel
    retriever: Retriever
    sandbox: Callable[[], Sandbox]
    tools: Callable[[], Sequence[Tool]]
    state_dir: Path
    answer: AnswerSettings
    k: int = 8
    embedder: Callable[[], Embedder] | None = None
    has_own_tools: bool = False


def strategy_info(name: str) -> StrategyInfo:
    """Return what is known of a strategy.

    Raises:
        ConfigError: There is none of this name; the nearest is named.
    """
    if name in STRATEGIES:
        return STRATEGIES[name]
    near = difflib.get_close_matches(name, STRATEGIES, n=1, cutoff=0.4)
    raise ConfigError(
        f"There is no strategy {name[:100]!r}." + (f" Did you mean {near[0]!r}?" if near else ""),
        hint=f"The strategies are: {', '.join(STRATEGIES)}.",
    )


def checkpoints_path(state_dir: Path) -> Path:
    """Return the SQLite file of unfinished runs of `react`."""
    return state_dir / "react.sqlite3"


def build_strategy(name: str, parts: StrategyParts) -> Strategy:
    """Build a strategy; its file and what it needs are loaded here.

    Args:
        name: One of `STRATEGIES`.
        parts: What it is built from.

    Raises:
        ConfigError: There is none of this name.
        SandboxError: It runs programs, and no sandbox can run here.
    """
    return _BUILDERS[strategy_info(name).name](parts)


def _rag(parts: StrategyParts) -> Strategy:
    from .rag import RagStrategy

    return RagStrategy(parts.model, parts.retriever, parts.answer, parts.k)


def _direct(parts: StrategyParts) -> Strategy:
    from .direct import DirectStrategy

    return DirectStrategy(parts.model, parts.answer)


def _few_shot(parts: StrategyParts) -> Strategy:
    from .few_shot import FewShotStrategy

    return FewShotStrategy(parts.model, None, parts.answer, embedder=parts.embedder)


def _cot(num_samples: int) -> Callable[[StrategyParts], Strategy]:
    def build(parts: StrategyParts) -> Strategy:
        from .cot import CotStrategy

        return CotStrategy(parts.model, parts.answer, num_samples=_samples(parts, num_samples))

    return build


def _pal(num_samples: int) -> Callable[[StrategyParts], Strategy]:
    def build(parts: StrategyParts) -> Strategy:
        from .pal import PalStrategy

        return PalStrategy(
            parts.model, parts.sandbox(), parts.answer, num_samples=_samples(parts, num_samples)
        )

    return build


def _samples(parts: StrategyParts, usual: int) -> int:
    """Return how many samples vote; a strategy of one sample never votes."""
    return usual if usual == 1 else parts.answer.num_samples or usual


def _react(parts: StrategyParts) -> Strategy:
    from .react import ReactStrategy

    checkpoints = checkpoints_path(parts.state_dir)
    return ReactStrategy(parts.model, parts.tools(), parts.answer, checkpoints=checkpoints)


def _auto(parts: StrategyParts) -> Strategy:
    from .planner import PlannerStrategy

    return PlannerStrategy(parts)


_BUILDERS: Mapping[str, Callable[[StrategyParts], Strategy]] = {
    "rag": _rag,
    "direct": _direct,
    "few-shot": _few_shot,
    "cot": _cot(1),
    "cot-sc": _cot(NUM_COT_SAMPLES),
    "pal": _pal(1),
    "pal-vote": _pal(NUM_PAL_SAMPLES),
    "react": _react,
    AUTO: _auto,
}
