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
from collections.abc import Iterator
from dataclasses import dataclass

from .core.errors import LocalsmithError
from .core.settings import Settings

MIN_FREE_BYTES = 2_000_000_000
SMOKE_TIMEOUT_S = 120
# Decodes a few tokens in a process of its own: a miscompiled kernel kills the process, not this one.
_SMOKE = """
import sys
from pathlib import Path
from localsmith.core.settings import ModelSettings
from localsmith.core.types import Message, SamplingParams
from localsmith.models.engine import Engine
engine = Engine(Path(sys.argv[1]), name="doctor", settings=ModelSettings(n_ctx=512))
generation = engine.submit([Message("user", "Hello " * 100)], SamplingParams(max_tokens=8))
list(generation)
print(generation.usage.completion_tokens)
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
    from .models.installed import installed

    models = installed(settings)
    for kind in ("embedding", "chat"):
        if not any(model.kind == kind for model in models.values()):
            yield Check(f"{kind} model", False, "none is installed; run `localsmith setup`")
    for name, model in models.items():
        try:
            model.verify()
        except LocalsmithError as exc:
            yield Check(name, False, f"{exc} {exc.hint}")
            continue
        yield _smoke(name, str(model.path)) if model.kind == "chat" else Check(name, True, "whole")


def _smoke(name: str, path: str) -> Check:
    try:
        done = subprocess.run(
            [sys.executable, "-c", _SMOKE, path], capture_output=True, text=True, timeout=SMOKE_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return Check(name, False, f"no answer within {SMOKE_TIMEOUT_S} s; is the machine very busy?")
    if done.returncode < 0:
        return Check(name, False, f"the engine died by signal {-done.returncode}; run `make engine` again")
    if done.returncode:
        return Check(name, False, done.stderr.strip().splitlines()[-1])
    return Check(name, True, "answers")


def _library(settings: Settings) -> Check:
    from .front_door import Localsmith

    try:
        with Localsmith(settings=settings) as ls:
            problems = ls.library.verify()
            num_documents = sum(info.num_documents for info in ls.library.collections())
    except LocalsmithError as exc:
        return Check("library", False, f"{exc} {exc.hint}")
    return Check("library", not problems, "; ".join(problems) or f"{num_documents} documents, whole")
