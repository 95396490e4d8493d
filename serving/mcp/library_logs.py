"""What libraries log goes into Localsmith's log file, as lines of the same form.

Place in the data's way: beside it. Under MCP's stdio nobody reads standard error, and a library's warning is
for whoever looks into the log.

Example:
    log_libraries()
    logging.getLogger("mcp").warning("this goes into the file")
"""

from __future__ import annotations

import logging

import structlog

MAX_MESSAGE_CHARS = 1000
_log = structlog.get_logger(__name__)


def log_libraries() -> None:
    """Send warnings and errors of all libraries to the log; a second call changes nothing."""
    root = logging.getLogger()
    if not any(isinstance(handler, _Forwarding) for handler in root.handlers):
        root.addHandler(_Forwarding(logging.WARNING))


class _Forwarding(logging.Handler):
    """Hands a record to structlog, which writes to the logger "localsmith", below the root."""

    def emit(self, record: logging.LogRecord) -> None:
        words = record.getMessage()[:MAX_MESSAGE_CHARS]
        _log.log(record.levelno, "library_log", library=record.name, message=words)
