"""Measures the engine beside its peers, writes the results and draws them.

Example: `python -m benchmarks.engine --model qwen2.5-coder-0.5b --rounds 5`
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import psutil
from localsmith.core.errors import LocalsmithError
from localsmith.evaluation.results import machine, write_results

from ..llama_server import SetupError
from .conditions import QUIET_CORES, foreign_cores_now, state_now, versions
from .home import find_model
from .load import LoadFailed
from .lookup import lookup
from .prompts import real_paragraphs
from .react import react
from .report import RESULTS, draw, merged, misses, read, table
from .rounds import Rounds
from .servers import ServerFailed
from .setup import OMP, Setup, Sizes
from .stall import stall
from .worker import WorkerFailed
from .workloads import CONTENDERS, Bench, busy, clients8, samples8

WORKLOADS = {
    "clients8": clients8,
    "samples8": samples8,
    "react": react,
    "busy": busy,
    "stall": stall,
    "lookup": lookup,
}
MIN_ROUNDS = 5


def main() -> None:
    """Measure and say what was found; exit 1 where a target is missed, 2 where nothing could be measured."""
    arguments = _arguments()
    try:
        sys.exit(run(arguments))
    except (LocalsmithError, SetupError, ServerFailed, WorkerFailed, LoadFailed, OSError) as exc:
        print(f"Nothing was written: {exc}", file=sys.stderr)
        hint = getattr(exc, "hint", "")
        if hint:
            print(hint, file=sys.stderr)
        sys.exit(2)


def run(arguments: argparse.Namespace) -> int:
    """Do the chosen workloads; return the exit status."""
    foreign = foreign_cores_now()
    if foreign > QUIET_CORES and not arguments.anyway:
        print(
            f"Other programs keep {foreign:.1f} cores busy, so the figures would be worth nothing. "
            "End them, or add --anyway.",
            file=sys.stderr,
        )
        return 2
    model = find_model(arguments.model)
    setup = Setup(
        model.path,
        model.name,
        model.sha256,
        n_threads=arguments.threads or psutil.cpu_count(logical=False) or 1,
        n_ctx=arguments.n_ctx,
        n_batch=arguments.n_batch,
        flash_attention=arguments.flash_attention == "on",
    )
    chosen = arguments.only
    rounds = Rounds(arguments.rounds, {name: CONTENDERS[name] for name in chosen})
    sizes = Sizes.quick() if arguments.quick else Sizes()
    begun, before = time.monotonic(), state_now()
    figures: dict[str, float] = {}
    raw: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="localsmith-benchmark-logs-") as logs:
        bench = Bench(setup, sizes, model, real_paragraphs(), rounds, Path(logs))
        for name in chosen:
            result = WORKLOADS[name](bench)
            figures |= result.figures
            raw[name] = {
                "machine": machine(),  # an earlier run's workloads may be from another one
                "date": date.today().isoformat(),
                "rounds": result.raw,
                "wall_s": round(time.monotonic() - begun, 1),
                "load": state_now(),
            }
    details = _details(setup, sizes, raw) | {
        "foreign_cores_before": round(foreign, 3),
        "state_before": before,
        "wall_s": round(time.monotonic() - begun, 1),
        "is_quick": arguments.quick,
    }
    return _report(arguments, figures, details)


def _details(setup: Setup, sizes: Sizes, raw: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": {"name": setup.name, "sha256": setup.sha256, "size_bytes": setup.path.stat().st_size},
        "settings": {
            "n_threads": setup.n_threads,
            "n_ctx": setup.n_ctx,
            "n_batch": setup.n_batch,
            "flash_attention": setup.flash_attention,
            "kv_type": "f16",
            "num_parallel": setup.num_parallel,
            **OMP,
        },
        "sizes": {name: getattr(sizes, name) for name in Sizes.__slots__},
        "cores": {"physical": psutil.cpu_count(logical=False), "logical": psutil.cpu_count()},
        "versions": versions(),
        "workloads": raw,
    }


def _report(arguments: argparse.Namespace, figures: dict[str, float], details: dict[str, Any]) -> int:
    print(table(figures))
    if arguments.quick or arguments.rounds < MIN_ROUNDS:
        print(f"Not written: results need full sizes and at least {MIN_ROUNDS} rounds.", file=sys.stderr)
        path = None
    else:
        path = RESULTS / "engine.json"
        content = merged(read(path), figures, details)
        model = details["model"]["name"]
        command = f"python -m benchmarks.engine --model {model} --rounds {arguments.rounds}"
        write_results(path, content["figures"], command=command, details=content["details"])
        draw(content["figures"], f"{model}, {arguments.rounds} rounds, medians", RESULTS / "engine.png")
        print(f"Written: {path} and engine.png", file=sys.stderr)
    loads = [
        r["foreign_cores"] for w in details["workloads"].values() for rs in w["rounds"].values() for r in rs
    ]
    if max(loads) > QUIET_CORES:
        print(f"Other programs kept up to {max(loads):.1f} cores busy in a round.", file=sys.stderr)
    missed = misses(figures)
    return 1 if missed and path else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--model", default="qwen2.5-coder-0.5b", help="installed model or GGUF file")
    parser.add_argument(
        "--rounds", type=int, default=MIN_ROUNDS, help=f"rounds; {MIN_ROUNDS} or more are written"
    )
    parser.add_argument(
        "--only", type=_names, default=list(WORKLOADS), help="e.g. clients8,react; default all"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, nothing written")
    parser.add_argument("--anyway", action="store_true", help="measure although other programs run")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 for one a physical core")
    parser.add_argument("--n-ctx", type=int, default=8192, help="cells of the KV cache, for all requests")
    parser.add_argument("--n-batch", type=int, default=256, help="prompt tokens a step")
    parser.add_argument("--flash-attention", choices=("on", "off"), default="on")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = sorted(set(names) - set(WORKLOADS))
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    return names


if __name__ == "__main__":
    main()
