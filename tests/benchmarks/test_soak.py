"""The soak's own promises: it does what visitors do, sees what leaks, and is content where nothing does."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from localsmith.models.scripted import ScriptedModel

Served = Callable[..., tuple[str, str]]
MAX_BODY_BYTES = 100_000


def reply(messages: Any) -> str:
    return '{"town": "Bath", "people": 3} and so on and on'


def sample(**changes: Any) -> Any:
    from benchmarks.soak_watch import Sample

    return replace(Sample(0, 500, 800, 20, 30, 0, 0, 0, 900, 4, 4096, 16, 10), **changes)


def outcome(**changes: Any) -> Any:
    from benchmarks.soak_visitors import Outcome

    return replace(Outcome("stream", "ended", 200, True, 1.0), **changes)


def log_of(*outcomes: Any, samples: Any = (), started: int | None = None) -> Any:
    from benchmarks.soak_verdict import Log

    return Log(0.0, len(outcomes) if started is None else started, list(outcomes), list(samples))


def test_every_kind_of_visitor_finds_our_server_as_it_should_be(served: Served) -> None:
    from benchmarks.soak_visitors import Visitors, make_client

    model = ScriptedModel(reply, n_ctx=1024, token_delay_s=0.001)
    url, key = served(model, with_key=True, max_body_bytes=MAX_BODY_BYTES, requests_per_minute=0)

    async def all_deeds() -> list[Any]:
        async with make_client(url, key) as client:
            listed = [entry["id"] for entry in (await client.get("/v1/models")).json()["data"]]
            embedder = next((name for name in listed if name != "scripted"), "")
            visitors = Visitors(client, "scripted", embedder, 1024, MAX_BODY_BYTES, random.Random(3))
            found = []
            for name in [*visitors.deeds, *visitors.deeds]:
                if name != "tool call":  # the scripted model doesn't obey grammars
                    found += await visitors.deed(name)
            return found

    outcomes = asyncio.run(all_deeds())
    assert [found for found in outcomes if found.how == "broken"] == []
    hows = {(found.deed, found.how) for found in outcomes}
    assert {("stream", "ended"), ("disconnect", "left"), ("bad json", "refused")} <= hows
    assert {("wrong key", "refused"), ("oversize prompt", "refused"), ("oversize body", "refused")} <= hows
    assert {found.status for found in outcomes if found.deed == "wrong key"} == {401}


def test_a_short_soak_comes_to_rest_and_is_content(served: Served) -> None:
    from benchmarks import soak
    from benchmarks.soak_verdict import Log
    from benchmarks.soak_visitors import Visitors, make_client

    class Gentle(Visitors):
        def choose(self) -> str:
            return self._rng.choice(["stream", "disconnect", "bad json"])

    url, key = served(ScriptedModel(reply, token_delay_s=0.001), with_key=True, requests_per_minute=0)
    log = Log()

    async def short() -> None:
        async with make_client(url, key) as client:
            visitors = Gentle(client, "scripted", "", 1024, MAX_BODY_BYTES, random.Random(3))
            await soak.soak(client, visitors, os.getpid(), 1.5, log)

    asyncio.run(short())
    assert log.started == len(log.outcomes) > 5
    assert log.samples
    assert [found for found in log.outcomes if found.how == "broken"] == []


def test_a_quiet_log_is_content() -> None:
    from benchmarks.soak_verdict import figures_of, verdict

    samples = [sample(at_s=10.0 * n, rss_mib=500 + n % 3) for n in range(30)]
    refused = outcome(deed="burst", how="refused", status=429, is_stream=False)
    log = log_of(outcome(), outcome(how="left"), refused, samples=samples)
    assert verdict(log, sample(), sample(), "") == []
    figures = figures_of(log, sample(), sample())
    assert (figures["streams_started"], figures["streams_ended"]) == (2, 2)
    assert figures["server_errors"] == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"after": sample(running=1)}, "still running"),
        ({"after": sample(streams=2)}, "never ended"),
        ({"after": sample(threads=24)}, "threads at rest"),
        ({"after": sample(open_files=60)}, "open files"),
        ({"after": sample(sequences=17)}, "sequences in use"),
        ({"afterwards": "HTTP 500"}, "HTTP 500"),
        ({"log": log_of(outcome(), started=2)}, "2 requests began, 1 ended"),
        ({"log": log_of(outcome(how="broken", status=500, detail="boom"))}, "server errors"),
        ({"log": log_of(outcome(how="broken", detail="stream without an end"))}, "without an end"),
        (
            {"log": log_of(samples=[sample(at_s=10.0 * n, rss_mib=500 + 5 * n) for n in range(30)])},
            "memory grew",
        ),
    ],
)
def test_each_fault_is_named(changes: dict[str, Any], words: str) -> None:
    from benchmarks.soak_verdict import verdict

    given = {"log": log_of(outcome()), "before": sample(), "after": sample(), "afterwards": ""} | changes
    found = verdict(**given)
    assert found
    assert words in " ".join(found)


def test_figures_of_prometheus_are_read_and_labels_added_up() -> None:
    from benchmarks.soak_watch import parse_metrics

    text = (
        "# HELP localsmith_running Requests in the batch.\n"
        "localsmith_running 3.0\n"
        'localsmith_finished_total{reason="stop"} 5.0\n'
        'localsmith_finished_total{reason="length"} 2.0\n'
    )
    assert parse_metrics(text) == {"localsmith_running": 3.0, "localsmith_finished_total": 7.0}


def test_the_slope_of_memory_is_per_hour() -> None:
    from benchmarks.soak_watch import slope_per_hour

    rising = [sample(at_s=60.0 * n, rss_mib=500 + n) for n in range(20)]
    assert slope_per_hour(rising) == pytest.approx(60)


def test_the_soak_is_drawn(tmp_path: Path) -> None:
    from benchmarks.soak_watch import draw

    draw([sample(at_s=10.0 * n) for n in range(5)], "a test", tmp_path / "soak.png")
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")


def test_a_long_soak_is_written_and_a_short_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import argparse
    import json

    from benchmarks import soak

    monkeypatch.setattr(soak, "RESULTS", tmp_path)
    samples = [sample(at_s=10.0 * n) for n in range(5)]
    log = log_of(outcome(), outcome(how="refused", status=429, deed="burst"), samples=samples)
    arguments = argparse.Namespace(minutes=5.0, written_from=10.0, model="m", seed=7)
    soak._write(arguments, log, sample(), sample(), [])
    assert list(tmp_path.iterdir()) == []
    arguments.minutes = 30.0
    soak._write(arguments, log, sample(), sample(), ["something"])
    written = json.loads((tmp_path / "soak.json").read_text())
    assert written["figures"]["requests_started"] == 2
    assert written["details"]["wrong"] == ["something"]
    assert ["burst", "refused", 429, 1] in written["details"]["outcomes"]
    assert (tmp_path / "soak.png").exists()
