r"""The parent's end of a worker process: one start, one program at a time, never longer than allowed.

Place in the data's way: `wasm.WasmSandbox` -> `WorkerChild` -> frames -> `worker`.

Example:
    >>> WorkerChild(command).ask({"program": "print(1)", ...}, wait_s=5)  # doctest: +SKIP
    {'exit_code': 0, 'stdout': '1\n', ...}
"""

from __future__ import annotations

import json
import os
import selectors
import struct
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import Any, cast

import structlog

log = structlog.get_logger(__name__)

_LENGTH = struct.Struct("<I")
_STDERR_TAIL_BYTES = 600
_END_WAIT_S = 2.0
_READ_BYTES = 1 << 20
_MAX_REPLY_BYTES = 200_000_000
# What a Python needs to find itself; nothing else of the parent's environment, for it holds secrets.
_KEPT_VARIABLES = ("PATH", "HOME", "TMPDIR", "LANG", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")


class ChildDied(Exception):
    """The worker ended without an answer."""


class ChildTooSlow(Exception):
    """The worker did not answer in time; it has been killed."""


def bare_environment() -> dict[str, str]:
    """Return the environment a worker gets: enough to start Python, no keys or tokens."""
    return {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}


class WorkerChild:
    """One worker process; `ask` is called by one thread at a time."""

    def __init__(self, command: Sequence[str]) -> None:
        """Start the process; return before it is ready.

        Args:
            command: Program and arguments.

        Raises:
            OSError: It can't be started.
        """
        self._stderr = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=bare_environment(),
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )
        self._requests, self._replies = self._process.stdin, self._process.stdout
        assert self._requests is not None and self._replies is not None
        os.set_blocking(self._replies.fileno(), False)
        os.set_blocking(self._requests.fileno(), False)
        self._greeting: dict[str, Any] | None = None

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def greeting(self, wait_s: float) -> dict[str, Any]:
        """Wait until the worker is ready or says why it can't be; return what it says.

        Args:
            wait_s: Longest wait.

        Raises:
            ChildDied: It ended instead.
            ChildTooSlow: It took longer.
        """
        if self._greeting is None:
            self._greeting = self._receive(time.monotonic() + wait_s)
        return self._greeting

    def ask(self, request: dict[str, Any], wait_s: float) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Args:
            request: What `worker` understands.
            wait_s: Longest wait; then the process is killed.

        Raises:
            ChildDied: It ended without an answer, or answered what is no frame.
            ChildTooSlow: It took longer.
        """
        deadline = time.monotonic() + wait_s
        body = json.dumps(request).encode()
        self._send(_LENGTH.pack(len(body)) + body, deadline)
        return self._receive(deadline)

    def stop(self) -> None:
        """End the process now; whoever waits for its answer learns that it died."""
        self._process.kill()

    def kill(self) -> None:
        """End the process now and free the pipes."""
        self._process.kill()
        self._process.wait()
        for stream in (self._requests, self._replies, self._stderr):
            try:
                cast(Any, stream).close()
            except OSError:
                log.debug("pipe_close_failed")

    def _send(self, data: bytes, deadline: float) -> None:
        assert self._requests is not None
        rest = memoryview(data)
        with selectors.DefaultSelector() as selector:
            selector.register(self._requests, selectors.EVENT_WRITE)
            while rest:
                self._wait(selector, deadline)
                try:
                    rest = rest[os.write(self._requests.fileno(), rest) :]
                except OSError as exc:
                    raise ChildDied(self._last_words()) from exc

    def _receive(self, deadline: float) -> dict[str, Any]:
        assert self._replies is not None
        buffer = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._replies, selectors.EVENT_READ)
            while True:
                self._wait(selector, deadline)
                data = os.read(self._replies.fileno(), _READ_BYTES)
                buffer += data
                if not data:
                    raise ChildDied(self._last_words())
                if len(buffer) < _LENGTH.size:
                    continue
                (length,) = _LENGTH.unpack_from(buffer)
                if length > _MAX_REPLY_BYTES:
                    raise ChildDied(f"it announced an answer of {length} bytes")
                if len(buffer) >= _LENGTH.size + length:
                    return cast(dict[str, Any], json.loads(buffer[_LENGTH.size :]))

    def _wait(self, selector: selectors.BaseSelector, deadline: float) -> None:
        if not selector.select(max(0.0, deadline - time.monotonic())):
            self.kill()
            raise ChildTooSlow("no answer in time")

    def _last_words(self) -> str:
        try:
            code: int | str = self._process.wait(_END_WAIT_S)
        except subprocess.TimeoutExpired:
            code = "unknown, it still runs"
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - _STDERR_TAIL_BYTES))
        tail = self._stderr.read().decode(errors="replace").strip()
        return f"exit code {code}" + (f", last words: {tail}" if tail else "")
