"""The four workloads: eight clients, eight samples, a ReAct transcript, and where the engine's time goes.

Place in the data's way: `__main__` calls each with the `Bench`; each starts what it needs, runs its
interleaved rounds and returns raw results and figures.

Example:
    result = clients8(bench)
    result.figures["clients8_vs_llama_server"]
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from ..llama_server import llama_server
from . import prompts
from .conditions import wait_until_idle
from .home import ModelFile, throwaway_home
from .load import generate_load
from .prompts import Paragraphs
from .rounds import Raw, Rounds, Spread, ratio, values
from .servers import (
    Command,
    Server,
    llama_cpp_python_command,
    llama_server_command,
    our_command,
    server_environment,
)
from .setup import LLAMA_CPP_PYTHON_SERVER, LLAMA_IN_TURN, LLAMA_SERVER, OURS, Setup, Sizes
from .worker import Worker

CACHED, FRESH = "with the cache", "without"
PLAIN, GUESSING = "no guesses", "guesses"
WORDS_PER_TOKEN = 0.85  # English has fewer; `Ours.fit` then cuts to the token

WARM_UP, WARM_UP_TOKENS = "Say hello in ten languages.", 8
"""Asked before the rounds, so that pages, threads and templates are warm in each of them."""

CONTENDERS: dict[str, tuple[str, ...]] = {
    "clients8": (OURS, LLAMA_CPP_PYTHON_SERVER, LLAMA_SERVER),
    "samples8": (OURS, LLAMA_IN_TURN),
    "react": (CACHED, FRESH),
    "busy": (OURS,),
    "stall": (OURS,),
    "lookup": (PLAIN, GUESSING),
}


@dataclass(frozen=True, slots=True)
class Bench:
    """What every workload needs.

    Attributes:
        setup: What all contenders are given.
        sizes: How large the workloads are.
        model: The model's file.
        text: Real text that nobody has read yet.
        rounds: Runs the rounds and shows progress.
        logs: Folder for the processes' output.
    """

    setup: Setup
    sizes: Sizes
    model: ModelFile
    text: Paragraphs
    rounds: Rounds
    logs: Path

    def worker(self, kind: str) -> Worker:
        """Return a child process that is not started yet."""
        return Worker("ours" if kind == OURS else "llama", self.setup, self.logs / f"{kind}.log")

    def fitted(self, ours: Worker, num_tokens: int) -> str:
        """Return fresh text of so many tokens."""
        words = int(num_tokens * WORDS_PER_TOKEN)
        return str(ours.ask("fit", text=self.text.take(words), tokens=num_tokens))


@dataclass(frozen=True, slots=True)
class Result:
    """What a workload found.

    Attributes:
        raw: Every round of every contender.
        figures: Medians, quartiles and ratios, by name.
    """

    raw: dict[str, list[Raw]]
    figures: dict[str, float]


def clients8(bench: Bench) -> Result:
    """Measure total tokens a second of eight clients with different prompts, on three servers."""
    sizes, num = bench.sizes, bench.setup.num_parallel
    with ExitStack() as stack:
        home = stack.enter_context(throwaway_home(bench.model))
        batches: dict[int, list[str]] = {}
        with bench.worker(OURS) as ours:  # only to cut the prompts to the same number of tokens
            for index in range(bench.rounds.num_rounds):
                texts = [bench.fitted(ours, sizes.client_prompt_tokens) for _ in range(num)]
                batches[index] = [f"{text}\n\n{prompts.CLIENT_TASK}" for text in texts]
        servers = {
            command.name: stack.enter_context(Server(command, bench.logs / f"{command.name}.log"))
            for command in _commands(bench.setup, home)
        }

        def run(server: Server, index: int) -> Raw:
            seconds, replies = generate_load(
                server.url, server.model, batches[index], sizes.client_completion_tokens
            )
            tokens = [reply.completion_tokens for reply in replies]
            return {
                "value": sum(tokens) / seconds,
                "seconds": seconds,
                "completion_tokens": tokens,
                "prompt_tokens": [reply.prompt_tokens for reply in replies],
                "first_token_s": [round(reply.first_token_s, 3) for reply in replies],
            }

        for server in servers.values():
            generate_load(server.url, server.model, [WARM_UP] * num, WARM_UP_TOKENS)
            wait_until_idle(server.model, server.pid)
        raw = bench.rounds.run(
            "clients8",
            {name: lambda index, s=server: run(s, index) for name, server in servers.items()},  # type: ignore[misc]
            "tokens/s",
        )
    return Result(raw, clients8_figures(raw))


def _commands(setup: Setup, home: Path) -> list[Command]:
    python, package = server_environment()
    return [
        our_command(setup, home),
        llama_cpp_python_command(setup, python, package),
        llama_server_command(setup, llama_server()),
    ]


def clients8_figures(raw: dict[str, list[Raw]]) -> dict[str, float]:
    """Return speeds, waits and ratios of the three servers."""
    figures: dict[str, float] = {}
    for name, runs in raw.items():
        key = f"clients8_{_key(name)}"
        figures |= spread_figures(f"{key}_tokens_per_s", Spread.of(values(runs)))
        figures[f"{key}_first_token_s"] = median(median(run["first_token_s"]) for run in runs)
    for peer in (LLAMA_CPP_PYTHON_SERVER, LLAMA_SERVER):
        figures |= spread_figures(f"clients8_vs_{_key(peer)}", ratio(values(raw[OURS]), values(raw[peer])))
    return figures


def samples8(bench: Bench) -> Result:
    """Measure eight samples of one long prompt: ours at once, `Llama` in turn."""
    sizes, num = bench.sizes, bench.setup.num_parallel
    with bench.worker(OURS) as ours, bench.worker(LLAMA_IN_TURN) as llama:
        batch = {}
        for index in range(bench.rounds.num_rounds):
            batch[index] = f"{bench.fitted(ours, sizes.sample_prompt_tokens)}\n\n{prompts.SAMPLE_TASK}"

        def run(worker: Worker, index: int) -> Raw:
            max_tokens = sizes.completion_tokens
            answer: Raw = worker.ask("samples", prompt=batch[index], num=num, max_tokens=max_tokens)
            # A sample may end early; so the time is that of as many tokens as were asked for.
            share = sum(answer["completion_tokens"]) / (num * max_tokens)
            return {"value": answer["seconds"] / share} | answer

        for worker in (ours, llama):
            worker.ask("samples", prompt=WARM_UP, num=num, max_tokens=WARM_UP_TOKENS)
        raw = bench.rounds.run(
            "samples8",
            {OURS: lambda index: run(ours, index), LLAMA_IN_TURN: lambda index: run(llama, index)},
            "s",
        )
    return Result(raw, samples8_figures(raw))


def samples8_figures(raw: dict[str, list[Raw]]) -> dict[str, float]:
    """Return the times of both and their ratio."""
    figures = spread_figures("samples8_localsmith_s", Spread.of(values(raw[OURS])))
    figures |= spread_figures("samples8_llama_in_turn_s", Spread.of(values(raw[LLAMA_IN_TURN])))
    return figures | spread_figures(
        "samples8_vs_llama_in_turn", ratio(values(raw[LLAMA_IN_TURN]), values(raw[OURS]))
    )


def busy(bench: Bench) -> Result:
    """Measure the share of busy time inside `llama_decode` and sampling, eight requests at once."""
    sizes, num = bench.sizes, bench.setup.num_parallel
    with bench.worker(OURS) as ours:

        def run(index: int) -> Raw:
            texts = [bench.fitted(ours, sizes.client_prompt_tokens // 4) for _ in range(num)]
            batch = [f"{text}\n\n{prompts.CLIENT_TASK}" for text in texts]
            answer: Raw = ours.ask("batch", prompts=batch, max_tokens=sizes.completion_tokens)
            return {"value": (answer["decode_s"] + answer["sampling_s"]) / answer["busy_s"]} | answer

        ours.ask("batch", prompts=[WARM_UP] * num, max_tokens=WARM_UP_TOKENS)
        raw = bench.rounds.run("busy", {OURS: run}, "of busy time")
    return Result(raw, busy_figures(raw))


def busy_figures(raw: dict[str, list[Raw]]) -> dict[str, float]:
    """Return the shares of decoding and sampling, together and alone, and the speed."""
    runs = raw[OURS]
    figures = spread_figures("busy_share_in_decode_and_sampling", Spread.of(values(runs)))
    figures["busy_share_in_decode"] = median(run["decode_s"] / run["busy_s"] for run in runs)
    figures["busy_tokens_per_s"] = median(sum(run["completion_tokens"]) / run["seconds"] for run in runs)
    return figures


def spread_figures(key: str, spread: Spread) -> dict[str, float]:
    """Return median and quartiles under their names in the results."""
    return {key: spread.median, f"{key}_q1": spread.q1, f"{key}_q3": spread.q3}


def _key(name: str) -> str:
    return name.replace("-", "_").replace(" ", "_")
