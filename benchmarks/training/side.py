"""One side of the comparison, in its own process: a few steps of LoRA, with tokens, seconds, peak memory.

Started by `benchmarks.training`; prints one JSON object. Both sides get the same rows, the same base in
float32, the same LoRA, batch and number of steps.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from localsmith.core.settings import load_settings
from localsmith.training.bases import Base, find_base, load_trainable
from localsmith.training.config import SftConfig
from localsmith.training.data.rows import TrainingRow
from localsmith.training.data.sources import FileSource, import_source

RANK, ALPHA, LEARNING_RATE, MAX_TOKENS = 16, 32, 5e-4, 1024


def ours(base: Base, rows: Sequence[TrainingRow], num_steps: int, batch: int, micro: int) -> dict[str, float]:
    """Train as `localsmith train sft` does."""
    from localsmith.training.runs.run_folder import RunFolder
    from localsmith.training.sft import train

    config = SftConfig(
        base=base.name,
        data_version="",
        method_options={"rank": RANK, "alpha": ALPHA},
        max_steps=num_steps,
        batch_size=batch,
        micro_batch_size=micro,
        max_tokens=MAX_TOKENS,
        learning_rate=LEARNING_RATE,
        save_every=num_steps,
        device="cpu",
    )
    with tempfile.TemporaryDirectory() as folder, RunFolder.create(Path(folder), "sft", {}, "run") as run:
        train(run, config, base, rows)
        lines = run.metrics.lines()
    first, last = lines[0], lines[-1]
    seconds = last.time - first.time
    return {"tokens": last.values["tokens"] - first.values["tokens"], "seconds": seconds}


def peer(base: Base, rows: Sequence[TrainingRow], num_steps: int, batch: int, micro: int) -> dict[str, float]:
    """Train by TRL's `SFTTrainer` with peft, as its documentation shows it."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(str(base.path.parent), gguf_file=base.path.name)
    tokenizer.pad_token = "<|endoftext|>"
    marks: list[tuple[float, int]] = []

    class Clock(TrainerCallback):  # type: ignore[misc, unused-ignore]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            marks.append((time.time(), int(state.num_input_tokens_seen)))

    def turns(messages: Sequence[Any]) -> list[dict[str, str]]:
        return [{"role": message.role, "content": message.content} for message in messages]

    data = Dataset.from_list(
        [{"prompt": turns(row.prompt), "completion": turns(row.messages[-1:])} for row in rows]
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=load_trainable(base),
            args=SFTConfig(
                output_dir=folder,
                max_steps=num_steps,
                per_device_train_batch_size=micro,
                gradient_accumulation_steps=batch // micro,
                gradient_checkpointing=False,
                learning_rate=LEARNING_RATE,
                max_length=MAX_TOKENS,
                completion_only_loss=True,
                include_num_input_tokens_seen="non_padding",
                bf16=False,
                use_cpu=True,
                save_strategy="no",
                report_to="none",
                logging_steps=1,
                seed=7,
            ),
            train_dataset=data,
            processing_class=tokenizer,
            peft_config=LoraConfig(
                r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
            callbacks=[Clock()],
        )
        trainer.train()
    (first_s, first), (last_s, last) = marks[0], marks[-1]
    return {"tokens": float(last - first), "seconds": last_s - first_s}


def peak_bytes() -> int:
    """Return the most memory this process has had at once."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM; this benchmark needs Linux.")


def main() -> None:
    """Run one side: NAME BASE DATA NUM_STEPS BATCH MICRO."""
    name, base_name, data, num_steps, batch, micro = sys.argv[1:7]
    base = find_base(load_settings(), base_name)
    rows = import_source(FileSource(Path(data)), 7).rows
    side = {"ours": ours, "peer": peer}[name]
    out = sys.stdout
    sys.stdout = sys.stderr  # the libraries print
    figures = side(base, rows, int(num_steps), int(batch), int(micro))
    out.write(json.dumps({**figures, "peak_bytes": peak_bytes()}) + "\n")


if __name__ == "__main__":
    main()
