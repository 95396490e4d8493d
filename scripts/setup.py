"""Makes the virtual environment that `make run` and `make test` use.

Place in the data's way: the first thing a person runs, with nothing but Python there. Order: environment,
PyTorch (the CPU build where there is no NVIDIA card), the engine, everything else at the versions of
constraints.txt, then a check that no CUDA package slipped in. A stamp file makes the second run immediate.
Standard library only.

Example: `python3 scripts/setup.py --venv .venv --extra dev`
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import engine_wheel
import machine
from progress import SetupError, elapsed, run_logged, say, tail

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
PYTORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
_STAMP = ".localsmith-setup.json"
_CUDA_PREFIXES = ("nvidia-", "cuda-", "triton")


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the environment was last set up with."""

    inputs: str
    extras: tuple[str, ...] = ()
    cmake_args: str = ""

    @classmethod
    def read(cls, venv: Path) -> Stamp:
        """Return the stamp in an environment; an empty one where there is none."""
        try:
            data = json.loads((venv / _STAMP).read_text())
            return cls(str(data["inputs"]), tuple(data["extras"]), str(data["cmake_args"]))
        except (OSError, ValueError, KeyError, TypeError):
            return cls("")

    def write(self, venv: Path) -> None:
        """Keep the stamp in the environment."""
        data = {"inputs": self.inputs, "extras": list(self.extras), "cmake_args": self.cmake_args}
        (venv / _STAMP).write_text(json.dumps(data))


def pinned(name: str) -> str:
    """Return the version of a package in constraints.txt.

    Raises:
        SetupError: It is not listed.
    """
    for line in CONSTRAINTS.read_text().splitlines():
        package, _, version = line.partition("==")
        if package.strip() == name:
            return version.strip()
    raise SetupError(f"constraints.txt does not list {name}.")


def inputs_hash() -> str:
    """Return a hash of the files and the interpreter that decide what is installed."""
    parts = [
        CONSTRAINTS.read_bytes(),
        (ROOT / "pyproject.toml").read_bytes(),
        platform.python_version().encode(),
    ]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


@contextmanager
def only_one(venv: Path) -> Iterator[None]:
    """Let two set-ups of the same environment follow each other instead of mixing."""
    venv.mkdir(parents=True, exist_ok=True)
    with (venv / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another set-up of this environment is running; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make_venv(venv: Path) -> Path:
    """Create the environment, or keep one that works, and return its interpreter.

    Raises:
        SetupError: Python lacks its venv module, is too old, or venv fails.
    """
    problem = machine.missing_interpreter_parts()
    if problem:
        raise SetupError(problem)
    python = venv / "bin" / "python"
    version = "{}.{}".format(*sys.version_info)
    code = "import sys, pip; print('{}.{}'.format(*sys.version_info))"
    if machine.output(str(python), "-c", code).strip() == version:
        return python
    say(f"Making a virtual environment in {venv} (Python {platform.python_version()})")
    # Not --clear: it would remove the lock file that this process holds.
    command = [sys.executable, "-m", "venv", str(venv)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SetupError(f"The virtual environment could not be made:\n{done.stdout}{done.stderr}")
    return python


def pip_install(python: Path, title: str, *arguments: str, failed: str = "failed") -> bool:
    """Run `pip install` with its output in a log file and return whether it succeeded."""
    log = python.parent.parent / "pip.log"
    return run_logged(title, [str(python), "-m", "pip", "install", *arguments], log, failed=failed) == 0


def install_torch(python: Path) -> None:
    """Install the pinned PyTorch: the CUDA build only beside an NVIDIA card.

    Raises:
        SetupError: Neither the configured places nor PyTorch's own index has it.
    """
    version = pinned("torch")
    code = "import importlib.metadata as m; print(m.version('torch'))"
    if machine.output(str(python), "-c", code).strip().partition("+")[0] == version:
        return
    # Without dependencies: they come with the rest, at the versions of constraints.txt.
    if machine.has_nvidia_gpu() or platform.system() == "Darwin":
        is_there = pip_install(python, "PyTorch", "--no-deps", f"torch=={version}")
    else:
        cpu = f"torch=={version}+cpu"  # a name that no CUDA build has
        is_there = pip_install(
            python, "PyTorch's CPU build (200 MB)", "--no-deps", cpu, failed="not in pip's configured places"
        ) or pip_install(
            python,
            "PyTorch's CPU build from its own index",
            "--no-deps",
            cpu,
            "--index-url",
            PYTORCH_CPU_INDEX,
        )
    if not is_there:
        log = python.parent.parent / "pip.log"
        raise SetupError(f"PyTorch {version} could not be installed. The end of {log}:\n{tail(log)}")


def install_rest(python: Path, extras: tuple[str, ...]) -> None:
    """Install Localsmith, editable, with all its dependencies.

    Raises:
        SetupError: pip fails.
    """
    target = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
    arguments = ("--constraint", str(CONSTRAINTS), "--editable", target)
    if not pip_install(python, "Localsmith and its dependencies (1 to 3 minutes the first time)", *arguments):
        log = python.parent.parent / "pip.log"
        raise SetupError(f"pip could not install the dependencies. The end of {log}:\n{tail(log)}")


def check_no_cuda(python: Path) -> None:
    """Make sure that a machine without a graphics card did not get gigabytes of CUDA libraries.

    Raises:
        SetupError: It did.
    """
    if machine.has_nvidia_gpu():
        return
    listed = json.loads(machine.output(str(python), "-m", "pip", "list", "--format", "json") or "[]")
    found = [package["name"] for package in listed if package["name"].startswith(_CUDA_PREFIXES)]
    if found:
        raise SetupError(
            f"CUDA packages were installed on a machine without an NVIDIA card: {', '.join(found)}.\n"
            "Run `make clean` and try again; if it happens again, please report it with .venv/pip.log."
        )


def set_up(venv: Path, extras: tuple[str, ...], cmake_args: str | None) -> None:
    """Bring the environment to the state that is asked for; do nothing where it is there already.

    Args:
        venv: Folder of the environment.
        extras: Extras of the distribution that must be there, for example ("dev",).
        cmake_args: More CMake arguments for the engine; None to keep those of the last time.

    Raises:
        SetupError: A part is missing; the message names the command that installs it.
    """
    with only_one(venv):
        old = Stamp.read(venv)
        wanted = Stamp(
            inputs_hash(),
            tuple(sorted({*old.extras, *extras})),
            old.cmake_args if cmake_args is None else cmake_args,
        )
        if wanted == old:
            return
        start = time.monotonic()
        python = make_venv(venv)
        (venv / "pip.log").unlink(missing_ok=True)
        install_torch(python)
        flavour = engine_wheel.install(python, pinned(engine_wheel.PACKAGE), wanted.cmake_args)
        install_rest(python, wanted.extras)
        check_no_cuda(python)
        wanted.write(venv)
        say(f"Ready in {elapsed(time.monotonic() - start)} (engine: {flavour}).")


def main() -> int:
    """Parse the arguments, set up, and turn an error into words."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--extra", action="append", default=[], help="an extra, such as dev")
    parser.add_argument("--llama-cmake-args", default=None, help="for example -DGGML_CUDA=on")
    arguments = parser.parse_args()
    try:
        set_up(arguments.venv.absolute(), tuple(arguments.extra), arguments.llama_cmake_args)
    except SetupError as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. The same command goes on from here.\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
