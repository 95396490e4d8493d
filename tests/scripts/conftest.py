"""The files of scripts/, which are no package, as modules."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Return a function that imports a file of scripts/ by its name."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module
