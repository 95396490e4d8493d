"""A chat server in a process of its own, for the browser tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from localsmith.core.settings import load_settings
from localsmith.ui.launch import command

HERE = Path(__file__).parent
START_TIMEOUT_S = 60.0


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A chat server in its own process, that can be killed and started again on the same data."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)
    max_file_bytes: int = 200_000_000
    script: Path | None = HERE / "serve_scripted.py"
    port: int = field(default_factory=free_port)
    started_at: float = 0.0
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, arguments: list[str] | None = None) -> None:
        """Start it and wait until it listens.

        Args:
            arguments: The command; None for `launch.command` with the test's script.
        """
        settings = load_settings(
            home=self.home, ui={"port": self.port}, retrieval={"max_file_bytes": self.max_file_bytes}
        )
        environment = {
            **os.environ,
            "LOCALSMITH_HOME": str(self.home),
            "LOCALSMITH_RETRIEVAL__MAX_FILE_BYTES": str(self.max_file_bytes),
            **self.environment,
        }
        with (self.home / "server.log").open("ab") as log:
            self.started_at = time.monotonic()
            self.process = subprocess.Popen(
                arguments or command(settings, open_browser=False, script=self.script),
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=tempfile.gettempdir(),
                start_new_session=True,
            )
        self.wait()

    def wait(self) -> None:
        while time.monotonic() - self.started_at < START_TIMEOUT_S:
            assert self.process is not None
            if self.process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.02)
        pytest.fail(f"The server did not start:\n{self.log()}")

    def kill(self) -> None:
        """Kill it with its own children, without a chance to tidy up."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def log(self) -> str:
        return (self.home / "server.log").read_text(errors="replace")
