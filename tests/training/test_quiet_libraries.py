"""What the libraries of training would print between the lines of a run's progress."""

from __future__ import annotations

import subprocess
import sys

LOADING = """
import logging
from localsmith.training.bases import require_transformers

require_transformers()
import bitsandbytes

# On processors with 16-bit instructions this is what the import itself does.
logging.getLogger("bitsandbytes.backends.cpu.ops").warning("Failed to load a kernel from the hub")
"""


def test_loading_the_libraries_prints_nothing() -> None:
    """In a process of its own: what this one has loaded already would print nothing again."""
    done = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
