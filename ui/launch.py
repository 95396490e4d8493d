"""How the chat's server is started.

Place in the data's way: `localsmith ui` runs `command(...)`. Every option of Streamlit that matters is
named here, so that a configuration file of another project in the working directory can't change them.

Example:
    >>> from localsmith.core.settings import load_settings
    >>> "--browser.gatherUsageStats=false" in command(load_settings(), open_browser=False)
    True
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from ..core.settings import Settings

BYTES_PER_MB = 2**20  # Streamlit's maxUploadSize counts in these
_LOOPBACK = ("127.0.0.1", "localhost", "::1")

_LIGHT = {
    "primaryColor": "#2f6f6a",
    "backgroundColor": "#ffffff",
    "secondaryBackgroundColor": "#f4f5f3",
    "textColor": "#1f2523",
    "borderColor": "#dfe3df",
    "linkColor": "#2f6f6a",
    "blueColor": "#2f6f6a",
    "blueBackgroundColor": "#e3f0ee",
    "blueTextColor": "#245853",
}
_DARK = {
    "primaryColor": "#6fb8b0",
    "backgroundColor": "#161918",
    "secondaryBackgroundColor": "#1f2322",
    "textColor": "#e6e9e7",
    "borderColor": "#353b39",
    "linkColor": "#8accc4",
    "blueColor": "#6fb8b0",
    "blueBackgroundColor": "#22403d",
    "blueTextColor": "#a5dad4",
}


def max_upload_mb(settings: Settings) -> int:
    """Return the largest file that can be uploaded, in the megabytes of 2**20 bytes that the page names."""
    return max(math.ceil(settings.retrieval.max_file_bytes / BYTES_PER_MB), 1)


def command(settings: Settings, open_browser: bool, script: Path | None = None) -> list[str]:
    """Return the command that starts the server.

    Args:
        settings: Address, port and the largest file that can be uploaded.
        open_browser: Whether to open a browser once the server listens.
        script: The script to serve; None for the real one. Tests serve one that calls `app.main` with a front
            door of their own.
    """
    options = {
        "server.address": settings.ui.host,
        "server.port": str(settings.ui.port),
        "server.headless": str(not open_browser).lower(),
        "server.maxUploadSize": str(max_upload_mb(settings)),
        "server.fileWatcherType": "none",
        "server.showEmailPrompt": "false",
        "server.enableXsrfProtection": "true",
        "server.enableCORS": "true",
        "server.enableAgentApi": "false",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "client.showErrorLinks": "false",
        "client.showSidebarNavigation": "false",
        "runner.magicEnabled": "false",
        "runner.postScriptGC": "false",  # a full collection after every tick would stop the engine for long
        "logger.level": "warning",
        "theme.baseRadius": "0.6rem",
        "theme.showWidgetBorder": "true",
    }
    options |= {f"theme.light.{name}": value for name, value in _LIGHT.items()}
    options |= {f"theme.dark.{name}": value for name, value in _DARK.items()}
    flags = [f"--{name}={value}" for name, value in options.items()]
    if settings.ui.host in _LOOPBACK:
        # A page elsewhere whose name was made to point at this machine is turned away.
        flags += [f"--server.allowedHosts={host}" for host in _LOOPBACK]
    target = script or Path(__file__).with_name("app.py")
    return [sys.executable, "-m", "streamlit", "run", str(target), *flags]
