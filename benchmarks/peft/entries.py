"""What the table of methods compares, and at which size.

Place in the data's way: `__main__` measures these entries one after the other, each by `child` in a process
of its own; `report` and `page` show them in this order.

Example:
    >>> ENTRIES["full_fast_multitask"].is_multitask
    True
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

BASE = "base"
"""The entry of the model before any training; every change is counted from it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The sizes that are the same for every entry.

    Attributes:
        base: Name of an installed chat model, or a path; see `find_base`.
        num_rows: Rows that are trained on, each once.
        num_summaries: Rows of dialogsum/test that are written and scored.
        num_others: Rows of each other task.
        max_tokens: Longest row that is trained on, or of another task.
        max_completion_tokens: Longest summary.
        max_answer_tokens: Longest answer to a question.
        batch_size: Rows of an optimizer step, computed at once.
        seed: Of wordings, choice, order and added weights.

    Raises:
        ValueError: A number is below 1.
    """

    base: str = "smollm2-135m"
    num_rows: int = 128
    num_summaries: int = 40
    num_others: int = 24
    max_tokens: int = 256
    max_completion_tokens: int = 64
    max_answer_tokens: int = 24
    batch_size: int = 4
    seed: int = 7

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, value in asdict(self).items():
            if isinstance(value, int) and name != "seed" and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}.")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the table.

    Attributes:
        label: What it is called in table and picture.
        trained: What is trained, for people.
        method: Name of the method; "" for the base, which is only scored.
        options: The method's settings; what is not named is as by default.
        learning_rate: Highest learning rate; 0 for the method's own.
        is_multitask: Whether half of the rows are those of other tasks.
    """

    label: str
    trained: str
    method: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float = 0.0
    is_multitask: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """What the entry's figures depend on beside the plan, as JSON values."""
        return {
            "method": self.method,
            "options": dict(self.options),
            "learning_rate": self.learning_rate,
            "is_multitask": self.is_multitask,
        }


FAST = 5e-4
"""LoRA's own learning rate, at which full fine-tuning shows what it forgets."""

# Selecting the biases is left out: the models of the Llama family have none.
ENTRIES: Mapping[str, Entry] = {
    BASE: Entry("base", "nothing"),
    "full": Entry("full", "every weight", "full"),
    "full_fast": Entry("full, LoRA's rate", "every weight", "full", learning_rate=FAST),
    "full_fast_multitask": Entry(
        "full, LoRA's rate, multitask",
        "every weight, half of the rows from other tasks",
        "full",
        learning_rate=FAST,
        is_multitask=True,
    ),
    "selective_layers": Entry(
        "selective: last layers", "the last 4 layers", "selective", {"which": "last_layers"}
    ),
    "selective_norms": Entry("selective: norms", "the norms' weights", "selective", {"which": "norms"}),
    "lora": Entry("LoRA", "two thin matrices beside each linear layer", "lora"),
    "bottleneck": Entry("bottleneck", "small networks behind attention and feed-forward", "bottleneck"),
    "ia3": Entry("IA3", "vectors that rescale activations", "ia3"),
    "prompt": Entry("prompt tuning", "20 embeddings before the prompt", "prompt"),
    "prefix": Entry("prefix tuning", "20 keys and values a layer before the prompt's", "prefix"),
}

SQUAD, INSTRUCTIONS, GSM8K, ARTICLES = "squad", "instructions", "gsm8k", "articles"
OTHER_TASKS: Mapping[str, str] = {
    INSTRUCTIONS: "following instructions (Self-Instruct's seed tasks)",
    GSM8K: "chains of reasoning (GSM8K)",
    ARTICLES: "running text (Wikipedia paragraphs)",
}
"""Tasks whose loss tells forgetting; no mixture holds rows of the last. SQuAD's answers are of a word or two,
whose loss tells of form alone, so there the answers that a model writes are graded."""


def names_of(only: str) -> list[str]:
    """Return the entries to measure, in the table's order, the base always first.

    Args:
        only: Names with commas between them; "" for all.

    Raises:
        ValueError: There is none of a name.
    """
    wanted = only.split(",") if only else list(ENTRIES)
    if unknown := [name for name in wanted if name not in ENTRIES]:
        raise ValueError(f"There is no entry {unknown[0]!r}; there are {', '.join(ENTRIES)}.")
    return [name for name in ENTRIES if name in wanted or name == BASE]
