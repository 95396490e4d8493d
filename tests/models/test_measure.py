"""Speed: several rounds, the best of them kept, and what else ran beside."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from localsmith.core.settings import load_settings
from localsmith.core.types import Message, Usage
from localsmith.models.catalog import measure as measuring
from localsmith.models.catalog.installed import installed_model
from localsmith.models.catalog.measure import measure, measure_here
from localsmith.models.catalog.selection import choose_here, threads
from localsmith.models.catalog.speed import SPEED_FILE, Speed, SpeedStore
from localsmith.models.scripted import ScriptedGeneration, ScriptedModel

SMALL_MODEL = "smollm2-135m"


class UnsteadyModel(ScriptedModel):
    """Takes the given seconds for reading and writing, one round after the other."""

    def __init__(self, seconds: Sequence[tuple[float, float]]) -> None:
        super().__init__(lambda messages: "one two three four")
        self.seconds = [(0.001, 0.001), *seconds]  # the first run warms up

    def submit(self, messages: Sequence[Message], *args: Any, **kwargs: Any) -> ScriptedGeneration:
        generation = super().submit(messages, *args, **kwargs)
        prefill_s, decode_s = self.seconds[len(self.prompts) - 1]
        generation.__class__ = TimedGeneration
        generation.seen = Usage(400, 0, 20, prefill_s, prefill_s, decode_s)  # type: ignore[attr-defined]
        return generation


class TimedGeneration(ScriptedGeneration):
    @property
    def usage(self) -> Usage:
        return self.seen  # type: ignore[attr-defined, no-any-return]


def test_one_busy_moment_does_not_decide() -> None:
    model = UnsteadyModel([(40.0, 2.0), (4.0, 10.0), (8.0, 4.0)])
    rounds: list[tuple[int, int]] = []
    speed = measure(model, on_round=lambda done, total: rounds.append((done, total)))
    assert (speed.prompt_tokens_per_s, speed.decode_tokens_per_s) == (100.0, 10.0)
    assert rounds == [(1, 3), (2, 3), (3, 3)]
    assert abs(speed.measured_at - time.time()) < 60


def test_a_slow_machine_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "MAX_SECONDS", 0.0)
    speed = measure(UnsteadyModel([(40.0, 2.0)]))
    assert speed.prompt_tokens_per_s == 10.0


class Clocks:
    """What psutil would tell, in seconds."""

    def __init__(self) -> None:
        self.user, self.idle, self.guest, self.own = 50.0, 900.0, 20.0, 7.0

    def system(self) -> Any:
        return namedtuple("scputimes", "user system idle iowait guest steal")(
            self.user, 5.0, self.idle, 3.0, self.guest, 0.0
        )

    def process(self) -> Any:
        return namedtuple("pcputimes", "user system")(self.own, 1.0)


def test_what_other_programs_take_is_told_and_own_work_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks()
    monkeypatch.setattr(psutil, "cpu_times", clocks.system)
    monkeypatch.setattr(psutil.Process, "cpu_times", clocks.process)
    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
    others = measuring._OtherPrograms()
    clocks.user += 14  # of two cores: 8 s of this process, 6 s of others
    clocks.own += 8
    clocks.guest += 4  # Linux counts it in `user` as well
    clocks.idle += 6
    assert others.busy_cores() == pytest.approx(0.6)


def test_a_speed_says_in_words_when_it_is_doubtful() -> None:
    assert str(Speed(95.4, 12.1)) == "reads 95, writes 12 tokens/s"
    doubtful = Speed(20.0, 2.0, busy_cores=float(os.cpu_count() or 1))
    assert doubtful.is_doubtful
    assert "other programs" in str(doubtful)


def test_a_speed_kept_by_an_earlier_version_is_still_read(tmp_path: Path) -> None:
    path = tmp_path / "speed.json"
    store = SpeedStore(path, host="a")
    store.put("f" * 64, 2, Speed(10.0, 2.0))
    kept = {
        key: {k: v for k, v in value.items() if k.endswith("_s")}
        for key, value in json.loads(path.read_text()).items()
    }
    path.write_text(json.dumps(kept))
    assert store.get("f" * 64, 2) == Speed(10.0, 2.0)


@pytest.mark.real_model
def test_measuring_here_replaces_the_speed_that_choices_rest_on(
    tmp_path: Path, models_home: Path, small_model_path: Path
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for entry in (models_home / "models").iterdir():
        if entry.is_dir():
            (models / entry.name).symlink_to(entry)
        elif entry.suffix == ".json":
            shutil.copy(entry, models / entry.name)
    settings = load_settings(home=tmp_path, model={"name": SMALL_MODEL, "n_ctx": 2048})
    model = installed_model(settings, SMALL_MODEL)
    store = SpeedStore(settings.models_dir / SPEED_FILE)
    store.put(model.sha256, threads(settings), Speed(0.5, 0.5))
    speed = measure_here(settings, model)
    assert speed.prompt_tokens_per_s > 5
    _, speeds = choose_here(settings)
    assert speeds[SMALL_MODEL] == speed
    assert json.loads((models / SPEED_FILE).read_text())
