"""Compiles the sandbox before the tests, once a machine, so that no test has to wait for it.

Place in the data's way: `make test` runs it with the environment's Python after set-up; in `make run` the
chat compiles while it is open already. Where it can't be, the tests run all the same, and those of the
sandbox say why.

Example: `.venv/bin/python scripts/sandbox.py`
"""

from __future__ import annotations

import time

from localsmith.agents.sandbox import compile_module, is_compiled
from localsmith.core.errors import SandboxError
from localsmith.core.settings import load_settings
from progress import elapsed, say

_INTERVAL_S = 20.0


def main() -> None:
    """Compile where it is not done yet, and tell how far it is."""
    cache = load_settings().sandbox_cache_dir
    start = last = time.monotonic()

    def show(share: float, left_s: float | None) -> None:
        nonlocal last
        if time.monotonic() - last > _INTERVAL_S:
            last = time.monotonic()
            left = "" if left_s is None else f", about {elapsed(left_s)} left"
            say(f"Compiling the sandbox ... {share:.0%}{left}")

    try:
        if not is_compiled(cache):
            say("Compiling the sandbox (once; 1 to 3 minutes) ...")
            compile_module(cache, show)
            say(f"Compiling the sandbox: done in {elapsed(time.monotonic() - start)}")
    except SandboxError as error:
        say(f"The sandbox is not compiled. {error} {error.hint}")


if __name__ == "__main__":
    main()
