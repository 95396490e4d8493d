"""Tools of MCP servers as tools of ours: named after their server, limited, and asked for before they run.

Place in the data's way: `tools.mcp_servers` of the settings -> `McpServers.tools()` -> `ReactStrategy`; a
call goes over `mcp_connection.py` to the server. All that a server says is untrusted: names, descriptions and
schemas are bounded before they get into a prompt, results are cut, and the server's own word that a tool is
harmless counts for nothing.

Example:
    with McpServers(settings.tools.mcp_servers) as servers:
        strategy = ReactStrategy(model, servers.tools())
"""

from __future__ import annotations

import atexit
import json
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from ...core.errors import ConfigError, LocalsmithError, ToolExecutionError
from ...core.extras import install_command
from ...core.settings import McpServerSettings
from .arguments import writable_schema
from .tool import Observation, Tool, ToolContext

if TYPE_CHECKING:
    from mcp import types

    from .mcp_connection import McpConnection, McpLoop

MAX_NAME_CHARS = 64
MAX_DESCRIPTION_CHARS = 500
MAX_SCHEMA_CHARS = 8_000
MAX_TOOLS = 64
MAX_RESULT_CHARS = 20_000
CLOSE_TIMEOUT_S = 10.0
_POLL_S = 0.05
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class McpTool:
    """A tool of an MCP server.

    Attributes:
        name: `<server>_<tool>`; see `Tool`.
        description: What the server says it does, shortened.
        parameters: See `Tool`.
        timeout_s: See `Tool`.
        needs_approval: Whether the person has not listed it as safe.
        remote_name: Its name at the server.
        connection: The server.
        loop: Where the connection lives.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    timeout_s: float
    needs_approval: bool
    remote_name: str
    connection: McpConnection
    loop: McpLoop

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Observation:
        """Call it at its server; a call that is given up ends the server, for nothing else stops it surely.

        Raises:
            ToolArgumentError: The server refuses the arguments.
            ToolExecutionError: It failed, took too long or was cancelled, or the server ended.
        """
        call = self.loop.start(self.connection.call(self.remote_name, dict(arguments)))
        ends = time.monotonic() + self.timeout_s
        while not wait([call], timeout=_POLL_S).done:
            if context.cancel.is_set() or time.monotonic() > ends:
                call.cancel()
                self.loop.start(self.connection.drop())
                why = "was given up" if context.cancel.is_set() else f"took longer than {self.timeout_s:g} s"
                raise ToolExecutionError(f"{self.name} {why}; its server is started again at the next call.")
        result = call.result()
        text = result_text(result)
        if result.isError:
            raise ToolExecutionError(text or f"{self.name} failed without a word.")
        return Observation(text)


class McpServers:
    """The servers of the settings; each starts with the first look at its tools.

    Args:
        servers: Which.

    Raises:
        ConfigError: Two have one name, one has neither program nor address, or the library is missing.
    """

    def __init__(self, servers: Sequence[McpServerSettings]) -> None:
        try:
            from .mcp_connection import McpConnection, McpLoop
        except ImportError as exc:
            raise ConfigError(
                "The MCP library is not installed.", hint=f"Install it: {install_command('mcp')}."
            ) from exc
        _check(servers)
        self._loop = McpLoop()
        self._connections = [McpConnection(server) for server in servers]
        self._is_closed = False
        self.errors: dict[str, LocalsmithError] = {}
        atexit.register(self.close)

    def tools(self) -> list[Tool]:
        """Return the tools of all servers; why a server has none stands in `errors`, under its name."""
        self.errors = {}
        asked = [(each, self._loop.start(each.tools())) for each in self._connections]
        found: list[Tool] = []
        for connection, listing in asked:
            name = connection.settings.name
            try:
                found += self._offered(connection, listing.result())
            except LocalsmithError as exc:
                _log.warning("mcp_server_left_out", server=name, error=str(exc))
                self.errors[name] = exc
        return found

    def close(self) -> None:
        """End the servers; a second call does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        atexit.unregister(self.close)
        wait([self._loop.start(each.drop()) for each in self._connections], CLOSE_TIMEOUT_S)
        self._loop.close()

    def __enter__(self) -> McpServers:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _offered(self, connection: McpConnection, listed: Sequence[types.Tool]) -> list[Tool]:
        """Return those of a server's tools that agents may see and can call."""
        settings = connection.settings
        there = {tool.name: tool for tool in listed}
        if missing := {*settings.allowed_tools, *settings.safe_tools} - there.keys():
            raise ConfigError(
                f"The MCP server {settings.name!r} has no tool {sorted(missing)[0]!r}.",
                hint=f"It has: {', '.join(sorted(there))[:1000] or 'none'}.",
            )
        found: dict[str, Tool] = {}
        for name, tool in there.items():
            if settings.allowed_tools and name not in settings.allowed_tools:
                continue
            made = self._tool(connection, tool)
            if made is None or made.name in found or len(found) == MAX_TOOLS:
                _log.warning("mcp_tool_left_out", server=settings.name, tool=name[:MAX_NAME_CHARS])
                continue
            found[made.name] = made
        return list(found.values())

    def _tool(self, connection: McpConnection, tool: types.Tool) -> McpTool | None:
        """Return a tool of ours; None where no model could write its arguments."""
        settings = connection.settings
        if len(json.dumps(tool.inputSchema)) > MAX_SCHEMA_CHARS:
            return None
        try:
            writable_schema(tool.inputSchema)
        except ConfigError as exc:
            _log.warning("mcp_schema_refused", server=settings.name, error=str(exc))
            return None
        return McpTool(
            name=re.sub(r"[^A-Za-z0-9_.-]", "_", f"{settings.name}_{tool.name}")[:MAX_NAME_CHARS],
            description=" ".join((tool.description or tool.name).split())[:MAX_DESCRIPTION_CHARS],
            parameters=tool.inputSchema,
            timeout_s=settings.timeout_s,
            needs_approval=tool.name not in settings.safe_tools,
            remote_name=tool.name,
            connection=connection,
            loop=self._loop,
        )


