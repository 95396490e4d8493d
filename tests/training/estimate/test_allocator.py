"""Freed blocks go back to the system, also those that lie below one that is still in use."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CHILD = """
import sys
import numpy as np
import psutil
from localsmith.training.estimate.allocator import give_freed_memory_back

if sys.argv[1] == "yes":
    assert give_freed_memory_back()
process = psutil.Process()
np.ones(16 << 20, np.uint8)  # freed at once, which by default raises the size from which blocks are mapped
blocks = [np.ones(4 << 20, np.uint8) for _ in range(40)]
held = process.memory_info().rss
del blocks[:-1]
print((held - process.memory_info().rss) / (39 * (4 << 20)))
"""


def freed_share(is_set: str) -> float:
    """Return the share of freed blocks that the system got back, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, is_set], capture_output=True, text=True, check=True, timeout=60
    )
    return float(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the rising size is glibc's")
def test_freed_blocks_go_back_to_the_system() -> None:
    assert freed_share("no") < 0.1, "glibc has learnt to do it; the call is not needed any more"
    assert freed_share("yes") > 0.9
