"""Builds the peer `llama-server` from the source inside llama-cpp-python's sdist, once, and keeps it.

Place in the data's way: `benchmarks.engine` asks `llama_server()` for the program before it starts the peers.
Only the server is compiled (`llama_server.cmake`): it is linked against the shared libraries of the installed
llama-cpp-python, so that both run the same kernels, built with the same flags, whatever those were. The
program is kept under the user's cache folder, in a folder named by those libraries and the compiler.

Example: `python -m benchmarks.llama_server --jobs 1`
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import machine  # noqa: E402 - scripts/ is no package
from progress import SetupError as SetupError  # noqa: E402 - for those who call us
from progress import run_logged, say, tail  # noqa: E402

PACKAGE = "llama-cpp-python"
RECIPE = Path(__file__).with_suffix(".cmake")
PROGRAM = "llama-server"


@dataclass(frozen=True, slots=True)
class LlamaServer:
    """A built server.

    Attributes:
        program: The executable.
        libraries: The folder of the shared libraries it runs on, those of our own engine.
    """

    program: Path
    libraries: Path

    def environment(self) -> dict[str, str]:
        """Return what the process needs in its environment to find the libraries."""
        name = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"
        return {name: str(self.libraries)}


def llama_server(jobs: int | None = None) -> LlamaServer:
    """Return the server, built now where it is not there yet.

    Args:
        jobs: Files compiled at once; None for one a processor.

    Raises:
        SetupError: A tool is missing, the source can't be fetched or the build fails.
    """
    libraries = engine_libraries()
    version = importlib.metadata.version(PACKAGE)
    folder = benchmarks_cache() / f"{PROGRAM}-{version}-{_fingerprint(libraries)}"
    server = LlamaServer(folder / PROGRAM, libraries)
    if not server.program.exists():
        built = _build(folder, version, libraries, jobs or os.cpu_count() or 1)
        _check_runs(LlamaServer(built, libraries))
        shutil.copy2(built, folder / "unfinished")
        (folder / "unfinished").replace(server.program)
        shutil.rmtree(folder / "build", ignore_errors=True)
        shutil.rmtree(folder / "source", ignore_errors=True)
    return server


def benchmarks_cache() -> Path:
    """Return the folder that keeps what the benchmarks build, shared by all checkouts."""
    return Path(machine.cache_dir()) / "benchmarks"


def engine_libraries() -> Path:
    """Return the folder of llama.cpp's shared libraries in this environment.

    Raises:
        SetupError: llama-cpp-python is not installed.
    """
    spec = importlib.util.find_spec("llama_cpp")  # finds it without loading the libraries
    if spec is None or spec.origin is None:
        raise SetupError(f"{PACKAGE} is not installed here. Run `make test` once, then use .venv/bin/python.")
    return Path(spec.origin).parent / "lib"


def _fingerprint(libraries: Path) -> str:
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(libraries.iterdir())]
    return str(machine.build_fingerprint(machine.cxx_compiler(), RECIPE.read_text(), *hashes))


def _build(folder: Path, version: str, libraries: Path, jobs: int) -> Path:
    cmake = shutil.which("cmake")
    if cmake is None:
        raise SetupError(
            f"CMake is needed to build {PROGRAM} once. Install it with:\n    pip install cmake ninja"
        )
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "build.log"
    log.unlink(missing_ok=True)
    source = _fetch(folder / "source", version, log)
    recipe = folder / "source" / "recipe"
    recipe.mkdir(exist_ok=True)
    shutil.copy2(RECIPE, recipe / "CMakeLists.txt")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    places = [f"-DLLAMA_CPP={source}", f"-DENGINE_LIB={libraries}", "-DCMAKE_BUILD_TYPE=Release"]
    build = folder / "build"
    _run(f"Configuring {PROGRAM}", [cmake, *generator, "-S", str(recipe), "-B", str(build), *places], log)
    say(f"Building {PROGRAM} of {PACKAGE} {version}: 5 to 10 minutes on 2 cores, once.")
    target = ["--target", PROGRAM, "--parallel", str(jobs)]
    _run("  building", [cmake, "--build", str(build), *target], log)
    return build / "tools" / "server" / PROGRAM


def _fetch(folder: Path, version: str, log: Path) -> Path:
    """Return the folder of llama.cpp inside the sdist, fetched by pip."""
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.glob("*.tar.gz")):
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", PACKAGE]
        _run(f"Fetching the source of {PACKAGE}", [*pip, "--dest", str(folder), f"{PACKAGE}=={version}"], log)
    archive = next(folder.glob("*.tar.gz"))
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    found = next(folder.glob("*/vendor/llama.cpp"), None)
    if found is None:
        raise SetupError(f"{archive.name} does not contain vendor/llama.cpp.")
    return found


def _run(title: str, command: list[str], log: Path) -> None:
    if run_logged(title, command, log) != 0:
        raise SetupError(f"{title.strip()} failed. The end of {log}:\n{tail(log)}")


def _check_runs(server: LlamaServer) -> None:
    done = subprocess.run(
        [str(server.program), "--version"],
        env=os.environ | server.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SetupError(f"{PROGRAM} was built but does not start:\n{done.stderr[-2000:]}")


def main() -> None:
    """Build it and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, help="files compiled at once; one a processor by default")
    try:
        say(str(llama_server(parser.parse_args().jobs).program))
    except SetupError as exc:
        sys.exit(str(exc))


if __name__ == "__main__":
    main()
