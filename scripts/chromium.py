"""Finds a Chromium for the browser tests, or installs one; never lets them be skipped.

Place in the data's way: `make test` runs it before pytest and hands the path on as LOCALSMITH_CHROMIUM.
Standard library only, but run with the environment's Python, so that Playwright's own Chromium is seen.

Example: `.venv/bin/python scripts/chromium.py` prints the path of the browser.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import machine

VARIABLE = "LOCALSMITH_CHROMIUM"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_APPLICATIONS = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
_DEBIAN_PACKAGES = ("chromium", "fonts-dejavu-core", "fonts-liberation")


def find() -> str | None:
    """Return the path of a Chromium that starts, or None."""
    candidates = [os.environ.get(VARIABLE), *map(shutil.which, _NAMES), *_APPLICATIONS, _playwrights_own()]
    return next((path for path in candidates if path and _starts(path)), None)


def install() -> None:
    """Try to install one: from Debian's packages where we may, else Playwright's own build."""
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    is_debian = "ID=debian" in _os_release()  # Ubuntu's package is a stub that needs a running snap service
    if is_debian and shutil.which("apt-get"):
        _show("apt-get installs chromium for the browser tests")
        _run([*prefix, "apt-get", "update", "-qq"])
        _run([*prefix, "apt-get", "install", "-qq", "-y", "--no-install-recommends", *_DEBIAN_PACKAGES])
        if find():
            return
    _show("Playwright downloads a Chromium for the browser tests")
    _run([sys.executable, "-m", "playwright", "install", "chromium"])
    if not find() and (not prefix or _run([*prefix, "true"])):
        _run([*prefix, sys.executable, "-m", "playwright", "install-deps", "chromium"])


def _playwrights_own() -> str | None:
    code = (
        "from playwright.sync_api import sync_playwright as s\n"
        "with s() as p: print(p.chromium.executable_path)"
    )
    path = machine.output(sys.executable, "-c", code).strip()
    return path if path and Path(path).exists() else None


def _starts(path: str) -> bool:
    return bool(machine.output(path, "--version"))


def _os_release() -> list[str]:
    file = Path("/etc/os-release")
    return file.read_text().splitlines() if file.is_file() and platform.system() == "Linux" else []


def _show(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _run(command: list[str]) -> bool:
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        return subprocess.run(command, stdout=sys.stderr, env=env, check=False).returncode == 0
    except OSError:
        return False


def main() -> int:
    """Print the path of a Chromium, installing one if need be."""
    path = find()
    if path is None:
        install()
        path = find()
    if path is None:
        _show(
            "The browser tests need Chromium, and none could be installed here. Install one with:\n"
            f"    {machine.install_hint('chromium')}\n"
            f"or set {VARIABLE} to the path of one."
        )
        return 1
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
