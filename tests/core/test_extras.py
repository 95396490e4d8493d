"""The command that installs an extra is one that works where it is read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from localsmith.core.extras import SETUP_STAMP, install_command

ROOT = Path(__file__).resolve().parents[2]


def test_an_environment_of_make_is_extended_by_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert install_command("train") == "pip install 'localsmith[train]'"
    (tmp_path / SETUP_STAMP).write_text("{}")
    command = install_command("train")
    assert command == "make setup-train"
    assert f"\n{command.removeprefix('make ')}: python\n" in (ROOT / "Makefile").read_text()


def test_the_stamp_is_the_one_that_set_up_leaves() -> None:
    assert f'"{SETUP_STAMP}"' in (ROOT / "scripts" / "setup.py").read_text()
