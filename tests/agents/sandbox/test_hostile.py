"""Programs that want out, or want everything: none gets it, and all end in time."""

from __future__ import annotations

from pathlib import Path

import pytest
from localsmith.core.contracts import Sandbox

pytestmark = pytest.mark.timeout(1200)

LIMIT_S = 0.3  # most of the suite's time is that of programs which would never end
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _benchmarks_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def test_every_hostile_program_is_contained(sandbox: Sandbox) -> None:
    from benchmarks.hostile import containment

    found = containment(sandbox, limit_s=LIMIT_S)  # one at a time: the memory of two would be added up
    assert found.escapes == []
    assert found.contained == found.total >= 40
    assert found.growth_bytes < 300_000_000
    assert sandbox.run("print('still here')").stdout == "still here\n"


def test_a_sandbox_that_is_none_is_found_out(tmp_path: Path) -> None:
    """The suite's own check: what only pretends to hold does not pass."""
    from localsmith.core.types import ProgramResult

    from benchmarks.hostile import containment

    class Leaky:
        name = "leaky"

        def run(self, program: str, *, timeout_s: float | None = None) -> ProgramResult:
            return ProgramResult("ok", "ESCAPED", duration_s=9.0)

    found = containment(Leaky(), limit_s=LIMIT_S)
    assert found.contained == 0
    assert len(found.escapes) > 2 * found.total
