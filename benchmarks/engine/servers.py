"""The three servers as processes, with the same settings; started once, idle while another is measured.

Place in the data's way: `workloads` starts them -> `load` asks them over HTTP -> they are stopped at the end.

Example:
    with Server(llama_server_command(setup, built), log) as server:
        generate_load(server.url, server.model, prompts, max_tokens=96)
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from ..llama_server import PACKAGE, LlamaServer, benchmarks_cache, engine_libraries
from .conditions import wait_until_idle
from .setup import LLAMA_CPP_PYTHON_SERVER, LLAMA_SERVER, OMP, OURS, Setup
from .worker import our_settings

_READY_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 30.0


class ServerFailed(RuntimeError):
    """A server did not start."""


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a server.

    Attributes:
        name: For people.
        arguments: Program and arguments; "{port}" stands for the port.
        environment: What is added to the environment.
        model: Model to name in requests; None for the first that the server lists.
    """

    name: str
    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    model: str | None = None


class Server:
    """A running server.

    Args:
        command: How to start it.
        log: File for its output.
        key: API key to ask with; "" for none.
    """

    def __init__(self, command: Command, log: Path, key: str = "") -> None:
        self._command = command
        self._log = log
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.model = ""
        self.url = ""

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def __enter__(self) -> Server:
        """Start it, wait until it answers and has come to rest.

        Raises:
            ServerFailed: It ended, or did not answer in time.
            TimeoutError: It uses the processor although it has nothing to do.
        """
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [part.replace("{port}", str(port)) for part in self._command.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | OMP | self._command.environment,
            )
        try:
            self.model = self._wait_until_ready()
            wait_until_idle(self._command.name, self.pid)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

    def stop(self) -> int:
        """End the process politely, then by force; return its exit status."""
        if self.is_running:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()

    def _wait_until_ready(self) -> str:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if not self.is_running:
                break
            models = self._models()
            wanted = self._command.model or next(iter(models), "")
            if wanted in models and self._is_answering(wanted):
                return wanted
            time.sleep(0.3)
        end = self._log.read_text(errors="replace")[-2000:]
        raise ServerFailed(f"{self._command.name} did not start. The end of {self._log}:\n{end}")

    def _models(self) -> list[str]:
        try:
            with self._open("/v1/models", None, timeout_s=5) as response:
                return [model["id"] for model in json.load(response)["data"]]
        except (OSError, ValueError, KeyError):  # urllib's errors are OSErrors
            return []

    def _is_answering(self, model: str) -> bool:
        """Ask for one token: some servers list their models before these are loaded."""
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        try:
            with self._open("/v1/chat/completions", body, timeout_s=120) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def _open(self, path: str, body: dict[str, Any] | None, timeout_s: float) -> Any:
        data = json.dumps(body).encode() if body else None
        headers = self._headers | {"Content-Type": "application/json"}
        return urllib.request.urlopen(
            urllib.request.Request(f"{self.url}{path}", data, headers), timeout=timeout_s
        )


def our_command(setup: Setup, home: Path) -> Command:
    """Return how to start `localsmith serve` on a prepared data folder."""
    settings = our_settings(setup) | {"name": setup.name}
    environment = {f"LOCALSMITH_MODEL__{key.upper()}": str(value) for key, value in settings.items()}
    program = Path(sys.executable).parent / "localsmith"
    return Command(
        OURS,
        (str(program), "serve", "--port", "{port}", "--model", setup.name),
        environment | {"LOCALSMITH_HOME": str(home)},
        model=setup.name,
    )


def llama_server_command(setup: Setup, built: LlamaServer) -> Command:
    """Return how to start llama.cpp's server; its prompt cache stays as it is by default."""
    options: dict[str, Any] = {
        "--model": setup.path,
        "--host": "127.0.0.1",
        "--port": "{port}",
        "--ctx-size": setup.n_ctx,
        "--batch-size": setup.n_batch,
        "--ubatch-size": setup.n_batch,
        "--threads": setup.n_threads,
        "--threads-batch": setup.n_threads,
        "--parallel": setup.num_parallel,
        "--flash-attn": "on" if setup.flash_attention else "off",
        "--log-verbosity": 1,
    }
    pairs = [str(part) for pair in options.items() for part in pair]
    return Command(LLAMA_SERVER, (str(built.program), *pairs, "--kv-unified", "--no-ui"), built.environment())


def llama_cpp_python_command(setup: Setup, python: Path, package: Path) -> Command:
    """Return how to start llama-cpp-python's server.

    Two defaults are changed in its favour: `interrupt_requests`, with which every new request cuts off the
    stream that is running, and `logits_all`, which keeps the logits of every token of the window.

    Args:
        setup: What all are given.
        python: Interpreter of the server's own environment.
        package: Folder that holds a link to our installed `llama_cpp`.
    """
    options: dict[str, Any] = {
        "--model": setup.path,
        "--host": "127.0.0.1",
        "--port": "{port}",
        "--n_ctx": setup.n_ctx,
        "--n_batch": setup.n_batch,
        "--n_ubatch": setup.n_batch,
        "--n_threads": setup.n_threads,
        "--n_threads_batch": setup.n_threads,
        "--flash_attn": str(setup.flash_attention).lower(),
        "--logits_all": "false",
        "--interrupt_requests": "false",
        "--verbose": "false",
    }
    pairs = [str(part) for pair in options.items() for part in pair]
    return Command(
        LLAMA_CPP_PYTHON_SERVER, (str(python), "-m", "llama_cpp.server", *pairs), {"PYTHONPATH": str(package)}
    )


def server_environment() -> tuple[Path, Path]:
    """Make, once, the environment of llama-cpp-python's server; its `llama_cpp` is a link to ours.

    Returns:
        The interpreter, and the folder for PYTHONPATH.

    Raises:
        ServerFailed: pip can't install what the server needs.
    """
    version = importlib.metadata.version(PACKAGE)
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = benchmarks_cache() / f"llama-cpp-python-server-{version}-py{minor}"
    python = folder / "venv" / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        for step in (
            [sys.executable, "-m", "venv", str(folder / "venv")],
            [str(python), "-m", "pip", "install", "--quiet", *server_requirements()],
        ):
            done = subprocess.run(step, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise ServerFailed(f"{' '.join(step[:4])} failed:\n{done.stderr[-2000:]}")
        (folder / "complete").touch()
    package = folder / "package"
    package.mkdir(exist_ok=True)
    link = package / "llama_cpp"
    link.unlink(missing_ok=True)
    link.symlink_to(engine_libraries().parent, target_is_directory=True)
    return python, package


def server_requirements() -> list[str]:
    """Return what llama-cpp-python says that it and its server need."""
    found = []
    for line in importlib.metadata.requires(PACKAGE) or ():
        requirement, _, marker = line.partition(";")
        if not marker or marker.replace('"', "'").strip() == "extra == 'server'":
            found.append(requirement.strip())
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
