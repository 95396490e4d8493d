"""The suite of hostile programs, and whether a sandbox contains them.

`benchmarks/sandbox.py` reports the figures, the tests fail where one gets out. A program is contained when it
ends within its limit and half a second, by that limit or in one of the ways listed for it, has printed
nothing of the secret and changed nothing of the host's.

Example: `containment(sandbox, limit_s=1.0).escapes == []`
"""

from __future__ import annotations

import os
import secrets
import tempfile
import threading
import time
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
from localsmith.core.contracts import Sandbox
from localsmith.core.types import ProgramResult

PROGRAMS = Path(__file__).resolve().parent.parent / "tests" / "data" / "hostile_programs.toml"
GRACE_S = 0.5
_SAMPLE_S = 0.02


@dataclass(frozen=True, slots=True)
class HostileProgram:
    """A program of the suite, and how it may end."""

    name: str
    source: str
    ends: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Containment:
    """What the suite came to.

    Attributes:
        total: Programs run.
        escapes: What was not contained, a line each.
        ends: How many programs ended in which way.
        slowest_s: Longest run beyond its limit.
        growth_bytes: Most memory of this process and its children above what they held before.
        left_bytes: The same after the last program.
    """

    total: int
    escapes: list[str]
    ends: dict[str, int]
    slowest_s: float
    growth_bytes: int
    left_bytes: int

    @property
    def contained(self) -> int:
        """Programs that were contained in every way."""
        return self.total - len({line.partition(":")[0] for line in self.escapes})


def hostile_programs() -> list[HostileProgram]:
    """Return the suite."""
    found = tomllib.loads(PROGRAMS.read_text(encoding="utf-8"))["program"]
    return [HostileProgram(item["name"], item["source"], tuple(item["ends"])) for item in found]


def containment(sandbox: Sandbox, *, limit_s: float) -> Containment:
    """Run the whole suite.

    Args:
        sandbox: What has to hold; warm, so that its own memory doesn't count as growth.
        limit_s: Time limit of each program.
    """
    secret = secrets.token_hex(8)
    programs = hostile_programs()
    with tempfile.TemporaryDirectory() as folder, _Memory() as memory:
        canary = Path(folder) / "canary.txt"
        canary.write_text(secret)
        os.environ["LOCALSMITH_CANARY"] = secret

        def attack(program: HostileProgram) -> ProgramResult:
            source = program.source.replace("@CANARY@", str(canary)).replace("@TERCES@", secret[::-1])
            return sandbox.run(source, timeout_s=limit_s)

        try:
            results = [attack(program) for program in programs]
        finally:
            del os.environ["LOCALSMITH_CANARY"]
        left_bytes = memory.held() - memory.before
        is_whole = canary.exists() and canary.read_text() == secret
    escapes = [
        f"{program.name}: {fault}"
        for program, result in zip(programs, results, strict=True)
        for fault in faults(program, result, secret, limit_s)
    ]
    if not is_whole:
        escapes += [f"{program.name}: a file of the host's was changed" for program in programs]
    return Containment(
        len(programs),
        escapes,
        dict(Counter(result.status for result in results)),
        max(result.duration_s for result in results) - limit_s,
        memory.growth_bytes,
        left_bytes,
    )


def faults(program: HostileProgram, result: ProgramResult, secret: str, limit_s: float) -> list[str]:
    """Return in which ways a program was not contained."""
    found = {
        f"took {result.duration_s:.2f} s": result.duration_s > limit_s + GRACE_S,
        f"printed {result.stdout[:100]!r}": "ESCAPED" in result.stdout or secret in result.stdout,
        f"ended as {result.status}: {result.error[-150:]}": result.status not in {*program.ends, "timeout"},
        "left a file behind": any(Path("/tmp").glob("left-behind")),
    }
    return [fault for fault, is_so in found.items() if is_so]


class _Memory:
    """Watches the memory of this process and all its children; shared pages count in each."""

    def __enter__(self) -> _Memory:
        self.before = self.held()
        self.growth_bytes = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def held(self) -> int:
        """Resident bytes just now; a child that is no other program yet only has its parent's pages."""
        own = psutil.Process()
        command, total = own.cmdline(), own.memory_info().rss
        for child in own.children(recursive=True):
            try:
                total += 0 if child.cmdline() == command else child.memory_info().rss
            except psutil.Error:
                continue
        return total

    def _watch(self) -> None:
        while not self._is_over.is_set():
            self.growth_bytes = max(self.growth_bytes, self.held() - self.before)
            time.sleep(_SAMPLE_S)
