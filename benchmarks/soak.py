"""Half an hour of well-behaved and ill-behaved visitors: nothing may leak, every stream must end.

Starts `localsmith serve` on a throw-away data folder, warms it up, takes a baseline at rest, lets a dozen
visitors do what visitors do, lets the server come to rest again and compares. Writes
`benchmarks/results/soak.json` and `soak.png`; exit status 1 where something is wrong.

Example: `python -m benchmarks.soak --minutes 30`
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import psutil
from localsmith.core.errors import LocalsmithError
from localsmith.core.settings import ServeSettings, load_settings
from localsmith.evaluation.results import write_results
from localsmith.serving.keys import SCOPES, KeyStore

from .engine.conditions import state_now, versions
from .engine.home import ModelFile, find_model, throwaway_home
from .engine.servers import Server, ServerFailed, our_command
from .engine.setup import Setup
from .soak_verdict import Log, figures_of, verdict
from .soak_visitors import Visitors, make_client
from .soak_watch import Sample, draw, take_sample

RESULTS = Path(__file__).resolve().parent / "results"
N_CTX = 4096
SAMPLE_S = 10.0
VISITORS = 12
DRAIN_S = 180.0


async def soak(client: httpx.AsyncClient, visitors: Visitors, pid: int, seconds: float, log: Log) -> None:
    """Let the visitors in for so long and watch."""
    until = time.monotonic() + seconds

    async def visit() -> None:
        while time.monotonic() < until:
            await _do(visitors, visitors.choose(), log)

    async def watch() -> None:
        while time.monotonic() < until:
            log.samples.append(await _sample(client, pid, log))
            _show(log, seconds)
            await asyncio.sleep(min(SAMPLE_S, max(0.1, until - time.monotonic())))

    await asyncio.gather(watch(), *(visit() for _ in range(VISITORS)))


async def _do(visitors: Visitors, name: str, log: Log) -> None:
    log.started += 1
    found = await visitors.deed(name)
    log.started += len(found) - 1  # a burst is many requests
    log.outcomes += found


async def _sample(client: httpx.AsyncClient, pid: int, log: Log) -> Sample:
    response = await client.get("/metrics")
    response.raise_for_status()
    return take_sample(pid, response.text, log.now_s)


async def drained(client: httpx.AsyncClient, pid: int, log: Log) -> Sample:
    """Wait until the server is at rest; return it so, or as it is when the patience ends."""
    deadline = time.monotonic() + DRAIN_S
    while True:
        sample = await _sample(client, pid, log)
        is_at_rest = not (sample.running or sample.waiting or sample.streams)
        if is_at_rest or time.monotonic() > deadline:
            # Idle worker threads and kept-alive connections go away a little later.
            await asyncio.sleep(6 if is_at_rest else 0)
            return await _sample(client, pid, log)
        await asyncio.sleep(1)


async def still_fits(client: httpx.AsyncClient, model: str) -> str:
    """Ask for nearly the whole window, then for eight answers at once; "" where both are given.

    Cells or sequences that were lost during the soak would be missing here.
    """
    long = "word " * (N_CTX - 400)
    bodies = (
        [{"role": "user", "content": long}],
        *([{"role": "user", "content": f"{i} " * 200}] for i in range(8)),
    )
    for group in (bodies[:1], bodies[1:]):
        answers = await asyncio.gather(
            *(
                client.post(
                    "/v1/chat/completions", json={"model": model, "messages": messages, "max_tokens": 8}
                )
                for messages in group
            )
        )
        wrong = [
            f"HTTP {answer.status_code}: {answer.text[:200]}"
            for answer in answers
            if answer.status_code != 200
        ]
        if wrong:
            return f"Afterwards the cache no longer holds what it did: {wrong[0]}"
    return ""


async def run(arguments: argparse.Namespace, server: Server, key: str) -> int:
    """Warm up, soak, drain, judge, write."""
    async with make_client(server.url, key) as client:
        listed = [model["id"] for model in (await client.get("/v1/models")).json()["data"]]
        embedder = load_settings().embedder.name
        visitors = Visitors(
            client,
            server.model,
            embedder if embedder in listed else "",
            N_CTX,
            ServeSettings().max_body_bytes,
            random.Random(arguments.seed),
        )
        _say(f"Warming up: each of {len(visitors.deeds)} behaviours twice.")
        warm = Log()
        for name in [*visitors.deeds, *visitors.deeds]:
            await _do(visitors, name, warm)
        before = await drained(client, server.pid, warm)
        log = Log()
        await soak(client, visitors, server.pid, 60 * arguments.minutes, log)
        after = await drained(client, server.pid, log)
        afterwards = await still_fits(client, server.model)
    wrong = verdict(log, before, after, afterwards)
    _write(arguments, log, before, after, wrong)
    return 1 if wrong else 0


def _write(arguments: argparse.Namespace, log: Log, before: Sample, after: Sample, wrong: list[str]) -> None:
    figures = figures_of(log, before, after)
    for name, value in figures.items():
        print(f"{name:28} {value:12.2f}")
    for words in wrong:
        print(f"WRONG: {words}")
    if arguments.minutes < arguments.written_from:
        _say(f"Not written: results need at least {arguments.written_from:g} minutes.")
        return
    deeds = Counter((outcome.deed, outcome.how, outcome.status) for outcome in log.outcomes)
    details: dict[str, Any] = {
        "model": Path(arguments.model).name,
        "seed": arguments.seed,
        "visitors": VISITORS,
        "n_ctx": N_CTX,
        "versions": versions(),
        "state": state_now(),
        "wrong": wrong,
        "outcomes": [[*key, count] for key, count in sorted(deeds.items())],
        "before": asdict(before),
        "after": asdict(after),
        "samples": [asdict(sample) for sample in log.samples],
    }
    command = (
        f"python -m benchmarks.soak --minutes {arguments.minutes:g} --model {Path(arguments.model).name}"
    )
    write_results(RESULTS / "soak.json", figures, command=command, details=details)
    draw(log.samples, f"{arguments.minutes:g} minutes of {VISITORS} visitors", RESULTS / "soak.png")
    _say(f"Written: {RESULTS / 'soak.json'} and soak.png")


def main() -> None:
    """Soak; exit 1 where something is wrong, 2 where it could not be tried."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--model", default="smollm2-135m", help="installed model or GGUF file")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--written-from", type=float, default=10.0, help="shorter soaks write nothing")
    arguments = parser.parse_args()
    try:
        model = find_model(arguments.model)
        with tempfile.TemporaryDirectory(prefix="localsmith-soak-") as logs, throwaway_home(model) as home:
            store = KeyStore(load_settings().model_copy(update={"home": home}).keys_path)
            _, key = store.create("soak", SCOPES)
            with Server(our_command(_setup(model), home), Path(logs) / "serve.log", key) as server:
                sys.exit(asyncio.run(run(arguments, server, key)))
    except (LocalsmithError, ServerFailed, OSError, httpx.HTTPError, psutil.Error) as exc:
        _say(f"Nothing was written: {exc!r}")
        sys.exit(2)


def _setup(model: ModelFile) -> Setup:
    cores = psutil.cpu_count(logical=False) or 1
    return Setup(model.path, model.name, model.sha256, n_threads=cores, n_ctx=N_CTX)


def _show(log: Log, seconds: float) -> None:
    sample, counted = log.samples[-1], Counter(outcome.how for outcome in log.outcomes)
    left = max(0.0, seconds - log.now_s)
    words = ", ".join(f"{how} {count}" for how, count in sorted(counted.items()))
    engine = f"{sample.running} running, {sample.waiting} waiting"
    process = f"{sample.rss_mib:.0f} MiB, {sample.threads} threads, {sample.open_files} files"
    _say(f"{left / 60:5.1f} min left: {words or 'nothing yet'}; {engine}; {process}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
