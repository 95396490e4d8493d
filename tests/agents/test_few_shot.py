from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from localsmith.agents.few_shot import FewShotStrategy
from localsmith.agents.reasoning.examples import Example, ExampleSet, load_examples
from localsmith.core.settings import AnswerSettings, load_settings
from localsmith.core.types import Question
from localsmith.models.embedding.fake import HashingEmbedder
from localsmith.models.engine import Engine
from localsmith.models.scripted import ScriptedModel

CITIES = ("Rome", "Oslo", "Lima", "Cairo", "Delhi", "Quito", "Seoul", "Accra")
MANY = ExampleSet(
    "cities",
    2,
    "Only the country.",
    tuple(Example(f"In which country is {city}?", f"Country of {city}") for city in CITIES),
)


class CountingEmbedder(HashingEmbedder):
    """Counts the texts it is given."""

    num_texts = 0

    def encode(self, texts, on_progress=None):  # type: ignore[no-untyped-def]
        self.num_texts += len(texts)
        return super().encode(texts, on_progress)


def examples_in(model: ScriptedModel, index: int = -1) -> list[str]:
    return [message.content for message in model.prompts[index][1:-1] if message.role == "user"]


def test_examples_go_before_the_question_as_turns() -> None:
    model = ScriptedModel(["The answer is 3."])
    answer = FewShotStrategy(model).invoke(Question("How many legs has a stool?"))
    examples = load_examples("few_shot")
    assert model.prompts[0][1:-1] == examples.messages()
    assert examples.format in model.prompts[0][0].content
    assert answer.text == "The answer is 3."
    assert [step.kind for step in answer.steps] == ["budget", "generate"]
    assert "4 of 4 examples from few_shot" in answer.steps[0].summary
    assert answer.budget is not None and answer.budget.prompt_tokens == answer.usage.prompt_tokens


def test_the_template_wraps_the_question_and_the_pattern_binds_the_answer() -> None:
    examples = replace(
        MANY,
        examples=(Example("I loved it.", "good"),),
        template="Review: {{ question }}",
        pattern="good|bad",
    )
    model = ScriptedModel(["bad"])
    FewShotStrategy(model, examples).invoke(Question("Never again."))
    assert model.prompts[0][-1].content == "Review: Never again."
    assert '"b" "a" "d"' in model.samplings[0].grammar


def test_without_an_embedder_the_first_go_in() -> None:
    model = ScriptedModel(["Italy"])
    answer = FewShotStrategy(model, MANY, max_examples=3).invoke(Question("In which country is Seoul?"))
    assert examples_in(model) == [example.question for example in MANY.examples[:3]]
    assert "3 of 8 examples from cities v2" in answer.steps[0].summary


def test_with_an_embedder_the_nearest_go_in_first() -> None:
    model, embedder = ScriptedModel(lambda _: "Korea"), CountingEmbedder()
    strategy = FewShotStrategy(model, MANY, embedder=lambda: embedder, max_examples=3)
    strategy.invoke(Question("In which country is Seoul?"))
    assert "Seoul" in examples_in(model)[0] and len(examples_in(model)) == 3
    strategy.invoke(Question("In which country is Accra?"))
    assert "Accra" in examples_in(model)[0]
    assert embedder.num_texts == len(CITIES) + 2  # the examples' vectors are kept


def test_where_all_fit_the_embedder_is_not_even_loaded() -> None:
    def fail() -> HashingEmbedder:
        raise AssertionError("loaded")

    model = ScriptedModel(["Korea"])
    FewShotStrategy(model, MANY, embedder=fail, max_examples=8).invoke(Question("Seoul?"))
    assert len(examples_in(model)) == 8


def test_examples_stop_at_the_token_budget() -> None:
    model = ScriptedModel(["Korea"])
    strategy = FewShotStrategy(model, MANY, max_example_tokens=100)
    answer = strategy.invoke(Question("Seoul?"))
    assert answer.budget is not None
    part = next(part for part in answer.budget.parts if part.name == "examples")
    assert 1 <= part.num_items < 6 and part.used_tokens <= 100
    assert len(examples_in(model)) == part.num_items


def test_examples_give_way_where_the_window_is_small() -> None:
    model = ScriptedModel(["Korea"], n_ctx=160)
    answer = FewShotStrategy(model, MANY, AnswerSettings(max_tokens=40)).invoke(Question("Seoul?"))
    assert 0 < len(examples_in(model)) < 6
    assert answer.usage.prompt_tokens <= 120


def test_past_six_examples_the_run_says_that_training_is_the_better_tool() -> None:
    answer = FewShotStrategy(ScriptedModel(["Korea"]), MANY).invoke(Question("Seoul?"))
    assert "fine-tuning is the better tool" in answer.steps[0].summary
    few = FewShotStrategy(ScriptedModel(["Korea"]), MANY.take(range(6))).invoke(Question("Seoul?"))
    assert "fine-tuning" not in few.steps[0].summary


def test_no_example_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="0"):
        FewShotStrategy(ScriptedModel([]), MANY, max_examples=0)


@pytest.fixture(scope="module")
def engine(small_model_path: Path) -> Iterator[Engine]:
    engine = Engine(
        small_model_path, name="smollm2-135m", settings=load_settings(model={"n_ctx": 2048}).model
    )
    yield engine
    engine.close()


@pytest.mark.real_model
def test_a_small_model_answers_in_the_form_of_the_examples(engine: Engine) -> None:
    moods = ExampleSet(
        "moods",
        1,
        "One word: good or bad.",
        (Example("I loved every minute.", "good"), Example("A waste of money.", "bad")),
        template="Review: {{ question }}\nMood:",
        pattern="good|bad",
    )
    strategy = FewShotStrategy(engine, moods, AnswerSettings(max_tokens=8))
    assert strategy.invoke(Question("Wonderful, I loved it.")).text in {"good", "bad"}
