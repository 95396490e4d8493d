"""The estimate against the peak of real steps; all cases are in `python -m benchmarks.estimate`."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "explanation" / "training-memory.md"


@pytest.mark.real_model
def test_the_estimate_of_a_real_run_is_within_a_quarter_of_its_peak(
    small_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    from localsmith.training.estimate.memory import estimate_run
    from localsmith.training.estimate.shape import read_shape

    from benchmarks.estimate import CASES, LIMIT, measure

    number = next(i for i, case in enumerate(CASES) if case.name == "LoRA r=8, 1 x 256")
    estimate = estimate_run(read_shape(small_model_path), CASES[number].plan).total_bytes
    assert estimate == pytest.approx(measure(number, str(small_model_path)), rel=LIMIT)


def test_the_example_of_the_page_prints_what_it_says() -> None:
    text = PAGE.read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (table,) = re.findall(r"^```text\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(PAGE), "exec"), {})
    assert printed.getvalue().startswith(table)
    assert "a laptop has 5.0 GB free" in printed.getvalue()
