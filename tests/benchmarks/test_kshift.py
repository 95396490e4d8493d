"""The K-shift measurement: its prompts are the strategy's, turning keys alone changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from localsmith.core.settings import ModelSettings
from localsmith.evaluation.question_files import load_articles, load_questions
from localsmith.models.chat.template import ChatTemplate
from localsmith.models.llama.runtime import LlamaRuntime

if TYPE_CHECKING:
    from benchmarks.kshift import Outcome
    from benchmarks.kshift_prompts import Case, CutPrompt

# What reading in other pieces costs in rounding; re-used blocks differ by a hundred times as much.
ROUNDING_NATS = 0.01


@pytest.fixture(scope="module")
def runtime(small_model_path: Path) -> Iterator[LlamaRuntime]:
    runtime = LlamaRuntime(small_model_path, ModelSettings(n_ctx=2048, kv_cells=4096), n_seq=4)
    yield runtime
    runtime.close()


@pytest.fixture(scope="module")
def cases(shared_data: Path) -> list[Case]:
    from benchmarks.kshift_prompts import choose_cases

    articles = load_articles(shared_data / "squad" / "articles.jsonl")
    return choose_cases(load_questions(shared_data / "squad" / "questions.jsonl", articles)[:40], articles)


@pytest.fixture(scope="module")
def prompts(runtime: LlamaRuntime, cases: list[Case]) -> list[CutPrompt]:
    from benchmarks.kshift_prompts import cut_prompt

    return [cut_prompt(ChatTemplate(runtime), runtime, case) for case in cases]


@pytest.mark.real_model
def test_the_parts_of_a_prompt_are_the_text_of_the_whole(
    runtime: LlamaRuntime, cases: list[Case], prompts: list[CutPrompt]
) -> None:
    from benchmarks.kshift_prompts import messages_of

    template = ChatTemplate(runtime)
    for case, prompt in zip(cases, prompts, strict=True):
        whole = template.tokens(messages_of(case))
        assert b"".join(map(runtime.piece, prompt.tokens)) == b"".join(map(runtime.piece, whole))
        assert prompt.is_ordinary == (prompt.tokens == tuple(whole))
        gold = prompt.blocks[case.gold_place - 1]
        assert case.passages[case.gold_place - 1].chunk.text.encode() in b"".join(map(runtime.piece, gold))
        assert case.question.answers[0] in case.passages[case.gold_place - 1].chunk.text
    assert len({prompt.prefix for prompt in prompts}) == 1


@pytest.mark.real_model
def test_turned_cells_and_blocks_computed_anew_read_as_the_ordinary_prompt(
    runtime: LlamaRuntime, prompts: list[CutPrompt]
) -> None:
    from benchmarks.kshift import divergence
    from benchmarks.kshift_blocks import BlockBench

    prompt = min(prompts, key=lambda prompt: len(prompt.tokens))
    bench = BlockBench(runtime)
    ordinary = bench.read_ordinarily(prompt)
    turned = bench.turned(ordinary, prompt, 100)
    anew = bench.read_with_blocks(prompt, num_head=max(map(len, prompt.blocks)))
    kept = bench.read_with_blocks(prompt)
    assert divergence(ordinary.logits, turned.logits) < ROUNDING_NATS
    assert divergence(ordinary.logits, anew.logits) < ROUNDING_NATS
    assert divergence(ordinary.logits, kept.logits) > ROUNDING_NATS
    assert anew.num_computed == ordinary.num_computed == len(prompt.tokens) - len(prompt.prefix)
    assert kept.num_computed == ordinary.num_computed - sum(map(len, prompt.blocks))


@pytest.mark.real_model
def test_a_first_passage_set_down_where_it_was_made_reads_as_the_ordinary_prompt(
    runtime: LlamaRuntime, prompts: list[CutPrompt]
) -> None:
    from benchmarks.kshift import divergence
    from benchmarks.kshift_blocks import BlockBench

    whole = min(prompts, key=lambda prompt: len(prompt.tokens))
    alone = replace(whole, markers=whole.markers[:1], blocks=whole.blocks[:1], block_ids=whole.block_ids[:1])
    bench = BlockBench(runtime)
    ordinary, kept = bench.read_ordinarily(alone), bench.read_with_blocks(alone)
    assert divergence(ordinary.logits, kept.logits) < ROUNDING_NATS
    first, second = bench.write([ordinary, kept], max_tokens=8)
    assert first == second != ""


def test_a_way_that_loses_answers_is_not_within_the_margin() -> None:
    from benchmarks.kshift import WAYS, figures_of

    right = {way: [_outcome(way, 1.0) for _ in range(20)] for way in WAYS}
    assert figures_of([o for own in right.values() for o in own])["blocks_is_within_margin"] == 1.0
    right["blocks"][:4] = [_outcome("blocks", 0.0)] * 4
    figures = figures_of([o for own in right.values() for o in own])
    assert figures["blocks_answers_lost"] == 4.0
    assert figures["blocks_contains_answer_change"] == pytest.approx(-0.2)
    assert figures["blocks_is_within_margin"] == 0.0
    assert figures["turned_is_within_margin"] == 1.0


def _outcome(way: str, score: float) -> Outcome:
    from benchmarks.kshift import Outcome

    return Outcome(way, "text", ("text",), 1, score, score, score, 0.0, 100, 50, 1.0, 1.0, 0.0, 1.0)
