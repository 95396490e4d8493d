"""One entry in a process of its own: trained as `localsmith train sft` does, then scored.

Started by `__main__`, so that the peak of its memory is its own. Its run folder stays until it is measured:
killed and started again, it goes on from the last checkpoint, and the peak is the highest of all attempts.

Example:
    python -m benchmarks.peft.child lora plan.json data work result.json
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from localsmith.core.errors import LocalsmithError
from localsmith.core.settings import load_settings
from localsmith.evaluation.metrics import contains_answer
from localsmith.evaluation.overlap import overlap_figures
from localsmith.training.bases import Base, find_base, load_trainable, load_vocabulary
from localsmith.training.config import SftConfig
from localsmith.training.data.rows import TrainingRow
from localsmith.training.held_out import losses_on
from localsmith.training.methods.registry import method_of
from localsmith.training.runs.metrics import MetricsLine
from localsmith.training.runs.run_folder import CONFIG_FILE, RunFolder, write_json
from localsmith.training.sft import load_trained, train
from localsmith.training.writers import OnWritten, TrainerWriter

from localsmith.stage_progress import OnStage, stages

from ..training.side import peak_bytes
from .data import Data, read_data
from .entries import ENTRIES, Entry, Plan

PEAK_FILE, FIGURES_FILE = "peak.json", "figures.json"
_CHECKPOINTS = 4
_WRITTEN_AT_ONCE = 16


def config_of(entry: Entry, plan: Plan) -> SftConfig:
    """Return how an entry is trained: each row once, in steps of `batch_size`."""
    num_steps = math.ceil(plan.num_rows / plan.batch_size)
    return SftConfig(
        base=plan.base,
        data_version="",
        method=entry.method,
        method_options=dict(entry.options),
        max_steps=num_steps,
        batch_size=plan.batch_size,
        micro_batch_size=plan.batch_size,
        max_tokens=plan.max_tokens,
        learning_rate=entry.learning_rate,
        save_every=max(2, num_steps // _CHECKPOINTS),
        device="cpu",
        seed=plan.seed,
    )


def trained(
    name: str, plan: Plan, base: Base, rows: Sequence[TrainingRow], work: Path, tell: OnStage
) -> tuple[Any, dict[str, float]]:
    """Train an entry, or go on with it, or take what was trained.

    Returns:
        The model, and the figures of its training.
    """
    config = config_of(ENTRIES[name], plan)
    with _run_folder(work, name, {**config.to_json(), "rows": [row.id for row in rows]}) as run:
        figures_file = run.path / FIGURES_FILE
        if figures_file.is_file():
            return load_trained(run, config, base)[0], json.loads(figures_file.read_text(encoding="utf-8"))
        shutil.rmtree(run.trained_dir, ignore_errors=True)  # from a kill before its figures were kept
        peak_file = run.path / PEAK_FILE

        def show(progress: Any) -> None:
            write_json(peak_file, max(peak_bytes(), _peak_in(peak_file)))
            words = f"loss {progress.loss:.3f}, {progress.tokens_per_s:.0f} tokens/s"
            tell("training", progress.step, progress.num_steps, words)

        result = train(run, config, base, rows, on_progress=show)
        figures = {
            "trained_parameters": float(result.parameters.trained),
            "trained_share": result.parameters.share,
            "learning_rate": config.learning_rate or method_of(config.method).learning_rate,
            "peak_bytes": float(max(peak_bytes(), _peak_in(peak_file))),
            "tokens_per_s": tokens_per_s(run.metrics.lines(), config.save_every),
            "last_loss": result.figures["last_loss"],
        }
        write_json(figures_file, figures)
        return result.model, figures


def tokens_per_s(lines: Sequence[MetricsLine], save_every: int) -> float:
    """Return the speed over the steps that followed one another, without those that waited for a checkpoint.

    Args:
        lines: A run's metrics.
        save_every: Steps between its checkpoints.
    """
    tokens = seconds = 0.0
    for earlier, line in zip(lines, lines[1:], strict=False):
        if line.step == earlier.step + 1 and earlier.step % save_every:
            tokens += line.values["tokens"] - earlier.values["tokens"]
            seconds += line.time - earlier.time
    return tokens / seconds if seconds else 0.0


def scores(model: Any, base: Base, plan: Plan, data: Data, tell: OnStage) -> dict[str, Any]:
    """Let a model write summaries and answers, and take its losses.

    Returns:
        `figures`; `nats`, each row's loss a token, by other task; `texts`, the summaries.
    """
    vocabulary = load_vocabulary(base)

    def shown(stage: str) -> OnWritten:
        return lambda done, total: tell(stage, done, total, "")

    def written(rows: Sequence[TrainingRow], max_tokens: int, stage: str) -> list[str]:
        writer = TrainerWriter(model, vocabulary, max_tokens, _WRITTEN_AT_ONCE)
        return writer.write([row.prompt for row in rows], shown(stage))

    texts = written(data.summaries, plan.max_completion_tokens, "summaries")
    figures = overlap_figures(texts, [(row.completion, *row.reference) for row in data.summaries])
    answers = written(data.questions, plan.max_answer_tokens, "answers")
    golds = [(row.completion, *row.reference) for row in data.questions]
    answered = [contains_answer(text, gold) for text, gold in zip(answers, golds, strict=True)]
    figures["squad_answered"] = sum(answered) / len(answered)
    nats: dict[str, list[float]] = {}
    for task, rows in data.others.items():
        losses = losses_on(rows, model, shown(f"loss on {task}"))
        nats[task] = [loss / row.num_completion for loss, row in zip(losses, rows, strict=True)]
    return {"figures": figures, "nats": nats, "texts": texts}


def measure(name: str, plan: Plan, folder: Path, work: Path, tell: OnStage) -> dict[str, Any]:
    """Train and score one entry."""
    base = find_base(load_settings(), plan.base)
    data = read_data(folder, base, plan)
    figures: dict[str, float] = {}
    if not ENTRIES[name].method:
        model: Any = load_trainable(base)
    else:
        rows = data.mixture if ENTRIES[name].is_multitask else data.train
        model, figures = trained(name, plan, base, rows, work, tell)
    result = scores(model, base, plan, data, tell)
    result["figures"] |= figures
    result["texts"] = [
        {"source": row.source, "text": text, "references": [row.completion, *row.reference]}
        for row, text in zip(data.summaries, result["texts"], strict=True)
    ]
    return result


def _run_folder(work: Path, name: str, config: Mapping[str, Any]) -> RunFolder:
    """Return the entry's run folder; one of another plan is begun anew."""
    run_id = name.replace("_", "-")
    path = work / run_id
    if (path / CONFIG_FILE).is_file():
        run = RunFolder(path)
        if run.config == json.loads(json.dumps(config)):
            return run
        run.delete()
    shutil.rmtree(path, ignore_errors=True)
    return RunFolder.create(work, "sft", config, run_id)


def _peak_in(path: Path) -> int:
    return int(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else 0


def main() -> int:
    """Measure one entry: NAME PLAN DATA WORK RESULT."""
    name, plan_file, folder, work, result_file = sys.argv[1:6]
    plan = Plan(**json.loads(Path(plan_file).read_text(encoding="utf-8")))
    try:
        with stages() as tell:
            result = measure(name, plan, Path(folder), Path(work), tell)
    except LocalsmithError as exc:
        print(f"{name}: {exc} {exc.hint}".rstrip(), file=sys.stderr)
        return 1
    write_json(Path(result_file), {**result, "plan": dataclasses.asdict(plan)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
