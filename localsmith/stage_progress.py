"""How far a command is: bars in a terminal, and where there is none, as in a log, a line now and then.

Place in the data's way: commands with stages that take long show them through here, on standard error.

Example:
    with stages() as on_stage:
        on_stage("training", 20, 400, "loss 1.2")
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

OnStage: TypeAlias = Callable[[str, int, int, str], None]
"""Called with (stage, done, in all or 0 where that is unknown, more words for people)."""
SECONDS_BEFORE_FIRST_LINE = 1.0
"""What is over sooner needs no line."""
SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def stages(console: Console | None = None) -> Iterator[OnStage]:
    """Show how far each stage is, with the time left; yield what is told of it.

    Args:
        console: Where; None for standard error.
    """
    console = console or Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield StageLines(lambda line: console.print(line, markup=False, soft_wrap=True)).show
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}"),
    )
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as progress:

        def show(stage: str, done: int, total: int, words: str) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(_title(stage), total=total or None, words=words)
            progress.update(bars[stage], completed=done, total=total or None, words=words)

        yield show


class StageLines:
    """Says how far each stage is: soon after its beginning, and then at most once in ten seconds.

    Args:
        write: Called with each line.
        clock: Seconds, for tests.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._begun: dict[str, tuple[float, int]] = {}  # (when, done at that time)
        self._said: dict[str, float] = {}

    def show(self, stage: str, done: int, total: int, words: str) -> None:
        """Write a line if the stage takes long and its last line is old; see `OnStage`."""
        now = self._clock()
        begun, at_first = self._begun.setdefault(stage, (now, done))
        since = self._said.get(stage, begun + SECONDS_BEFORE_FIRST_LINE - SECONDS_BETWEEN_LINES)
        if now - since < SECONDS_BETWEEN_LINES:
            return
        self._said[stage] = now
        parts = [f"{done} of {total}" if total else f"{done}" if done else ""]
        if total > done > at_first:
            parts.append(f"about {duration((now - begun) / (done - at_first) * (total - done))} left")
        text = ", ".join(part for part in (*parts, words) if part)
        self._write(f"{_title(stage)}: {text}" if text else _title(stage))


def duration(seconds: float) -> str:
    """Return a time in words, to two figures.

    >>> duration(8), duration(150), duration(7_500), duration(200_000)
    ('8 s', '2 min', '2 h 5 min', '2 d 7 h')
    """
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 1.5:
        return f"{seconds:.0f} s"
    if hours < 1:
        return f"{int(minutes)} min"
    if hours < 24:
        return f"{int(hours)} h {int(minutes % 60)} min"
    days = int(hours / 24)
    return f"{days} d {int(hours % 24)} h" if days < 10 else f"{days:,} days"


def _title(stage: str) -> str:
    return stage[:1].upper() + stage[1:]
