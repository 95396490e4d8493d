"""What is wrong with this installation, and what to do about it.

Place in the data's way: `localsmith doctor`; each check says one thing about engine, models, disk and
library.

Example:
    [check.name for check in run_checks(load_settings()) if not check.is_ok]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from .core.errors import LocalsmithError
from .core.settings import Settings, remote_api_key
from .models.catalog.installed import InstalledModel
from .models.catalog.selection import threads
from .models.catalog.speed import SPEED_FILE, Speed, SpeedStore
from .models.catalog.weights import Weights, weights_of
from .models.remote.address import is_remote

MIN_FREE_BYTES = 2_000_000_000
SMOKE_TIMEOUT_S = 120
# A speed kept that differs more than this from what is seen now was measured at a bad moment.
MAX_SPEED_RATIO = 3.0
MAX_SPEED_AGE_DAYS = 90
# Reads and writes a little in a process of its own: a miscompiled kernel kills the process, not this one.
_SMOKE = """
import sys
from pathlib import Path
from localsmith.core.settings import ModelSettings
from localsmith.models.engine import Engine
from localsmith.models.llama.adapter import LoraAdapter
from localsmith.models.catalog.measure import measure
settings = ModelSettings(n_ctx=1024, n_threads=int(sys.argv[2]))
adapter = LoraAdapter(Path(sys.argv[3]), float(sys.argv[4])) if sys.argv[3:] else None
engine = Engine(Path(sys.argv[1]), name="doctor", settings=settings, adapter=adapter)
print(measure(engine, rounds=1).prompt_tokens_per_s)
engine.close()
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        name: What was checked.
        is_ok: Whether it is as it should be.
        detail: What was found, with the next step where something is wrong.
    """

    name: str
    is_ok: bool
    detail: str


def run_checks(settings: Settings) -> Iterator[Check]:
    """Check everything that a question needs; takes some seconds."""
    yield _data_folder(settings)
    yield _gpu()
    yield from _models(settings)
    yield _library(settings)


def _data_folder(settings: Settings) -> Check:
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(settings.home).free
    except OSError as exc:
        return Check("data folder", False, f"{settings.home}: {exc.strerror}. Set LOCALSMITH_HOME.")
    if not os.access(settings.home, os.W_OK):
        return Check("data folder", False, f"{settings.home} can't be written. Set LOCALSMITH_HOME.")
    detail = f"{settings.home}, {free / 1e9:.1f} GB free"
    return Check("data folder", free >= MIN_FREE_BYTES, detail)


def _gpu() -> Check:
    import llama_cpp

    built = llama_cpp.llama_supports_gpu_offload()
    present = shutil.which("nvidia-smi") is not None
    if present and not built:
        return Check("GPU", False, "there, but the engine was built without it; see docs/how-to/gpu.md")
    return Check("GPU", True, "used" if built else "none; the engine runs on the CPU")


def _models(settings: Settings) -> Iterator[Check]:
    from .models.catalog.installed import installed

    models = installed(settings)
    is_elsewhere = is_remote(settings.model.name)
    if is_elsewhere:
        yield _model_server(settings)
    for kind in ("embedding",) if is_elsewhere else ("embedding", "chat"):
        if not any(model.kind == kind for model in models.values()):
            yield Check(f"{kind} model", False, "none is installed; run `localsmith setup`")
    for name, model in models.items():
        try:
            if model.kind == "chat":
                yield _smoke(settings, model, weights_of(settings, model))
                continue
            model.verify()
        except LocalsmithError as exc:
            yield Check(name, False, f"{exc} {exc.hint}")
            continue
        yield Check(name, True, "whole")


def _model_server(settings: Settings) -> Check:
    from .models.remote.model import connect

    at_once = threading.Event()
    at_once.set()
    try:
        model = connect(settings.model.name, api_key=remote_api_key(settings), n_ctx=1024, stop=at_once)
    except LocalsmithError as exc:
        return Check("model server", False, f"{exc} {exc.hint}")
    counts = "exactly" if model.counts_exactly else "not; they are estimated here"
    model.close()
    return Check("model server", True, f"has {model.name}; counts tokens {counts}")


def _smoke(settings: Settings, model: InstalledModel, weights: Weights) -> Check:
    name = model.name
    command = [sys.executable, "-c", _SMOKE, str(weights.path), str(settings.model.n_threads)]
    if weights.adapter is not None:
        command += [str(weights.adapter.path), str(weights.adapter.scale)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SMOKE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return Check(name, False, f"no answer within {SMOKE_TIMEOUT_S} s; is the machine very busy?")
    if done.returncode < 0:
        return Check(name, False, f"the engine died by signal {-done.returncode}; run `make engine` again")
    if done.returncode:
        return Check(name, False, done.stderr.strip().splitlines()[-1])
    kept = SpeedStore(settings.models_dir / SPEED_FILE).get(model.sha256, threads(settings))
    reads_now = float(done.stdout.split()[-1])
    return Check(name, True, f"answers, {speed_words(name, reads_now, kept, time.time())}")


def speed_words(name: str, reads_now: float, kept: Speed | None, now: float) -> str:
    """Say how fast a model reads, and where the speed that choices and time budgets rest on is in doubt.

    Args:
        name: The model.
        reads_now: Prompt tokens a second, seen a moment ago.
        kept: The speed kept; None where it was not measured yet.
        now: Seconds since the epoch, UTC.
    """
    seen = f"reads {reads_now:.0f} tokens/s"
    again = f"localsmith models measure {name}"
    if kept is None:
        return seen
    expected = kept.prompt_tokens_per_s
    if reads_now > MAX_SPEED_RATIO * expected:
        return f"{seen}, but {expected:.0f} are reckoned with, so less is read than could be; run: {again}"
    if expected > MAX_SPEED_RATIO * reads_now:
        return f"{seen}, but {expected:.0f} are reckoned with; if the machine isn't just busy, run: {again}"
    age_days = (now - kept.measured_at) / 86_400
    if kept.measured_at and age_days > MAX_SPEED_AGE_DAYS:
        return f"{seen}; measured {age_days:.0f} days ago, to measure again run: {again}"
    return seen


def _library(settings: Settings) -> Check:
    from .front_door import Localsmith

    try:
        with Localsmith(settings=settings) as ls:
            problems = ls.library.verify()
            num_documents = sum(info.num_documents for info in ls.library.collections())
    except LocalsmithError as exc:
        return Check("library", False, f"{exc} {exc.hint}")
    return Check("library", not problems, "; ".join(problems) or f"{num_documents} documents, whole")
