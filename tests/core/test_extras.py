"""The command that installs an extra is one that works where it is read."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest
from localsmith.core.extras import SETUP_STAMP, install_command

ROOT = Path(__file__).resolve().parents[2]


def test_an_environment_of_make_is_extended_by_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert install_command("train") == "pip install 'localsmith[train]'"
    (tmp_path / SETUP_STAMP).write_text("{}")
    assert install_command("train") == "make setup-train"


def test_every_extra_has_its_target_in_the_makefile() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [targets] = re.findall(r"^(.+): setup-%: python$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert sorted(targets.split()) == sorted(f"setup-{extra}" for extra in extras)


def test_the_stamp_is_the_one_that_set_up_leaves() -> None:
    assert f'"{SETUP_STAMP}"' in (ROOT / "scripts" / "setup.py").read_text()
