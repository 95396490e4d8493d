"""Programs that want out, or want everything: none gets it, and all end in time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest
from localsmith.core.contracts import Sandbox

from conftest import HostileProgram, hostile_programs

pytestmark = pytest.mark.timeout(1200)

LIMIT_S = 0.6
SECRET = "pear-7341-orchard"


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of the host's with a secret, which is in the environment, too."""
    monkeypatch.setenv("LOCALSMITH_TEST_SECRET", SECRET)
    path = tmp_path / "canary.txt"
    path.write_text(SECRET)
    return path


def memory_bytes() -> int:
    """What this process and all its children hold."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    total = 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def escapes(sandbox: Sandbox, program: HostileProgram, canary: Path) -> list[str]:
    """Run one program; return what it did that it must not."""
    source = program.source.replace("@CANARY@", str(canary)).replace("@TERCES@", SECRET[::-1])
    began = time.monotonic()
    result = sandbox.run(source, timeout_s=LIMIT_S)
    took_s = time.monotonic() - began
    found = []
    if result.duration_s > LIMIT_S + 0.5:
        found.append(f"took {result.duration_s:.2f} s of {took_s:.2f}")
    if "ESCAPED" in result.stdout or SECRET in result.stdout + result.error:
        found.append(f"printed {result.stdout[:200]!r}")
    if result.status not in program.ends:
        found.append(f"ended as {result.status}: {result.error[-200:]}")
    if canary.read_text() != SECRET:
        found.append("changed a file of the host's")
    return [f"{program.name}: {what}" for what in found]


def test_the_suite_is_large() -> None:
    assert len({program.name for program in hostile_programs()}) >= 40


def test_every_hostile_program_is_contained(sandbox: Sandbox, canary: Path) -> None:
    before, files = memory_bytes(), set(os.listdir())
    found = [what for program in hostile_programs() for what in escapes(sandbox, program, canary)]
    assert found == []
    assert sandbox.run("print('still here')").stdout == "still here\n"
    assert memory_bytes() - before < 300_000_000
    assert set(os.listdir()) == files
    assert not [p for p in Path("/tmp").glob("left-behind")]
