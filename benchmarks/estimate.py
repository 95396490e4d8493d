"""The estimate of a training run's peak memory beside the measured one.

Each case is a process of its own: it loads the base, takes a few steps as our trainer does (the method's own
weights, padded rows, logits of the completions only, cross entropy in FP32, AdamW) and reports the highest
resident memory that the kernel saw, libraries and loading included. One case runs once more without
`give_freed_memory_back`. Writes `benchmarks/results/estimate.json` and `estimate.png`; exits with 1 where an
estimate is off by more than 25 %.

Example: `python -m benchmarks.estimate --base smollm2-135m --larger qwen2.5-coder-0.5b`
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localsmith.core.settings import load_settings
from localsmith.evaluation.results import write_results
from localsmith.training.bases import find_base, load_trainable
from localsmith.training.estimate.allocator import give_freed_memory_back
from localsmith.training.estimate.memory import MemoryEstimate, estimate_run
from localsmith.training.estimate.plan import TrainingPlan
from localsmith.training.estimate.shape import read_shape
from localsmith.training.methods.registry import method_of

from .training.results import add_figures

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
LIMIT = 0.25
NUM_STEPS = 3
LABELS_A_ROW = 66  # 64 tokens of completion, as `Collator` counts
COLORS = {
    "libraries": "#8a8a8a",
    "weights": "#2f6f6a",
    "optimizer states": "#c9a227",
    "gradients": "#a23e48",
    "activations": "#5b8bb0",
    "logits and temporaries": "#7a5c99",
    "16-bit copies of weights": "#9cc5a1",
}


@dataclass(frozen=True, slots=True)
class Case:
    """A run to measure.

    Attributes:
        name: For people.
        plan: How it is trained.
        is_larger: Whether the larger base is trained.
        gives_back: Whether freed memory is given back.
    """

    name: str
    plan: TrainingPlan
    is_larger: bool = False
    gives_back: bool = True


def plan(method: Any, batch_size: int, max_tokens: int, **options: Any) -> TrainingPlan:
    """Return a plan with labels on each row's last tokens."""
    labels = batch_size * LABELS_A_ROW
    return TrainingPlan(
        method, batch_size=batch_size, max_tokens=max_tokens, num_label_tokens=labels, **options
    )


CASES = (
    Case("full, FP32, 1 x 256", plan("full", 1, 256)),
    Case("full, FP32, 4 x 256", plan("full", 4, 256)),
    Case("full, FP32, 1 x 512", plan("full", 1, 512)),
    Case("full, checkpointed, 4 x 256", plan("full", 4, 256, is_checkpointed=True)),
    Case("full, 2 x 256 accumulated", plan("full", 2, 256, num_accumulated=2)),
    Case("full, mixed, 4 x 256", plan("full", 4, 256, precision="mixed")),
    Case("full, BF16, 4 x 256", plan("full", 4, 256, precision="bf16")),
    Case("LoRA r=8, 1 x 256", plan("lora", 1, 256, lora_rank=8)),
    Case("LoRA r=8, 4 x 256", plan("lora", 4, 256, lora_rank=8)),
    Case("LoRA r=8, 4 x 512", plan("lora", 4, 512, lora_rank=8)),
    Case("LoRA r=8, BF16, 4 x 256", plan("lora", 4, 256, lora_rank=8, precision="bf16")),
    Case("last 2 layers, 4 x 256", plan("last_layers", 4, 256, num_trained_layers=2)),
    Case("norms, 4 x 256", plan("norms", 4, 256)),
    Case("0.5B: LoRA r=8, 2 x 256", plan("lora", 2, 256, lora_rank=8), is_larger=True),
    Case("0.5B: biases, 2 x 256", plan("bias", 2, 256), is_larger=True),
    Case("LoRA r=8, 4 x 256", plan("lora", 4, 256, lora_rank=8), gives_back=False),
)
METHODS = {"last_layers": "selective", "norms": "selective", "bias": "selective"}


