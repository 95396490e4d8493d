"""How fast this machine trains: what a run of the same kind reached, or what its matrix products allow.

Place in the data's way: finished runs -> `speed_in_runs`; where there is none, `products_per_s` -> the time
in `costs`.

Example:
    speed_in_runs(list_runs(settings.runs_dir), config)
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from ..config import SftConfig
from ..runs.run_folder import RunFolder
from .plan import DeviceKind, Precision

_SIZE = 1024
_SECONDS = 0.3
# What decides the speed beside the machine.
_SAME = ("base", "method", "precision", "is_checkpointed", "device")


@dataclass(frozen=True, slots=True)
class Speed:
    """A measured speed of one device.

    Attributes:
        tokens_per_s: Tokens trained a second; None where only products were measured.
        flops_per_s: Floating-point operations a second in matrix products; None where a run was measured.
        run_id: The run that was measured; "" for products.
    """

    tokens_per_s: float | None = None
    flops_per_s: float | None = None
    run_id: str = ""


def speed_in_runs(runs: Iterable[RunFolder], config: SftConfig) -> Speed | None:
    """Return the speed of the first finished run with the same base, method, precision and device, or None.

    Args:
        runs: Runs, the newest first.
        config: The run that is planned.
    """
    wanted = config.to_json()
    for run in runs:
        used = run.config.get("sft", {})
        if any(used.get(name) != wanted[name] for name in _SAME):
            continue
        speed = (run.state.figures or {}).get("tokens_per_s", 0.0)
        if speed > 0:
            return Speed(tokens_per_s=speed, run_id=run.run_id)
    return None


def products_per_s(device: DeviceKind, precision: Precision) -> Speed:
    """Measure products of large matrices for a third of a second.

    Training does other things, too, so it reaches less than this: a time computed from it is the least.
    """
    import torch

    dtype = {"fp32": torch.float32, "fp16": torch.float16}.get(precision, torch.bfloat16)
    one = torch.ones(_SIZE, _SIZE, dtype=dtype, device=device)
    _multiplied(one)  # the first product chooses a kernel
    number, begun = 0, time.monotonic()
    while (seconds := time.monotonic() - begun) < _SECONDS:
        _multiplied(one)
        number += 1
    return Speed(flops_per_s=2.0 * _SIZE**3 * number / seconds)


def _multiplied(one: object) -> None:
    import torch

    product = torch.mm(one, one)  # type: ignore[call-overload]
    if product.is_cuda:
        torch.cuda.synchronize()
