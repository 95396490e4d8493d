"""How many of a small model's tool calls are malformed: many short ReAct runs, sampled, every turn looked at.

A turn is malformed where it is neither an answer nor a call of a tool there is with arguments that its schema
allows; a turn that was cut at its token limit is counted apart, and never runs. The questions are made from
templates with a seed: arithmetic, dates, units and SQL over a table, so that all kinds of arguments occur.
The results are written after every run, with the number of runs they stand on. Writes
`benchmarks/results/react_calls.json`.

Example: `python benchmarks/react_calls.py --model qwen2.5-coder-0.5b --runs 200`
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

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
from localsmith.evaluation.results import write_results
from localsmith.models.catalog.installed import path_of
from localsmith.models.engine import Engine

RESULTS = Path(__file__).parent / "results" / "react_calls.json"
COMMAND = "python benchmarks/react_calls.py"
TABLE = """city,country,population,area_km2
Lisbon,Portugal,545796,100
Porto,Portugal,231800,41
Lyon,France,520774,48
"""


@dataclass
class Tally:
    """What was counted.

    Attributes:
        model: Name of the model.
        temperature: Of the sampler.
        max_steps: Calls a run may make.
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
        seconds: Wall time of all runs; other work ran on the machine, so it is no speed.
        seen: The malformed and invalid turns themselves.
    """

    model: str
    temperature: float
    max_steps: int
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
        """Return the numbers that matter."""
        names = ("num_runs", "num_turns", "num_calls", "malformed", "invalid", "cut", "failed_calls")
        return {"react_malformed_calls": self.malformed + self.invalid} | {n: getattr(self, n) for n in names}

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


def measure(name: str, runs: int, temperature: float, max_steps: int, out: Path) -> Tally:
    """Make the runs, writing what was counted after each."""
    settings = load_settings()
    engine = Engine(path_of(settings, name), name=name, settings=ModelSettings(n_ctx=4096, max_running=2))
    tally = Tally(name, temperature, max_steps)
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "cities.csv"
        table.write_text(TABLE)
        tools = [*standard_tools(), *sql_tools(lambda question: [TableFile("cities.csv", table)])]
        by_name: dict[str, Tool] = {tool.name: tool for tool in tools}
        asked = questions(seed=7)
        try:
            for seed in range(runs):
                strategy = ReactStrategy(
                    engine,
                    tools,
                    AnswerSettings(max_tokens=48, temperature=temperature, seed=seed),
                    limits=ReactLimits(max_steps=max_steps, max_seconds=3600),
                    checkpoints=Path(folder) / "react.sqlite3",
                )
                begun = time.monotonic()
                answer = strategy.invoke(Question(next(asked), collection=None))
                tally.seconds = round(tally.seconds + time.monotonic() - begun, 1)
                tally.add(answer, by_name, turn_tokens(tools))
                write_results(out, tally.figures(), command=COMMAND, details=asdict(tally))
        finally:
            engine.close()
    return tally


def main() -> int:
    """Read the arguments, measure, and fail where a call was malformed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="qwen2.5-coder-0.5b")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--temperature", type=float, default=0.8, help="High, so that many forms are tried.")
    parser.add_argument("--steps", type=int, default=1, help="Calls a run may make.")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    tally = measure(given.model, given.runs, given.temperature, given.steps, given.out)
    sys.stdout.write(
        f"{tally.num_runs} runs, {tally.num_calls} calls: {tally.malformed} malformed, "
        f"{tally.invalid} invalid, {tally.cut} cut\n"
    )
    return 1 if tally.malformed or tally.invalid else 0


if __name__ == "__main__":
    sys.exit(main())
