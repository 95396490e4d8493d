"""The HTTP server itself: where it may listen, and how it starts and stops.

Place in the data's way: `localsmith serve` calls `check_exposure`, then `HttpServer(app, settings).run()`.

Example:
    server = HttpServer(create_app(parts, settings, keys), settings)
    server.run()
"""

from __future__ import annotations

import logging
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..core.errors import AccessDenied, ConfigError
from ..core.settings import ServeSettings
from .guard import App, is_loopback
from .keys import KeyStore

MAX_HEAD_BYTES = 65_536
IDLE_S = 30


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's fast HTTP protocol, which alone would take headers of any length."""

    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Refuse a request whose head does not end."""
        if self._head_bytes > MAX_HEAD_BYTES:
            self.send_400_response("The request's headers are too long.")
            return
        self._head_bytes += len(data)
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """Count anew from here on; let streams drop a client that doesn't read."""
        self._head_bytes = 0
        self.scope["abort"] = self.transport.abort  # type: ignore[typeddict-unknown-key]
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count no body."""
        self._head_bytes = 0
        super().on_body(body)


class HttpServer:
    """An application on a socket.

    Args:
        app: The ASGI application.
        settings: Where to listen.

    Raises:
        ConfigError: The address can't be listened on.
    """

    def __init__(self, app: App, settings: ServeSettings) -> None:
        self._settings = settings
        self._socket = _listen(settings.host, settings.port)
        logger = logging.getLogger("uvicorn")
        logger.propagate = False  # the guard logs what matters
        logger.addHandler(logging.NullHandler())
        config: dict[str, Any] = {
            "http": BoundedProtocol,
            "ws": "none",
            "lifespan": "on",
            "log_config": None,
            "access_log": False,
            "server_header": False,
            "proxy_headers": False,  # whoever may set them could be anybody
            "timeout_keep_alive": IDLE_S,
            "timeout_graceful_shutdown": max(1, round(settings.shutdown_s)),
            "limit_concurrency": settings.max_connections,
        }
        self._server = uvicorn.Server(uvicorn.Config(app, **config))

    @property
    def url(self) -> str:
        """Where it listens."""
        host = self._settings.host
        name = f"[{host}]" if ":" in host else host
        return f"http://{name}:{self._socket.getsockname()[1]}"

    @property
    def is_started(self) -> bool:
        """Whether it accepts connections."""
        return self._server.started

    def run(self) -> None:
        """Serve until SIGINT, SIGTERM or `stop`; what runs then gets `shutdown_s` to end."""
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """Make `run` return, from any thread."""
        self._server.should_exit = True


def check_exposure(settings: ServeSettings, keys: KeyStore) -> None:
    """Refuse to listen to other machines without a key.

    Raises:
        AccessDenied: There is no valid key.
    """
    if not is_loopback(settings.host) and not keys.has_valid():
        raise AccessDenied(
            f"Everyone who reaches {settings.host} could use this server: there is no API key yet.",
            hint="Make one: localsmith keys create NAME",
        )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(512)
    except OSError as exc:
        raise ConfigError(
            f"{host}:{port} can't be listened on: {exc.strerror or exc}.",
            hint="Take another port, localsmith serve --port 0 for any free one.",
        ) from exc
    return listener
