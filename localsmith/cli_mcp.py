"""`localsmith mcp`: other assistants use the documents, strategies and sandbox of this machine.

Place in the data's way: takes strategies, library and sandbox from the front door and hands them to
`serving/mcp/`, which knows nothing of the front door.

Example: `localsmith mcp`, as an assistant's configuration starts it, or `localsmith mcp --http`
"""

from __future__ import annotations

import importlib.util
import signal
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .core.settings import Settings
    from .front_door import Localsmith
    from .serving.mcp.parts import McpParts

HTTP_PORT = 8001  # beside `localsmith serve`, which has 8000


def mcp(
    http: Annotated[
        bool, typer.Option("--http", help="Serve over HTTP instead of standard input and output.")
    ] = False,
    host: Annotated[
        str | None, typer.Option(help="With --http: address to listen on; not only loopback needs a key.")
    ] = None,
    port: Annotated[int, typer.Option(help="With --http: port; 0 for any free one.")] = HTTP_PORT,
    model: Annotated[
        str | None, typer.Option(help="Catalog name of the chat model, or openai://HOST:PORT/MODEL.")
    ] = None,
) -> None:
    """Let other assistants ask, search and compute here.

    By the Model Context Protocol.
    """
    from .core.errors import ConfigError
    from .core.extras import install_command
    from .core.settings import load_settings

    if importlib.util.find_spec("mcp") is None:
        raise ConfigError("The MCP library is not installed.", hint=f"Install it: {install_command('mcp')}.")
    if not http:
        _serve_stdio(model, load_settings())
        return
    named = {"port": port} | ({} if host is None else {"host": host})
    _serve_http(model, load_settings(serve=named))


def mcp_parts_of(ls: Localsmith) -> McpParts:
    """Return what the MCP server serves, from the front door; nothing in it waits for a part to load."""
    from .cli_serve import parts_of
    from .serving.mcp.parts import McpParts

    return McpParts(
        parts_of(ls), library=lambda: ls.library, sandbox=ls.strategies.sandbox, warm_up=ls.warm_up
    )


def _serve_stdio(model: str | None, settings: Settings) -> None:
    from .serving.mcp.stdio import serve_stdio, take_streams

    streams = take_streams()
    from .front_door import Localsmith
    from .serving.mcp.library_logs import log_libraries
    from .serving.mcp.server import create_server

    with Localsmith(model, settings=settings) as ls:
        log_libraries()
        serve_stdio(create_server(mcp_parts_of(ls), settings.serve), streams)


def _serve_http(model: str | None, settings: Settings) -> None:
    from .front_door import Localsmith
    from .serving.keys import KeyStore
    from .serving.mcp.http import PATH, create_http_app
    from .serving.mcp.library_logs import log_libraries
    from .serving.server import HttpServer, check_exposure
    from .terminal import console

    keys = KeyStore(settings.keys_path)
    check_exposure(settings.serve, keys)
    # The server takes these signals while it runs and hands them on at its end, when all is done already.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    with Localsmith(model, settings=settings) as ls:
        log_libraries()
        server = HttpServer(create_http_app(mcp_parts_of(ls), settings.serve, keys), settings.serve)
        ls.warm_up()
        needs_key = " It wants an API key." if keys.exist() else ""
        console.print(f"Listening on {server.url}{PATH}.{needs_key} Ctrl-C stops it.", markup=False)
        server.run()
    keys.close()
