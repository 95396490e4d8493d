"""What would come of a training request, before anything is trained: rows, what was dropped, steps, memory.

Place in the data's way: `TrainingRequest` -> data version -> rows in the base's tokens -> the estimate and
this machine's memory -> `Check`, which the Training page shows. It runs in a process of its own, which
`training_check_job.py` starts: a large file takes seconds of computing that the chat shall not wait for.

Example:
    result = check(load_settings(), TrainingRequest("smollm2-135m", files=("tickets.jsonl",)))
    result.num_steps, result.refusal
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from .core.errors import DatasetError, LocalsmithError
from .core.settings import Settings, load_settings
from .training_request import TrainingRequest, plan_of, prepare_data

if TYPE_CHECKING:
    from .training.bases import Base
    from .training.config import SftConfig
    from .training.data.rows import TrainingRow
    from .training.data.versions import DataVersion
    from .training.encoding import EncodedRow

NUM_ROWS_SHOWN = 3
OnStage: TypeAlias = Callable[[int, int, str], None]
"""Called with (done, in all, stage)."""


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A row as the model will read it.

    Attributes:
        source: Where it came from.
        prompt: The prompt in the model's own template.
        completion: What is learned.
        num_prompt: Tokens of the prompt.
        num_completion: Tokens that are learned.
    """

    source: str
    prompt: str
    completion: str
    num_prompt: int
    num_completion: int


@dataclass(frozen=True, slots=True)
class ImportFacts:
    """What came of one source; see `training.data.sources.ImportReport`."""

    source: str
    num_records: int
    num_rows: int
    num_bad: int
    bad_examples: tuple[str, ...]
    left_out: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class FilterFacts:
    """What one rule of the quality filter dropped, with (source, reason, text) samples."""

    name: str
    num_before: int
    num_dropped: int
    reasons: tuple[tuple[str, int], ...]
    samples: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """What the run needs at its peak, and what there is.

    Attributes:
        parts: (part, bytes) at the peak, the largest first.
        peak: The moment of the peak.
        total_bytes: All parts.
        free_bytes: What the device has free.
        device: The device, for people.
        is_on_gpu: Whether it is a GPU.
    """

    parts: tuple[tuple[str, int], ...]
    peak: str
    total_bytes: int
    free_bytes: int
    device: str
    is_on_gpu: bool


@dataclass(frozen=True, slots=True)
class Check:
    """What would come of a request.

    Attributes:
        data_version: Id of the prepared data; a run is started on it.
        num_train: Rows to train on.
        num_held_out: Held-out rows.
        imports: What came of each source.
        filters: What each rule dropped.
        rows: The first rows as the model reads them.
        longest_tokens: Tokens of the longest row.
        num_long: Rows to train on with more tokens than are allowed.
        num_steps: Optimizer steps.
        memory: What it needs; None where that can't be told.
        refusal: Why the run can't be started; "" where it can.
        hint: What could be done about it.
    """

    data_version: str
    num_train: int
    num_held_out: int
    imports: tuple[ImportFacts, ...]
    filters: tuple[FilterFacts, ...]
    rows: tuple[ShownRow, ...]
    longest_tokens: int
    num_long: int
    num_steps: int
    memory: MemoryFacts | None
    refusal: str
    hint: str


def check(
    settings: Settings, request: TrainingRequest, data_version: str = "", on_stage: OnStage | None = None
) -> Check:
    """Prepare the data and tell what training on them takes.

    Args:
        settings: Where models and data are kept.
        request: What is asked for.
        data_version: Id of data that were prepared for the same data settings before; "" to prepare them.
        on_stage: Told how far each stage is; None for no one.

    Raises:
        LocalsmithError: The request can't be carried out, whatever the memory.
    """
    from .training.bases import find_base
    from .training.data.versions import load_version
    from .training.sft import memory_plan

    plan = plan_of(request, data_version, request.base)
    base = find_base(settings, request.base)
    version = None
    if data_version:
        with contextlib.suppress(DatasetError):  # deleted meanwhile
            version = load_version(settings.home, data_version)
    version = version or prepare_data(settings, request, on_stage)
    rows = list(version.train_rows())
    encoded, shown = _encoded(plan.sft, base, rows, on_stage)
    fitting = [row for row in encoded if len(row.tokens) <= request.max_tokens]
    refusal, hint = _refusal(request, version, encoded, fitting)
    memory = None
    if fitting:
        if on_stage:
            on_stage(0, 0, "measuring memory")
        memory, no, what = _memory(memory_plan(plan.sft, base, fitting))
        refusal, hint = (refusal, hint) if refusal else (no, what)
    return Check(
        data_version=version.id,
        num_train=len(rows),
        num_held_out=version.report.num_held_out,
        imports=tuple(
            ImportFacts(r.source, r.num_records, r.num_rows, r.num_bad, r.bad_examples, r.left_out)
            for r in version.report.imports
        ),
        filters=tuple(
            FilterFacts(
                r.name,
                r.num_before,
                r.num_dropped,
                r.reasons,
                tuple((sample.source, sample.reason, sample.text) for sample in r.samples),
            )
            for r in version.report.filters
        ),
        rows=shown,
        longest_tokens=max((len(row.tokens) for row in encoded), default=0),
        num_long=len(encoded) - len(fitting),
        num_steps=math.ceil(request.epochs * len(fitting) / request.batch_size),
        memory=memory,
        refusal=refusal,
        hint=hint,
    )


