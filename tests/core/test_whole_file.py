"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from localsmith.core.errors import StorageError
from localsmith.core.whole_file import whole_file, write_json


def test_an_error_on_the_way_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    write_json(target, {"loss": 1.5})
    with pytest.raises(RuntimeError), whole_file(target) as partial:
        partial.write_text('{"loss"')
        raise RuntimeError("stopped")
    assert json.loads(target.read_text()) == {"loss": 1.5}
    assert list(tmp_path.iterdir()) == [target]


def test_a_number_that_json_does_not_know_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    write_json(target, {"loss": 1.5})
    with pytest.raises(ValueError, match="JSON"):
        write_json(target, {"loss": math.nan})
    assert json.loads(target.read_text()) == {"loss": 1.5}
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_can_not_be_made_is_told_with_the_cause(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match="can't be written") as caught:
        write_json(tmp_path / "taken" / "figures.json", {})
    assert "another disk" in caught.value.hint
