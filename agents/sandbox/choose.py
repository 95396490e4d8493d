"""Chooses the sandbox: the strongest there is, or the one the settings name.

Place in the data's way: the front door calls this once; PAL and the Python tool get what it returns.

Example:
    sandbox = choose_sandbox(settings.sandbox, settings.sandbox_cache_dir)
"""

from __future__ import annotations

from pathlib import Path

import structlog

from ...core.contracts import Sandbox
from ...core.errors import SandboxError
from ...core.settings import SandboxSettings
from .bubblewrap import BubblewrapSandbox
from .compiled import compiled_folder, is_compiled
from .wasm import WasmSandbox

log = structlog.get_logger(__name__)


def choose_sandbox(settings: SandboxSettings, cache: Path) -> Sandbox:
    """Return a sandbox that works here: WebAssembly where it is compiled, else bubblewrap; compile nothing.

    Args:
        settings: Which kind, and its limits.
        cache: Folder of the compiled module, `Settings.sandbox_cache_dir`.

    Raises:
        SandboxError: There is none, or not the one that the settings name; the hint says what to do.
    """
    if settings.kind == "bubblewrap":
        return BubblewrapSandbox(settings)
    try:
        return _wasm(settings, cache)
    except SandboxError as missing:
        if settings.kind == "wasm":
            raise
        try:
            sandbox = BubblewrapSandbox(settings)
        except SandboxError as exc:
            raise SandboxError(f"Programs can't be run here. {missing} {exc}", hint=missing.hint) from exc
        log.warning("weaker_sandbox", kind=sandbox.name, reason=str(missing))
        return sandbox


def _wasm(settings: SandboxSettings, cache: Path) -> WasmSandbox:
    if not is_compiled(cache):
        raise SandboxError(
            "The WebAssembly sandbox is not compiled yet.",
            hint="Run `localsmith setup`; it takes a minute or two, once.",
        )
    sandbox = WasmSandbox(compiled_folder(cache), settings)
    sandbox.warm_up()  # while the model still writes the first program
    return sandbox
