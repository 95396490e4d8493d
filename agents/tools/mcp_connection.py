"""One MCP server that runs beside us: started when it is needed, given up when it hangs, started again.

Place in the data's way: `mcp.py` asks for the server's tools and calls them -> here, on the event loop of
`McpLoop` -> the protocol's library -> a child process or an HTTP address.

Example:
    loop = McpLoop()
    connection = McpConnection(McpServerSettings(name="time", command="mcp-server-time"))
    tools = loop.start(connection.tools()).result()
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TextIO, TypeVar

import httpx
import structlog
from mcp import types
from mcp.client.session import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import McpError

from ...core.errors import ToolArgumentError, ToolExecutionError
from ...core.settings import McpServerSettings

START_TIMEOUT_S = 30.0
PING_TIMEOUT_S = 5.0
# The library gives a child two seconds to end by itself, two more after SIGTERM, then kills it.
END_TIMEOUT_S = 6.0
MAX_PAGES = 20
MAX_ERROR_CHARS = 500
MAX_STDERR_LINES = 1000
# Source: JSON-RPC 2.0, section 5.1.
METHOD_NOT_FOUND = -32601
T = TypeVar("T")
_log = structlog.get_logger(__name__)


class McpLoop:
    """An event loop in a thread of its own, for sessions that outlive the calls made from other threads."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="localsmith-mcp", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Stop the loop."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(END_TIMEOUT_S)
        if not self._thread.is_alive():
            self._loop.close()


