"""The MCP server on standard input and output, as an assistant starts it.

Place in the data's way: the client's pipe -> `_Input` -> the server -> the client's pipe. Nothing but the
protocol gets onto standard output: it is taken away before anything else can write there, C libraries and
child processes included.

Example:
    serve_stdio(create_server(parts, ServeSettings()), take_streams())
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

import structlog
from mcp.server.stdio import stdio_server

from .server import McpServer

MAX_LINE_BYTES = 16_000_000
_CHUNK_BYTES = 65_536
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Streams:
    """The client's ends, kept apart from the process's standard streams.

    Attributes:
        input_fd: What the client writes.
        output_fd: What the client reads.
    """

    input_fd: int
    output_fd: int


def take_streams() -> Streams:
    """Take standard input and output for the protocol.

    From here on whoever reads standard input finds it empty, and what is written to standard output goes to
    standard error.
    """
    sys.stdout.flush()
    streams = Streams(os.dup(0), os.dup(1))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return streams


def serve_stdio(server: McpServer, streams: Streams) -> None:
    """Serve until the client closes its end, or SIGINT or SIGTERM comes; what runs then is cancelled.

    Args:
        server: The server.
        streams: What `take_streams` returned.
    """
    source = _Input(streams.input_fd)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: source.end())
    try:
        asyncio.run(_serve(server, source.fd, streams.output_fd))
    except* OSError as group:  # the client reads no more
        _log.info("mcp_client_gone", error=str(group.exceptions[0]))


async def _serve(server: McpServer, input_fd: int, output_fd: int) -> None:
    # The library keeps the buffers of these two only; without a reference they would close them.
    with os.fdopen(input_fd, "r") as source, os.fdopen(output_fd, "w") as sink:
        async with contextlib.AsyncExitStack() as stack:
            with _lent(source, sink):
                read, write = await stack.enter_async_context(stdio_server())
            await server.run(read, write, server.create_initialization_options())


@contextlib.contextmanager
def _lent(source: TextIO, sink: TextIO) -> Iterator[None]:
    """Make these the standard streams for `stdio_server`, which takes what `sys` holds when it is entered."""
    before = sys.stdin, sys.stdout
    sys.stdin, sys.stdout = source, sink
    try:
        yield
    finally:
        sys.stdin, sys.stdout = before


class _Input:
    """The client's pipe, copied by a thread, so that a signal can end it.

    A thread that waits in `read` can't be interrupted; this one waits for two files at once.

    Attributes:
        fd: Where the copy is read.
    """

    def __init__(self, source_fd: int) -> None:
        self._source_fd = source_fd
        self.fd, self._copy_fd = os.pipe()
        self._end_seen_fd, self._end_fd = os.pipe()
        threading.Thread(target=self._run, name="localsmith-mcp-stdin", daemon=True).start()

    def end(self) -> None:
        """Let the reader come to the end of its input; safe in a signal handler."""
        os.write(self._end_fd, b".")

    def _run(self) -> None:
        try:
            self._copy()
        except OSError as exc:  # nobody reads the copy any more
            _log.info("mcp_input_closed", error=str(exc))
        finally:
            os.close(self._copy_fd)

    def _copy(self) -> None:
        line_bytes = 0
        while True:
            ready, _, _ = select.select([self._source_fd, self._end_seen_fd], [], [])
            if self._end_seen_fd in ready or not (chunk := os.read(self._source_fd, _CHUNK_BYTES)):
                return
            _, newline, tail = chunk.rpartition(b"\n")
            line_bytes = len(tail) if newline else line_bytes + len(chunk)
            if line_bytes > MAX_LINE_BYTES:
                _log.error("mcp_message_too_long", max_bytes=MAX_LINE_BYTES)
                return
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(self._copy_fd, rest) :]
