"""The how-to page on reasoning is true: its Python runs from top to bottom, and its arithmetic is right."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "how-to" / "reasoning.md").read_text(encoding="utf-8")
TIMEOUT_S = 200


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.real_model
def test_the_python_of_the_page_runs(
    tmp_path: Path, models_home: Path, small_model_path: Path, embedder_path: Path
) -> None:
    """With the smallest model: that the lines run is tested here, that answers are right is not."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "models").symlink_to(models_home / "models")
    (tmp_path / "moods.toml").write_text(blocks("toml")[0])
    environment = {
        "LOCALSMITH_HOME": str(home),
        "LOCALSMITH_MODEL__NAME": "smollm2-135m",
        "LOCALSMITH_ANSWER__MAX_TOKENS": "8",
    }
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks("python"))],
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "vote" in done.stdout and done.stdout.strip().splitlines()[-1] in {"good", "bad"}
    assert len((tmp_path / "train.jsonl").read_text().splitlines()) == 2


def test_the_pears_and_the_rings_cost_what_the_page_says() -> None:
    pear, ring = 3, 12 * 3 + 40
    for number in (12 * pear, ring, 5 * pear, 2 * ring, 5 * pear + 2 * ring):
        assert re.search(rf"\b{number}\b", PAGE)


def test_every_strategy_of_the_page_is_known() -> None:
    from localsmith.agents.registry import STRATEGIES

    named = re.findall(r"^\| `([\w-]+)` \|", PAGE, re.MULTILINE)
    assert len(named) == 6 and set(named) <= set(STRATEGIES)
