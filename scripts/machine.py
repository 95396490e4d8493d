"""What this machine has: interpreter, compiler, processor, graphics card, package manager.

Place in the data's way: the first step of `make run` and `make test`; `setup.py` asks here what to install
and, where something is missing, which command a person has to type. Standard library only, because nothing
else is installed yet.

Example:
    >>> "g++" in install_hint("compiler") or "compiler" in install_hint("compiler")
    True
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

MIN_PYTHON = (3, 11)

_PACKAGES = {
    "apt-get": {"venv": "python3-venv", "compiler": "build-essential", "chromium": "chromium"},
    "dnf": {"venv": "python3-pip", "compiler": "gcc-c++", "chromium": "chromium"},
    "pacman": {"venv": "python", "compiler": "base-devel", "chromium": "chromium"},
    "zypper": {"venv": "python3-pip", "compiler": "gcc-c++", "chromium": "chromium"},
}
_INSTALL = {
    "apt-get": "sudo apt-get update && sudo apt-get install -y",
    "dnf": "sudo dnf install -y",
    "pacman": "sudo pacman -S --needed",
    "zypper": "sudo zypper install -y",
}


def output(*command: str) -> str:
    """Return a command's stdout, or "" where it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def install_hint(what: str) -> str:
    """Return the command that installs a missing part here.

    Args:
        what: "venv", "compiler" or "chromium".
    """
    if platform.system() == "Darwin":
        return {
            "compiler": "xcode-select --install",
            "venv": "brew install python@3.12",
            "chromium": "brew install --cask chromium",
        }[what]
    for manager, packages in _PACKAGES.items():
        if shutil.which(manager):
            return f"{_INSTALL[manager]} {packages[what]}"
    return f"your package manager, for {what}"


def missing_interpreter_parts() -> str:
    """Return what to do about this Python, or "" where it suffices."""
    if sys.version_info < MIN_PYTHON:
        return f"Python {platform.python_version()} is too old: Localsmith needs 3.11 or newer."
    try:
        import ensurepip  # noqa: F401  Debian splits it off; venv fails half-way without it
        import venv  # noqa: F401
    except ImportError:
        return f"Python's venv module is missing. Install it with:\n    {install_hint('venv')}"
    return ""


def cxx_compiler() -> str | None:
    """Return the C++ compiler that CMake will take, or None."""
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        found = shutil.which(name) if name else None
        if found:
            return found
    return None


def has_nvidia_gpu() -> bool:
    """Return whether an NVIDIA card with a working driver is here."""
    return "GPU " in output("nvidia-smi", "-L")


def cpu_flags() -> frozenset[str]:
    """Return the processor's feature flags as the kernel names them."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return frozenset(line.partition(":")[2].split())
    return frozenset(output("sysctl", "-n", "machdep.cpu.brand_string", "machdep.cpu.features").split())


def amx_config_is_dropped(cxx: str) -> bool:
    """Return whether this compiler throws away the AMX tile configuration before it is loaded.

    The header of some GCC releases (Debian 12's 12.2 among them) tells the optimiser that `_tile_loadconfig`
    reads 8 bytes, where it reads 64; the stores to the others are removed as dead and the first AMX
    instruction of ggml dies. Later releases use a builtin instead. See docs/decisions/0002-setup.md.
    """
    probe = subprocess.run(
        [cxx, "-x", "c++", "-E", "-mamx-tile", "-"],
        input="#include <immintrin.h>\n",
        capture_output=True,
        text=True,
        check=False,
    )
    lines = probe.stdout.splitlines()
    return probe.returncode == 0 and any("asm" in line and "ldtilecfg" in line for line in lines)


def build_fingerprint(cxx: str | None, *parts: str) -> str:
    """Return a short hash that changes whenever a native build would come out differently."""
    compiler = output(cxx, "--version").partition("\n")[0] if cxx else ""
    libc = "".join(platform.libc_ver())
    facts = [platform.system(), platform.machine(), libc, compiler, *sorted(cpu_flags()), *parts]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def cache_dir() -> Path:
    """Return the user's cache folder of Localsmith, shared by all checkouts; not created here."""
    if platform.system() == "Darwin" and "XDG_CACHE_HOME" not in os.environ:
        return Path.home() / "Library" / "Caches" / "localsmith"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "localsmith"