def result_text(result: types.CallToolResult) -> str:
    """Return what a model reads of a result: its texts, a word for what is no text, cut at the limit."""
    parts = [_part(block.model_dump(mode="json")) for block in result.content]
    if not parts and result.structuredContent is not None:
        parts = [json.dumps(result.structuredContent, ensure_ascii=False)]
    text = "\n\n".join(parts)
    if len(text) <= MAX_RESULT_CHARS:
        return text
    return f"{text[:MAX_RESULT_CHARS]}\n[{len(text) - MAX_RESULT_CHARS} more characters were left out]"


def _part(block: Mapping[str, Any]) -> str:
    """Return one block of a result as text.

    Source: Model Context Protocol, revision 2025-06-18, "Tools", "Tool Result".
    """
    kind = block["type"]
    if kind == "text":
        return str(block["text"])
    if kind == "resource" and "text" in block["resource"]:
        return str(block["resource"]["text"])
    if kind == "resource_link":
        return f"[link: {block['name']}, {block['uri']}]"
    return f"[{kind}, which can't be read here]"


def _check(servers: Sequence[McpServerSettings]) -> None:
    names = [server.name for server in servers]
    for server in servers:
        if names.count(server.name) > 1:
            raise ConfigError(f"Two MCP servers are named {server.name!r}.", hint="See tools.mcp_servers.")
        if bool(server.command) == bool(server.url):
            raise ConfigError(
                f"The MCP server {server.name!r} needs either a command or a url.",
                hint='For example command = "mcp-server-time", or url = "http://127.0.0.1:8001/mcp".',
            )
        if server.url and not re.match(r"https?://", server.url):
            raise ConfigError(
                f"{server.url!r} is no address of an MCP server.", hint="Begin it with http://."
            )
