"""Which command installs an optional part of Localsmith here.

Place in the data's way: whatever needs a package that the chat does without names this command in its error.

Example:
    >>> install_command("train").endswith(("setup-train", "'localsmith[train]'"))
    True
"""

from __future__ import annotations

import sys
from pathlib import Path

# What `scripts/setup.py` leaves in an environment that `make` set up from a checkout.
SETUP_STAMP = ".localsmith-setup.json"


def install_command(extra: str) -> str:
    """Return the command that installs an extra of the distribution into this environment.

    Args:
        extra: Name of the extra, such as "train".

    Returns:
        The checkout's own command where `make` set this environment up, so that versions stay as they were
        tested and PyTorch stays the build for this machine; else pip's.
    """
    if (Path(sys.prefix) / SETUP_STAMP).is_file():
        return f"make setup-{extra}"
    return f"pip install 'localsmith[{extra}]'"
