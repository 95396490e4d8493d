"""ROUGE and BLEU are the numbers that papers have."""

from __future__ import annotations

import pytest
from localsmith.evaluation.overlap import bleu, overlap_figures, rouge


def test_rouge_l_is_the_longest_common_subsequence() -> None:
    """Lin 2004, section 3.1: "police killed the gunman" against two candidates."""
    reference = ["police killed the gunman"]
    assert rouge("police kill the gunman", reference).rouge_l == pytest.approx(1.0)  # stems are equal
    # Lin's S3 shares "the gunman" with the reference: 2 of 4 words on both sides.
    assert rouge("the gunman police killed", reference).rouge_l == pytest.approx(0.5)
    assert rouge("the gunman kill police", reference).rouge_1 == pytest.approx(1.0)


def test_the_best_reference_counts() -> None:
    assert rouge("a red coat", ["nothing alike here", "a red coat"]).rouge_2 == 1.0


def test_bleu_of_the_same_text_is_100_and_of_another_0() -> None:
    texts = ["the cat sat on the mat today", "a second sentence that is long enough"]
    assert bleu(texts, [[text] for text in texts]) == pytest.approx(100.0)
    assert bleu(["one two three four"], [["five six seven eight"]]) == pytest.approx(0.0, abs=1e-6)


def test_texts_may_have_different_numbers_of_references() -> None:
    figures = overlap_figures(
        ["the cat sat on the mat", "a dog"], [["the cat sat on the mat", "x"], ["a dog"]]
    )
    assert figures["rouge_l"] == pytest.approx(100.0)
    assert figures["rouge_l_low"] <= figures["rouge_l"] <= figures["rouge_l_high"]
    assert figures["words_mean"] == 4.0


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(ValueError, match="no reference"):
        rouge("text", [])
    with pytest.raises(ValueError, match="0 texts"):
        bleu([], [])