def check_to_json(result: Check) -> dict[str, Any]:
    """Return what `check_from_json` makes the result from again."""
    return dataclasses.asdict(result)


def check_from_json(raw: Mapping[str, Any]) -> Check:
    """Return the result that `check_to_json` wrote."""
    from pydantic import TypeAdapter

    return TypeAdapter(Check).validate_python(raw)


def main() -> None:
    """Read a request from standard input; write progress and the result, a JSON object a line.

    The input is {"request": …, "data_version": …}. A line of the output is {"stage", "done", "total"},
    {"result"} or {"error", "hint"}; one of the last two ends it.
    """
    raw = json.loads(sys.stdin.read())

    def tell(done: int, total: int, stage: str) -> None:
        _write({"stage": stage, "done": done, "total": total})

    try:
        request = TrainingRequest.from_json(raw["request"])
        result = check(load_settings(), request, raw["data_version"], tell)
        _write({"result": check_to_json(result)})
    except LocalsmithError as exc:
        _write({"error": str(exc), "hint": exc.hint})


def _encoded(
    config: SftConfig, base: Base, rows: Sequence[TrainingRow], on_stage: OnStage | None
) -> tuple[list[EncodedRow], tuple[ShownRow, ...]]:
    """Return all rows in the base's tokens, and the first as texts."""
    from .models.chat.template import ChatTemplate
    from .training.bases import load_vocabulary
    from .training.encoding import Encoder

    vocabulary = load_vocabulary(base, config.template)
    template = ChatTemplate(vocabulary)
    most = sys.maxsize  # longer rows are counted, not refused: the person is to see how long they are
    encoder = Encoder(vocabulary, most)
    encoded = encoder.encode_all(
        rows,
        lambda done, total: on_stage(done, total, "the rows in the model's tokens") if on_stage else None,
    )
    shown = tuple(
        ShownRow(
            row.source, template.text(row.prompt), row.completion, tokens.num_prompt, tokens.num_completion
        )
        for row, tokens in zip(rows[:NUM_ROWS_SHOWN], encoded, strict=False)
    )
    return encoded, shown


def _refusal(
    request: TrainingRequest,
    version: DataVersion,
    encoded: Sequence[EncodedRow],
    fitting: Sequence[EncodedRow],
) -> tuple[str, str]:
    """Return why these data can't be trained on, and what to do; ("", "") where they can."""
    if not version.report.num_held_out:
        return (
            "No row is held out, so nobody could tell whether the trained model is better.",
            "Hold out a larger share, or give more rows.",
        )
    num_long = len(encoded) - len(fitting)
    if num_long and (request.long_rows == "refuse" or not fitting):
        longest = max(len(row.tokens) for row in encoded)
        return (
            f"{num_long:,} of {len(encoded):,} rows are longer than {request.max_tokens:,} tokens.",
            f"The longest has {longest:,}: allow as many, or leave longer rows out.",
        )
    return "", ""


def _memory(wanted: tuple[Any, Any, Any]) -> tuple[MemoryFacts, str, str]:
    """Return what the run needs and, where it does not fit, why not and what would."""
    from .core.errors import TrainingError
    from .training.estimate.memory import estimate_run
    from .training.estimate.verdict import check_fits

    shape, plan, device = wanted
    estimate = estimate_run(shape, plan)
    parts = sorted(((name, size) for name, size in estimate.parts.items() if size), key=lambda part: -part[1])
    facts = MemoryFacts(
        tuple(parts),
        estimate.peak,
        estimate.total_bytes,
        device.free_bytes,
        device.name,
        device.kind == "cuda",
    )
    try:
        check_fits(shape, plan, device)
    except TrainingError as exc:
        return facts, str(exc), exc.hint
    return facts, "", ""


def _write(content: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
