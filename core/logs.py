"""The log file: what happened, for whoever looks into an error.

Place in the data's way: beside it. Every part logs events with fields through structlog; the front door sends
them to a rotating JSON-lines file in the data folder. Nothing is ever logged to standard output.

Example:
    log_to_file(load_settings())
    structlog.get_logger("localsmith.example").info("document_added", name="handbook.pdf")
"""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler

import structlog

from .errors import StorageError
from .settings import Settings

MAX_BYTES = 5_000_000
NUM_BACKUPS = 3


def log_to_file(settings: Settings) -> None:
    """Send the log to `settings.log_path`, unless the program that uses Localsmith has configured structlog.

    Raises:
        StorageError: The data folder can't be written.
    """
    if structlog.is_configured():
        return
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(
            settings.log_path, maxBytes=MAX_BYTES, backupCount=NUM_BACKUPS, encoding="utf-8", delay=True
        )
    except OSError as exc:
        raise StorageError(
            f"The data folder {settings.home} can't be written: {exc.strerror}.",
            hint="Set LOCALSMITH_HOME to a folder that can.",
        ) from exc
    logger = logging.getLogger("localsmith")
    logger.addHandler(handler)
    logger.setLevel(settings.log.level.upper())
    logger.propagate = False
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