def peak_bytes() -> int:
    """Return the highest resident memory of this process so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def train(case: Case, base_name: str) -> int:
    """Load the base, take the steps; return the peak."""
    if case.gives_back:
        give_freed_memory_back()
    import localsmith.training.sft  # noqa: F401 - what the trainer's process holds is part of the peak
    import torch
    import transformers.trainer  # noqa: F401
    from localsmith.training.batches import Collator, completion_loss

    torch.manual_seed(0)
    plan = case.plan
    options = {"which": plan.method, "num_layers": plan.num_trained_layers}
    if plan.method in ("full", "lora"):
        options = {"rank": plan.lora_rank} if plan.method == "lora" else {}
    base = find_base(load_settings(), base_name)
    model = load_trainable(base, "bf16" if plan.precision == "bf16" else "fp32")
    model = method_of(METHODS.get(plan.method, plan.method), options).prepare(model)
    if plan.is_checkpointed:
        model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    for _ in range(NUM_STEPS):
        for _ in range(plan.num_accumulated):
            batch = Collator(pad_token=0)(rows(plan))
            labels = batch.pop("labels")
            is_autocast = plan.precision != "fp32"
            context = torch.autocast("cpu", torch.bfloat16) if is_autocast else contextlib.nullcontext()
            with context:
                outputs = model(**batch, use_cache=False)
            loss = completion_loss(outputs, labels)
            del outputs
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return peak_bytes()


def rows(plan: TrainingPlan) -> list[dict[str, Any]]:
    """Return rows of random tokens, the first as long as can be, the others a little shorter."""
    import torch

    lengths = [plan.max_tokens - 7 * number for number in range(plan.batch_size)]
    return [
        {"input_ids": torch.randint(0, 49_000, (length,)).tolist(), "num_prompt": length - LABELS_A_ROW + 2}
        for length in lengths
    ]


def measure(number: int, base_name: str) -> int:
    """Return the peak of a case, taken in a process of its own."""
    arguments = [sys.executable, "-m", "benchmarks.estimate", "--base", base_name, "--case", str(number)]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, cwd=ROOT)
    return int(json.loads(done.stdout.splitlines()[-1])["peak_bytes"])


def draw(names: list[str], estimates: list[MemoryEstimate], peaks: list[int], path: Path) -> None:
    """Draw the estimates' parts as bars, and the measured peaks as marks on them."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 6))
    for row, estimate in enumerate(estimates):
        left = 0.0
        for part, color in COLORS.items():
            width = estimate.parts.get(part, 0) / 1e9
            axes.barh(row, width, left=left, color=color, label=part if row == 0 else None)
            left += width
    axes.plot([peak / 1e9 for peak in peaks], range(len(peaks)), "k|", markersize=18, label="measured peak")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("GB")
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=4, fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure all cases, print, write and draw; or one case, as a child."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="smollm2-135m", help="name of an installed model, or a GGUF file")
    parser.add_argument("--larger", default="qwen2.5-coder-0.5b", help="likewise")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case is not None:
        print(json.dumps({"peak_bytes": train(CASES[arguments.case], arguments.base)}))
        return
    names, estimates, peaks, details = [], [], [], []
    unmanaged = 0.0
    for number, case in enumerate(CASES):
        base_name = arguments.larger if case.is_larger else arguments.base
        estimate = estimate_run(read_shape(find_base(load_settings(), base_name).path), case.plan)
        peak = measure(number, base_name)
        error = estimate.total_bytes / peak - 1
        note = "" if case.gives_back else "  (freed memory not given back)"
        print(
            f"{case.name:30} {estimate.total_bytes / 1e9:6.2f} GB  {peak / 1e9:6.2f} GB  {error:+6.1%}{note}"
        )
        if not case.gives_back:
            unmanaged = peak / peaks[names.index(case.name)]
            continue
        names.append(case.name)
        estimates.append(estimate)
        peaks.append(peak)
        details.append(
            {
                "case": case.name,
                "plan": dataclasses.asdict(case.plan),
                "moment": estimate.peak,
                "parts": dict(estimate.parts),
                "estimate_bytes": estimate.total_bytes,
                "measured_bytes": peak,
            }
        )
    errors = [abs(e.total_bytes / peak - 1) for e, peak in zip(estimates, peaks, strict=True)]
    figures = {
        "estimate_error_share_max": max(errors),
        "estimate_error_share_mean": sum(errors) / len(errors),
        "num_cases": len(errors),
        "peak_of_default_allocator_vs_ours": unmanaged,
    }
    write_results(
        RESULTS / "estimate.json",
        figures,
        command="python -m benchmarks.estimate",
        details={"cases": details},
    )
    worst = {"estimate_error_share_max": figures["estimate_error_share_max"]}
    add_figures("estimate", worst, command="python -m benchmarks.estimate")
    draw(names, estimates, peaks, RESULTS / "estimate.png")
    print(figures)
    sys.exit(max(errors) > LIMIT)


if __name__ == "__main__":
    main()
