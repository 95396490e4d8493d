"""llama.cpp and PyTorch in one process: neither takes the processor's matrix registers from the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WORK = """
import sys
from pathlib import Path

import torch
from localsmith.training.export.token_models import GgufTokenModel

with GgufTokenModel(Path(sys.argv[1])) as model:
    before = model.greedy([1, 2, 3, 4, 5], 4)
    matrix = torch.ones(256, 256, dtype=torch.bfloat16)
    assert (matrix @ matrix).sum() > 0
    assert model.greedy([1, 2, 3, 4, 5], 4) == before
print("fine")
"""


@pytest.mark.real_model
def test_a_decode_after_a_product_of_pytorchs_is_the_same_again(small_model_path: Path) -> None:
    """In a process of its own: on processors with AMX the fault ends it."""
    done = subprocess.run(
        [sys.executable, "-c", WORK, str(small_model_path)], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout.strip()) == (0, "fine"), done.stderr[-2000:]
