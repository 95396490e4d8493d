"""Writes constraints.txt: the newest versions that fit together, as plain name==version lines.

Place in the data's way: `make constraints`, whenever dependencies change. pip resolves all extras at once,
without installing anything; what belongs to one kind of machine only is left out, so that one list serves
machines with and without a graphics card: the local part of PyTorch's version (+cpu, +cu130) and the CUDA
libraries, which PyTorch's own metadata pins.

Example: `.venv/bin/python scripts/constraints.py --torch 2.13.0`
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("train", "dev")
_CUDA = ("nvidia-", "cuda-", "triton")
_HEADER = "# Made by `make constraints`. One list for machines with and without a graphics card.\n"


def resolve(torch_version: str) -> dict[str, str]:
    """Return name and version of everything that Localsmith with all extras needs.

    Args:
        torch_version: PyTorch is held at this version (see pyproject.toml).

    Raises:
        RuntimeError: pip finds no set that fits together.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        targets = [f"{ROOT}[{','.join(EXTRAS)}]", f"torch=={torch_version}"]
        done = subprocess.run([*pip, "--report", str(report), *targets], check=False)
        if done.returncode != 0:
            raise RuntimeError("pip found no set of versions that fit together; see its output above.")
        items = json.loads(report.read_text())["install"]
    found = {}
    for item in items:
        name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        if name != "localsmith" and not name.startswith(_CUDA):
            found[name] = item["metadata"]["version"].partition("+")[0]
    return found


def main() -> int:
    """Resolve and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--torch", required=True, help="version of PyTorch")
    versions = resolve(parser.parse_args().torch)
    lines = [f"{name}=={version}\n" for name, version in sorted(versions.items())]
    (ROOT / "constraints.txt").write_text(_HEADER + "".join(lines))
    sys.stdout.write(f"constraints.txt: {len(lines)} packages\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
