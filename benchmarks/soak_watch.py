"""Watches a server's process and its engine from outside while it is being used.

Place in the data's way: `soak` takes a `Sample` every ten seconds, from `/metrics` and the operating system
-> `growth_mib` says whether memory grows, `draw` shows it.

Example:
    sample = take_sample(pid, metrics_text, at_s=10.0)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Sample:
    """The server at one moment.

    Attributes:
        at_s: Seconds since the soak began.
        rss_mib: Resident memory of the server's process.
        tree_rss_mib: The same with the processes below it.
        threads: Its threads.
        open_files: Its open file descriptors, sockets included.
        running: Requests in the batch.
        waiting: Requests in the queue.
        streams: Completions being sent.
        cells: KV cells in use.
        sequences: Sequences in use.
        max_cells: KV cells there are.
        max_sequences: Sequences there are.
        finished: Generations that ended, of any reason.
    """

    at_s: float
    rss_mib: float
    tree_rss_mib: float
    threads: int
    open_files: int
    running: int
    waiting: int
    streams: int
    cells: int
    sequences: int
    max_cells: int
    max_sequences: int
    finished: int


def parse_metrics(text: str) -> dict[str, float]:
    """Return Prometheus's text form as numbers by name; those that differ by labels only are added up."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        head, _, value = line.rpartition(" ")
        name = head.partition("{")[0]
        found[name] = found.get(name, 0.0) + float(value)
    return found


def take_sample(pid: int, metrics: str, at_s: float) -> Sample:
    """Look at the process and read its figures.

    Raises:
        KeyError: The figures lack the engine's: the model is not loaded.
        psutil.NoSuchProcess: The server has died.
    """
    figures = parse_metrics(metrics)
    process = psutil.Process(pid)
    rss = process.memory_info().rss
    below = 0
    for child in process.children(recursive=True):
        try:
            below += child.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return Sample(
        at_s=round(at_s, 1),
        rss_mib=round(rss / MIB, 1),
        tree_rss_mib=round((rss + below) / MIB, 1),
        threads=process.num_threads(),
        open_files=process.num_fds(),
        running=int(figures["localsmith_running"]),
        waiting=int(figures["localsmith_waiting"]),
        streams=int(figures["localsmith_http_streams"]),
        cells=int(figures["localsmith_kv_cells_used"]),
        sequences=int(figures["localsmith_sequences_used"]),
        max_cells=int(figures["localsmith_kv_cells"]),
        max_sequences=int(figures["localsmith_sequences"]),
        finished=int(figures.get("localsmith_finished_total", 0)),
    )


def slope_per_hour(samples: Sequence[Sample]) -> float:
    """Return how fast the memory grows, MiB an hour, by least squares; 0 for fewer than three samples."""
    if len(samples) < 3:
        return 0.0
    hours = np.array([sample.at_s for sample in samples]) / 3600
    return float(np.polyfit(hours, [sample.rss_mib for sample in samples], 1)[0])


def growth_mib(samples: Sequence[Sample]) -> float:
    """Return how much more memory the last third takes than the first, by medians; robust to single peaks."""
    if len(samples) < 3:
        return 0.0
    third = len(samples) // 3
    memory = [sample.rss_mib for sample in samples]
    return float(np.median(memory[-third:]) - np.median(memory[:third]))


def draw(samples: Sequence[Sample], title: str, path: Path) -> None:
    """Draw memory, threads and files, requests, and the KV cache over time."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    minutes = [sample.at_s / 60 for sample in samples]
    panels: list[tuple[str, list[tuple[str, list[float]]]]] = [
        (
            "memory, MiB",
            [("server", [s.rss_mib for s in samples]), ("all", [s.tree_rss_mib for s in samples])],
        ),
        (
            "count",
            [("threads", [s.threads for s in samples]), ("open files", [s.open_files for s in samples])],
        ),
        ("requests", [("running", [s.running for s in samples]), ("waiting", [s.waiting for s in samples])]),
        (
            "share in use",
            [
                ("cells", [s.cells / max(1, s.max_cells) for s in samples]),
                ("sequences", [s.sequences / max(1, s.max_sequences) for s in samples]),
            ],
        ),
    ]
    figure, all_axes = plt.subplots(len(panels), 1, figsize=(8, 8), sharex=True)
    for axes, (unit, lines) in zip(all_axes, panels, strict=True):
        for (name, values), colour in zip(lines, ("#2f6f6a", "#c9a227"), strict=True):
            axes.plot(minutes, values, label=name, color=colour, linewidth=1.2)
        axes.set_ylabel(unit, fontsize=8)
        axes.set_ylim(0, 1.15 * max(1, *(max(values) for _, values in lines)))
        axes.legend(fontsize=7, loc="lower right")
    all_axes[-1].set_xlabel("minutes")
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
