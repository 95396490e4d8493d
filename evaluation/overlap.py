"""ROUGE and BLEU: how much of a text's words are those of its references.

Place in the data's way: a model's completions and what would have been right -> figures, before and after
training. Computed by rouge-score and sacrebleu, so that they are the numbers that papers have.

Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries"; Post 2018, "A Call for Clarity in
Reporting BLEU Scores" (sacrebleu).

Example:
    rouge("The cat sat.", ["A cat sat down."]).rouge_l
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..core.errors import EvaluationError
from ..core.extras import install_command
from .metrics import Interval, bootstrap


@dataclass(frozen=True, slots=True)
class Rouge:
    """F1 of what a text and its best reference share, 0 to 1.

    Attributes:
        rouge_1: Of words.
        rouge_2: Of pairs of words.
        rouge_l: Of the longest common subsequence of words.
    """

    rouge_1: float
    rouge_2: float
    rouge_l: float


def rouge(text: str, references: Sequence[str]) -> Rouge:
    """Compare a text with its references; each figure is that of the reference it is best for.

    Words are stemmed, as the scripts of summarization papers do.

    Raises:
        ValueError: There is no reference.
        EvaluationError: rouge-score is not installed.
    """
    if not references:
        raise ValueError("There is no reference to compare with.")
    scores = _scorer().score_multi(list(references), text)
    return Rouge(*(float(scores[name].fmeasure) for name in ("rouge1", "rouge2", "rougeL")))


def bleu(texts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return the corpus BLEU of texts, 0 to 100.

    Args:
        texts: The texts.
        references: For each text what would have been right; texts may have different numbers of them.

    Raises:
        ValueError: There are no texts, or not as many references.
        EvaluationError: sacrebleu is not installed.
    """
    if not texts or len(texts) != len(references):
        raise ValueError(f"There are {len(texts)} texts and references for {len(references)}.")
    try:
        import sacrebleu
    except ImportError as exc:
        raise _missing("sacrebleu") from exc
    # sacrebleu wants the first references of all texts, then the second ones; None where a text has no more.
    most = max(len(of_one) for of_one in references)
    columns: Any = [[of_one[i] if i < len(of_one) else None for of_one in references] for i in range(most)]
    return float(sacrebleu.corpus_bleu(list(texts), columns).score)


def overlap_figures(texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return mean ROUGE F1 in points, 0 to 100, with 95 % intervals, and BLEU.

    Raises:
        ValueError: There are no texts, or a text has no reference.
        EvaluationError: A library is not installed.
    """
    scores = [rouge(text, of_one) for text, of_one in zip(texts, references, strict=True)]
    figures: dict[str, float] = {}
    for name in ("rouge_1", "rouge_2", "rouge_l"):
        interval: Interval = bootstrap([100 * getattr(score, name) for score in scores])
        figures |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
    figures["bleu"] = bleu(texts, references)
    figures["words_mean"] = sum(len(text.split()) for text in texts) / len(texts)
    return figures


@cache
def _scorer() -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as exc:
        raise _missing("rouge-score") from exc
    return RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)


def _missing(package: str) -> EvaluationError:
    return EvaluationError(
        f"This figure needs {package}.", hint=f"Install what training needs: {install_command('train')}."
    )