class McpConnection:
    """A server and the session with it, where there is one; all methods run on one event loop.

    Args:
        settings: Where it is and what it may do.
    """

    def __init__(self, settings: McpServerSettings) -> None:
        self.settings = settings
        self._lock = asyncio.Lock()
        self._session: ClientSession | None = None
        self._life: asyncio.Task[None] | None = None
        self._end = asyncio.Event()
        self._num_calls = 0

    async def tools(self) -> list[types.Tool]:
        """Return the server's tools.

        Raises:
            ToolExecutionError: It can't be started or reached, or does not answer.
        """
        async with self._errors():
            session = await self._alive()
            found: list[types.Tool] = []
            cursor: str | None = None
            for _ in range(MAX_PAGES):
                params = types.PaginatedRequestParams(cursor=cursor)
                async with asyncio.timeout(START_TIMEOUT_S):
                    page = await session.list_tools(params=params)
                found += page.tools
                cursor = page.nextCursor
                if not cursor:
                    break
            return found

    async def call(self, tool: str, arguments: dict[str, Any]) -> types.CallToolResult:
        """Call a tool; cancelling the task does not end the call, `drop` does.

        Raises:
            ToolArgumentError: The server refuses the arguments.
            ToolExecutionError: It can't be started, ended during the call, or failed.
        """
        async with self._errors():
            session = await self._alive()
            request = types.CallToolRequest(
                params=types.CallToolRequestParams(name=tool, arguments=arguments)
            )
            self._num_calls += 1
            try:
                return await session.send_request(types.ClientRequest(request), types.CallToolResult)
            finally:
                self._num_calls -= 1

    async def drop(self) -> None:
        """End the session, and the process where there is one; the next call begins anew."""
        async with self._lock:
            await self._finish()

    async def _alive(self) -> ClientSession:
        """Return a session that answers, a new one where the old one does not."""
        async with self._lock:
            if self._session is not None and (self._num_calls or await self._answers(self._session)):
                return self._session
            await self._finish()
            return await self._begin()

    async def _answers(self, session: ClientSession) -> bool:
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                await session.send_ping()
        except McpError as exc:
            return exc.error.code == METHOD_NOT_FOUND
        except Exception as exc:  # noqa: BLE001 - whatever it is, there is no answer
            _log.info("mcp_server_gone", server=self.settings.name, error=repr(exc))
            return False
        return True

    async def _begin(self) -> ClientSession:
        self._end = asyncio.Event()
        ready: asyncio.Future[ClientSession] = asyncio.get_running_loop().create_future()
        self._life = asyncio.create_task(self._live(ready, self._end))
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                self._session = await ready
        except TimeoutError as exc:
            await self._finish()
            raise ToolExecutionError(
                f"The MCP server {self.settings.name!r} did not answer in {START_TIMEOUT_S:.0f} s.",
                hint="Its own messages are in the log.",
            ) from exc
        except asyncio.CancelledError:
            await self._finish()
            raise
        return self._session

    async def _live(self, ready: asyncio.Future[ClientSession], end: asyncio.Event) -> None:
        """Hold the session open until `end`: what the library opens has to be closed by the same task."""
        try:
            async with self._opened() as session:
                await session.initialize()
                if not ready.done():
                    ready.set_result(session)
                await end.wait()
        except Exception as exc:  # noqa: BLE001 - it is raised again for those who wait, or there are none
            if ready.done():
                _log.info("mcp_session_ended", server=self.settings.name, error=_innermost(exc))
            else:
                ready.set_exception(
                    ToolExecutionError(
                        f"The MCP server {self.settings.name!r} can't be used: {_innermost(exc)}",
                        hint="See tools.mcp_servers in localsmith.toml; its own messages are in the log.",
                    )
                )

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[ClientSession]:
        async with contextlib.AsyncExitStack() as stack:
            if self.settings.command:
                errors = stack.enter_context(_forwarded_stderr(self.settings.name))
                environment = {name: value.get_secret_value() for name, value in self.settings.env.items()}
                parameters = StdioServerParameters(
                    command=self.settings.command,
                    args=list(self.settings.args),
                    env=environment,
                    encoding_error_handler="replace",
                )
                read, write = await stack.enter_async_context(stdio_client(parameters, errors))
            else:
                key = self.settings.api_key.get_secret_value()
                client = httpx.AsyncClient(
                    headers={"Authorization": f"Bearer {key}"} if key else {},
                    timeout=httpx.Timeout(START_TIMEOUT_S, read=self.settings.timeout_s),
                )
                await stack.enter_async_context(client)
                streams = streamable_http_client(self.settings.url, http_client=client)
                read, write, _ = await stack.enter_async_context(streams)
            yield await stack.enter_async_context(ClientSession(read, write))

    async def _finish(self) -> None:
        self._session = None
        self._end.set()
        if self._life is not None:
            _, running = await asyncio.wait({self._life}, timeout=END_TIMEOUT_S)
            for task in running:
                task.cancel()
            self._life = None

    @contextlib.asynccontextmanager
    async def _errors(self) -> AsyncIterator[None]:
        """Turn what the library raises into what `Tool.run` may raise."""
        name = self.settings.name
        try:
            yield
        except (ToolArgumentError, ToolExecutionError):
            raise
        except McpError as exc:
            words = exc.error.message[:MAX_ERROR_CHARS]
            if exc.error.code == types.INVALID_PARAMS:
                raise ToolArgumentError(f"{name} refuses the arguments: {words}") from exc
            if exc.error.code == types.CONNECTION_CLOSED:
                raise ToolExecutionError(
                    f"The MCP server {name!r} ended during the call; the next call starts it again."
                ) from exc
            raise ToolExecutionError(f"{name} failed: {words}") from exc
        except Exception as exc:
            raise ToolExecutionError(f"The MCP server {name!r} failed: {_innermost(exc)}") from exc


def _innermost(exc: BaseException) -> str:
    """Return the words of the first error in a group of groups."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return f"{type(exc).__name__}: {exc}"[:MAX_ERROR_CHARS]


@contextlib.contextmanager
def _forwarded_stderr(server: str) -> Iterator[TextIO]:
    """Yield a file whose lines go to the log: what a server says to people must not get onto the terminal."""
    read_fd, write_fd = os.pipe()

    def forward() -> None:
        with os.fdopen(read_fd, encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines):
                if number < MAX_STDERR_LINES:
                    _log.info("mcp_server_said", server=server, line=line.rstrip()[:MAX_ERROR_CHARS])

    threading.Thread(target=forward, name=f"mcp-stderr-{server}", daemon=True).start()
    with os.fdopen(write_fd, "w") as errors:
        yield errors
