"""What the soak found: every request and sample, what is wrong with them, and the figures.

Place in the data's way: `soak` fills a `Log` -> `verdict` says in words what should not have been ->
`figures_of` goes into the results file.

Example:
    wrong = verdict(log, before, after, afterwards="")
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from .soak_visitors import OVERLOADED, Outcome
from .soak_watch import Sample, growth_mib, slope_per_hour

SPARE_THREADS = 3
"""More threads than at rest before: a pool may have met its busiest moment only after the warm-up."""
SPARE_FILES = 8
MAX_GROWTH_SHARE = 0.05
"""Memory of the last third over the first third of the soak, as a share of the latter."""
MIN_GROWTH_MIB = 24.0  # allocators and Python's own caches move by as much without any leak


@dataclass(slots=True)
class Log:
    """What has happened so far.

    Attributes:
        begun: Monotonic clock at the start.
        started: Requests begun.
        outcomes: Those that ended.
        samples: The server every ten seconds.
    """

    begun: float = field(default_factory=time.monotonic)
    started: int = 0
    outcomes: list[Outcome] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    @property
    def now_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.begun


def verdict(log: Log, before: Sample, after: Sample, afterwards: str) -> list[str]:
    """Return, in words, everything that is wrong; empty where nothing is."""
    broken = [outcome for outcome in log.outcomes if outcome.how == "broken"]
    wrong = [
        f"{count} x {deed}: status {status} {detail}".rstrip()
        for (deed, status, detail), count in Counter(
            (outcome.deed, outcome.status, outcome.detail[:160]) for outcome in broken
        ).most_common()
    ]
    server_errors = [o for o in log.outcomes if o.status >= 500 and o.status not in OVERLOADED]
    checks = [
        (log.started != len(log.outcomes), f"{log.started} requests began, {len(log.outcomes)} ended"),
        (bool(server_errors), f"{len(server_errors)} answers were server errors"),
        (
            bool(after.running or after.waiting),
            f"{after.running} still running, {after.waiting} still waiting",
        ),
        (bool(after.streams), f"{after.streams} streams never ended"),
        (after.cells > after.max_cells, f"{after.cells} of {after.max_cells} cells are in use"),
        (
            after.sequences > after.max_sequences,
            f"{after.sequences} of {after.max_sequences} sequences in use",
        ),
        (
            after.threads > before.threads + SPARE_THREADS,
            f"{after.threads} threads at rest, {before.threads} before",
        ),
        (
            after.open_files > before.open_files + SPARE_FILES,
            f"{after.open_files} open files at rest, {before.open_files} before",
        ),
        (_grows(log.samples), f"memory grew by {growth_mib(log.samples):.0f} MiB"),
        (bool(afterwards), afterwards),
    ]
    return wrong + [words for is_wrong, words in checks if is_wrong]


def _grows(samples: Sequence[Sample]) -> bool:
    if len(samples) < 3:
        return False
    first = samples[0].rss_mib
    return growth_mib(samples) > max(MIN_GROWTH_MIB, MAX_GROWTH_SHARE * first)


def figures_of(log: Log, before: Sample, after: Sample) -> dict[str, float]:
    """Return the figures for the results file."""
    counted = Counter(outcome.how for outcome in log.outcomes)
    streams = [outcome for outcome in log.outcomes if outcome.is_stream]
    return {
        "minutes": log.samples[-1].at_s / 60 if log.samples else 0.0,
        "requests_started": log.started,
        "requests_ended": len(log.outcomes),
        "answered": counted["ended"],
        "left_by_visitor": counted["left"],
        "refused": counted["refused"],
        "broken": counted["broken"],
        "streams_started": len(streams),
        "streams_ended": sum(outcome.how in {"ended", "left"} for outcome in streams),
        "server_errors": sum(o.status >= 500 and o.status not in OVERLOADED for o in log.outcomes),
        "rss_mib_before": before.rss_mib,
        "rss_mib_after": after.rss_mib,
        "rss_growth_mib": growth_mib(log.samples),
        "rss_slope_mib_per_hour": slope_per_hour(log.samples),
        "threads_before": before.threads,
        "threads_after": after.threads,
        "open_files_before": before.open_files,
        "open_files_after": after.open_files,
        "sequences_used_after": after.sequences,
        "sequences": after.max_sequences,
        "cells_used_after": after.cells,
        "cells": after.max_cells,
        "running_after": after.running,
        "waiting_after": after.waiting,
    }
