"""Builds llama-cpp-python for this processor once, keeps the wheel for all checkouts, and tries it out.

Place in the data's way: called by `setup.py` between PyTorch and the other dependencies. There is no binary
package of llama-cpp-python; the build takes minutes, so the wheel is kept under the user's cache folder, in a
folder named by everything that the build depends on. pip's own wheel cache is not used: it knows neither the
processor nor CMAKE_ARGS.

Example:
    >>> [flavour.name for flavour in flavours(is_amx_cpu=True, is_amx_config_dropped=False)]
    ['native', 'no-amx', 'portable']
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import machine
from progress import SetupError, run_logged, say, tail

PACKAGE = "llama-cpp-python"
_KEY_FILE = ".localsmith-engine"
_SMOKE = Path(__file__).with_name("engine_smoke.py")
_KEEP_STORES = "-fno-tree-dse -fno-dse"  # keeps the stores that the faulty AMX header lets GCC remove
_NO_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"


@dataclass(frozen=True, slots=True)
class Flavour:
    """One way of building the engine."""

    name: str
    cmake_args: str = ""


def flavours(is_amx_cpu: bool, is_amx_config_dropped: bool) -> list[Flavour]:
    """Return the builds to try, the fastest first.

    Args:
        is_amx_cpu: The processor has AMX.
        is_amx_config_dropped: The compiler has the fault that `machine.amx_config_is_dropped` looks for.
    """
    choices = [Flavour("native")]
    if is_amx_cpu:
        if is_amx_config_dropped:
            choices = [Flavour("amx-stores-kept", f"-DCMAKE_CXX_FLAGS='{_KEEP_STORES}'")]
        choices.append(Flavour("no-amx", f"-DCMAKE_C_FLAGS='{_NO_AMX}' -DCMAKE_CXX_FLAGS='{_NO_AMX}'"))
    return [*choices, Flavour("portable", "-DGGML_NATIVE=OFF")]


def install(venv_python: Path, version: str, cmake_args: str) -> str:
    """Put a working engine into the virtual environment.

    Args:
        venv_python: The environment's interpreter.
        version: Version of llama-cpp-python, from constraints.txt.
        cmake_args: More arguments for CMake, for example "-DGGML_CUDA=on"; "" for none.

    Returns:
        The name of the flavour that works here.

    Raises:
        SetupError: There is no compiler, the build fails, or no flavour runs on this machine.
    """
    cxx = machine.cxx_compiler()
    is_amx_cpu = "amx_tile" in machine.cpu_flags()
    is_dropped = bool(is_amx_cpu and cxx and machine.amx_config_is_dropped(cxx))
    for flavour in flavours(is_amx_cpu, is_dropped):
        arguments = f"{flavour.cmake_args} {cmake_args}".strip()
        folder = _cache_folder(version, cxx, arguments)
        if _put_in(venv_python, folder, version, cxx, arguments):
            return flavour.name
        say(f"The engine built as {flavour.name!r} crashes on this processor; trying the next, slower build.")
    raise SetupError("No build of the engine runs on this processor. Please report the output of `lscpu`.")


def _cache_folder(version: str, cxx: str | None, arguments: str) -> Path:
    # The wheel's Python tag is py3-none (it is called through ctypes), so one build serves every interpreter.
    key = machine.build_fingerprint(cxx, version, arguments)
    return machine.cache_dir() / "wheels" / f"{PACKAGE}-{version}-{key}"


def _put_in(venv_python: Path, folder: Path, version: str, cxx: str | None, arguments: str) -> bool:
    crashed = folder / "crashed.txt"
    if crashed.exists():
        return False
    installed = venv_python.parent.parent / _KEY_FILE
    is_same = installed.is_file() and installed.read_text() == folder.name
    wheel = next(folder.glob("*.whl"), None)
    if wheel is None:
        wheel = _build(venv_python, folder, version, cxx, arguments)
    if not (is_same and _is_installed(venv_python, version)):
        installed.unlink(missing_ok=True)
        _pip(venv_python, folder, "install", "--force-reinstall", "--no-deps", "--no-index", str(wheel))
        _pip(venv_python, folder, "install", "--constraint", str(_constraints()), PACKAGE)
    smoke = subprocess.run([str(venv_python), str(_SMOKE)], capture_output=True, text=True, check=False)
    if smoke.returncode != 0:
        crashed.write_text(f"exit status {smoke.returncode}\n{smoke.stderr}")
        return False
    installed.write_text(folder.name)
    return True


def _build(venv_python: Path, folder: Path, version: str, cxx: str | None, arguments: str) -> Path:
    if cxx is None:
        raise SetupError(
            "A C++ compiler is needed to build the engine once. Install one with:\n"
            f"    {machine.install_hint('compiler')}"
        )
    cores = str(os.cpu_count() or 1)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "build.log"
    log.unlink(missing_ok=True)
    say(f"Building the engine ({PACKAGE} {version}) for this processor: 3 to 6 minutes on 2 cores, once.")
    with tempfile.TemporaryDirectory(dir=folder) as out:
        pip = [str(venv_python), "-m", "pip", "wheel", "--no-deps", "--no-cache-dir", "--wheel-dir", out]
        status = run_logged(
            "  building",
            [*pip, "--no-binary", PACKAGE, f"{PACKAGE}=={version}"],
            log,
            env={"CMAKE_ARGS": arguments, "CMAKE_BUILD_PARALLEL_LEVEL": cores},
        )
        built = next(Path(out).glob("*.whl"), None)
        if status != 0 or built is None:
            raise SetupError(f"The build failed. The end of {log}:\n{tail(log)}")
        return Path(shutil.move(built, folder / built.name))


def _is_installed(venv_python: Path, version: str) -> bool:
    code = f"import importlib.metadata as m; print(m.version({PACKAGE!r}))"
    return machine.output(str(venv_python), "-c", code).strip() == version


def _pip(venv_python: Path, folder: Path, *arguments: str) -> None:
    log = folder / "install.log"
    done = subprocess.run(
        [str(venv_python), "-m", "pip", *arguments], capture_output=True, text=True, check=False
    )
    log.write_text(done.stdout + done.stderr)
    if done.returncode != 0:
        raise SetupError(f"pip could not install the engine. The end of {log}:\n{tail(log)}")


def _constraints() -> Path:
    return Path(__file__).resolve().parent.parent / "constraints.txt"
