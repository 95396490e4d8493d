"""How many of a small model's tool calls are malformed: many ReAct runs, sampled, every turn looked at.

Place in the data's way: questions from templates -> runs of `react` with the tools that come along and a
table, several at once -> every turn parsed and checked again, by the tools' schemas -> figures of the
scoreboard. A turn is malformed where it is neither an answer nor a call of a tool there is with arguments
that its schema allows; a turn that was cut at its token limit is counted apart, and never runs. The questions
are arithmetic, dates, units and SQL over a table, so that all kinds of arguments occur.

Example: `python -m benchmarks.reasoning --only react_malformed_calls`
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from localsmith.agents.acting.actions import parse_turn, turn_tokens
from localsmith.agents.react import ReactLimits, ReactStrategy
from localsmith.agents.tools.check import check_arguments
from localsmith.agents.tools.sql import sql_tools
from localsmith.agents.tools.standard import standard_tools
from localsmith.agents.tools.tables import TableFile
from localsmith.agents.tools.tool import Tool
from localsmith.core.errors import OutputParseError, ToolArgumentError
from localsmith.core.settings import AnswerSettings, ModelSettings, load_settings
from localsmith.core.types import Answer, Question
from localsmith.evaluation.metrics import wilson
from localsmith.models.catalog.installed import path_of
from localsmith.models.engine import Engine

# The hard case: a model that writes few calls well of itself.
MODEL = "qwen2.5-coder-0.5b"
NUM_RUNS = 200
# High, so that many forms are tried.
TEMPERATURE = 0.8
LIMITS = ReactLimits(max_steps=3, max_seconds=3600)
MAX_ANSWER_TOKENS = 48
AT_ONCE = 8
SEED = 7
TABLE = """city,country,population,area_km2
Lisbon,Portugal,545796,100
Porto,Portugal,231800,41
Lyon,France,520774,48
"""


@dataclass
class Tally:
    """What was counted.

    Attributes:
        num_runs: Runs so far.
        num_turns: Turns of the model in them, those that had to answer included.
        num_calls: Complete calls.
        num_answers: Answers.
        malformed: Turns that are none of both, though they were not cut.
        invalid: Calls of no tool, or with arguments that its schema doesn't allow.
        cut: Turns that were cut at their token limit; none of them ran.
        calls: Complete calls by tool.
        failed_calls: Complete calls that the tool had an error for, such as a column there is not.
        stop_reasons: Runs by their stop reason.
        completion_tokens: Tokens written in all.
        seconds: Wall time of all runs together.
        seen: The malformed and invalid turns themselves.
    """

    num_runs: int = 0
    num_turns: int = 0
    num_calls: int = 0
    num_answers: int = 0
    malformed: int = 0
    invalid: int = 0
    cut: int = 0
    calls: dict[str, int] = field(default_factory=dict)
    failed_calls: int = 0
    stop_reasons: dict[str, int] = field(default_factory=dict)
    completion_tokens: int = 0
    seconds: float = 0.0
    seen: list[str] = field(default_factory=list)

    def add(self, answer: Answer, tools: dict[str, Tool], longest_turn: int) -> None:
        """Look at every turn of a run."""
        self.num_runs += 1
        _count(self.stop_reasons, answer.stop_reason)
        self.completion_tokens += answer.usage.completion_tokens
        for step in answer.steps:
            if step.kind == "tool":
                self.failed_calls += step.is_error
            elif step.kind == "generate":
                tokens = step.usage.completion_tokens if step.usage else 0
                self._add_turn(step.output, tools, is_cut=tokens >= longest_turn)

    def figures(self) -> dict[str, float]:
        """Return the figures; the interval is Wilson's for the share of calls, times their number."""
        bad = self.malformed + self.invalid
        share = wilson(bad, self.num_calls)
        return {
            "react_malformed_calls": bad,
            "react_malformed_calls_low": share.low * self.num_calls,
            "react_malformed_calls_high": share.high * self.num_calls,
            "react_malformed_calls_n": self.num_runs,
            "react_calls": self.num_calls,
            "react_cut_calls": self.cut,
        }

    def _add_turn(self, text: str, tools: dict[str, Tool], *, is_cut: bool) -> None:
        self.num_turns += 1
        try:
            turn = parse_turn(text)
        except OutputParseError:
            self.cut += is_cut
            self.malformed += not is_cut
            if not is_cut:
                self.seen.append(text)
            return
        if turn.call is None:
            self.num_answers += 1
            return
        self.num_calls += 1
        _count(self.calls, turn.call.tool)
        try:
            check_arguments(tools[turn.call.tool].parameters, turn.call.values)
        except (KeyError, ToolArgumentError):
            self.invalid += 1
            self.seen.append(text)


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


def questions(seed: int) -> Iterator[str]:
    """Yield questions for ever, each kind in turn."""
    chance = random.Random(seed)

    def number() -> int:
        return chance.randint(2, 999)

    units = [("km", "miles"), ("kg", "pounds"), ("C", "F"), ("litres", "gallons"), ("hours", "seconds")]
    columns = ["population", "area_km2"]
    while True:
        yield f"A box holds {number()} pens at {number()}.{chance.randint(10, 99)} each. What do they cost?"
        year, days = chance.randint(1950, 2030), chance.randint(3, 400)
        yield f"Which date is {days} days after {year}-0{chance.randint(1, 9)}-1{chance.randint(0, 9)}?"
        source, target = chance.choice(units)
        yield f"How many {target} are {number()} {source}?"
        yield f"Which city of the table cities has the largest {chance.choice(columns)}?"
        yield f"What is ({number()} + {number()}) * {number()} / {number()}?"
        country = chance.choice(["Portugal", "France"])
        yield f"What is the total {chance.choice(columns)} of the cities in {country}?"


def measure(
    model: str = MODEL, num_runs: int = NUM_RUNS, on_run: Callable[[int, int], None] | None = None
) -> tuple[dict[str, float], dict[str, Any]]:
    """Make the runs.

    Args:
        model: Catalog name.
        num_runs: Runs, each with a question and a seed of its own.
        on_run: Called with (runs done, runs in all).

    Returns:
        The figures, and everything that was counted.

    Raises:
        ModelError: The model is not installed or can't be loaded.
    """
    settings = ModelSettings(max_running=AT_ONCE)
    engine = Engine(path_of(load_settings(), model), name=model, settings=settings)
    tally, begun = Tally(), time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "cities.csv"
            table.write_text(TABLE)
            tools = [*standard_tools(), *sql_tools(lambda question: [TableFile("cities.csv", table)])]

            def run(seed: int, text: str) -> Answer:
                strategy = ReactStrategy(
                    engine,
                    tools,
                    AnswerSettings(max_tokens=MAX_ANSWER_TOKENS, temperature=TEMPERATURE, seed=seed),
                    limits=LIMITS,
                    checkpoints=Path(folder) / "react.sqlite3",
                )
                return strategy.invoke(Question(text, collection=None))

            by_name = {tool.name: tool for tool in tools}
            with ThreadPoolExecutor(AT_ONCE) as threads:
                asked = zip(range(num_runs), questions(SEED), strict=False)
                runs = [threads.submit(run, seed, text) for seed, text in asked]
                for done, finished in enumerate(as_completed(runs), start=1):
                    tally.add(finished.result(), by_name, turn_tokens(tools))
                    if on_run:
                        on_run(done, num_runs)
    finally:
        engine.close()
    tally.seconds = round(time.monotonic() - begun, 1)
    return tally.figures(), {"temperature": TEMPERATURE, "max_steps": LIMITS.max_steps} | asdict(tally)
