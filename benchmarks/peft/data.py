"""The rows of the comparison: what is trained on, what is summarized, and what other tasks ask.

Place in the data's way: the data folder -> here, the same for every entry -> `child`. Rows that are scored
never stand in what is trained on: other files, other articles, other halves, and training rows that nearly
say what a scored row says are left out.

Example:
    data = read_data(folder, find_base(settings, "smollm2-135m"), Plan())
    len(data.train), len(data.mixture), list(data.others)
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from localsmith.training.bases import Base, load_vocabulary
from localsmith.training.data.contamination import contamination
from localsmith.training.data.forms import Shape, rows_of
from localsmith.training.data.mix import MixRecipe, mixed
from localsmith.training.data.records import Record
from localsmith.training.data.rows import TrainingRow
from localsmith.training.data.sources import FileSource, import_source
from localsmith.training.encoding import EncodedRow, Encoder
from localsmith.training.vocabularies import TrainingVocabulary

from .entries import ARTICLES, GSM8K, INSTRUCTIONS, SQUAD, Plan

# Candidates for each row that is wanted, so that some can be left out as given away.
_SPARE = 2


@dataclass(frozen=True, slots=True)
class Data:
    """The rows of the comparison.

    Attributes:
        train: Dialogues to train on.
        mixture: As many rows, half of them dialogues, half of other tasks.
        summaries: Dialogues to summarize, each with its references.
        questions: Questions with their passages, to be answered.
        others: Rows of other tasks in the base's tokens, by task, for their loss.
    """

    train: Sequence[TrainingRow]
    mixture: Sequence[TrainingRow]
    summaries: Sequence[TrainingRow]
    questions: Sequence[TrainingRow]
    others: Mapping[str, Sequence[EncodedRow]]


def read_data(folder: Path, base: Base, plan: Plan) -> Data:
    """Read and choose the rows.

    Args:
        folder: Holds dialogsum, squad, instructions and gsm8k.
        base: Whose tokens and template count.
        plan: How many rows, and how long.

    Raises:
        DatasetError: A file can't be read.
        ValueError: There are not enough rows.
    """
    vocabulary = load_vocabulary(base)
    encoder = Encoder(vocabulary, plan.max_tokens)

    def fitting(rows: Iterable[TrainingRow], num_wanted: int) -> list[TrainingRow]:
        return list(islice((row for row in rows if _fits(encoder, row, plan.max_tokens)), num_wanted))

    questions, passages_to_train = _squad_rows(folder, plan.seed)
    instructions = _imported(folder / "instructions" / "seed_tasks.jsonl", INSTRUCTIONS, plan.seed)
    scored = {
        SQUAD: fitting(questions, plan.num_others),
        INSTRUCTIONS: fitting(instructions[::2], plan.num_others),
        GSM8K: fitting(_imported(folder / "gsm8k" / "test.jsonl", GSM8K, plan.seed), plan.num_others),
    }
    summaries = _imported(folder / "dialogsum" / "test.jsonl", "summarization", plan.seed)
    summaries = summaries[: plan.num_summaries]
    num_each = -(-plan.num_rows // len(scored))  # so that half of the mixture are dialogues
    pools = {
        "summarization": (
            _imported(folder / "dialogsum" / "dev.jsonl", "summarization", plan.seed),
            plan.num_rows,
        ),
        SQUAD: (passages_to_train, num_each),
        INSTRUCTIONS: (instructions[1::2], num_each),
        GSM8K: (_imported(folder / "gsm8k" / "train.jsonl", GSM8K, plan.seed), num_each),
    }
    all_scored = [*summaries, *(row for rows in scored.values() for row in rows)]
    chosen = {
        task: _not_given_away(fitting(rows, _SPARE * num), all_scored)[:num]
        for task, (rows, num) in pools.items()
    }
    train = chosen["summarization"]
    if len(train) < plan.num_rows or not all(chosen.values()):
        raise ValueError(f"There are {len(train)} rows to train on, not {plan.num_rows}.")
    mixture, _ = mixed(
        [row for rows in chosen.values() for row in rows], MixRecipe(num_rows=plan.num_rows), plan.seed
    )
    others = {task: [encoder.encode(row) for row in scored[task]] for task in (INSTRUCTIONS, GSM8K)}
    others[ARTICLES] = _texts(folder, vocabulary, plan)
    return Data(train, mixture, summaries, scored[SQUAD], others)


def _fits(encoder: Encoder, row: TrainingRow, max_tokens: int) -> bool:
    return len(encoder.encode(row).tokens) <= max_tokens


def _imported(path: Path, task: str, seed: int) -> Sequence[TrainingRow]:
    return import_source(FileSource(path, task=task), seed).rows


def _not_given_away(rows: Sequence[TrainingRow], scored: Sequence[TrainingRow]) -> list[TrainingRow]:
    """Return the rows that nearly stand in no scored row."""
    given_away = {overlap.held_out.id for overlap in contamination(rows, scored)}
    return [row for row in rows if row.id not in given_away]


def _json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def _squad_rows(folder: Path, seed: int) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """Return (questions to score, questions to train on), the former over every other article."""
    articles = _json_lines(folder / "squad" / "articles.jsonl")
    sides: tuple[list[TrainingRow], list[TrainingRow]] = ([], [])
    for number, raw in enumerate(_json_lines(folder / "squad" / "questions.jsonl"), 1):
        context = articles[raw["article"]]["paragraphs"][raw["paragraph"]]
        fields = {"question": raw["question"], "answers": raw["answers"], "context": context}
        record = Record(fields, f"questions.jsonl:{number}", 0)
        sides[raw["article"] % 2].extend(rows_of(record, Shape(task=SQUAD, seed=seed)))
    return sides


def _texts(folder: Path, vocabulary: TrainingVocabulary, plan: Plan) -> list[EncodedRow]:
    """Return a paragraph of each scored article as plain text: all but its first token is to be predicted."""
    articles = _json_lines(folder / "squad" / "articles.jsonl")[::2]
    rounds = max(len(article["paragraphs"]) for article in articles)
    texts = (
        (f"{article['title']}:{place}", article["paragraphs"][place])
        for place in range(rounds)
        for article in articles
        if place < len(article["paragraphs"])
    )
    encoded = (
        EncodedRow(array("i", vocabulary.tokenize(text, parse_special=False)[: plan.max_tokens]), 1, source)
        for source, text in texts
    )
    return list(islice(encoded, plan.num_others))
