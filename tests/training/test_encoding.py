"""What is trained on is what is served: the same text, the same tokens, an end that stops a generation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.core.errors import DatasetError, TrainingError
from localsmith.core.settings import ModelSettings
from localsmith.core.types import Message
from localsmith.models.chat.template import CHATML, ChatTemplate
from localsmith.models.llama.runtime import LlamaRuntime
from localsmith.models.llama.vocabulary import LlamaVocabulary
from localsmith.training.bases import Base, find_base, load_vocabulary
from localsmith.training.data.rows import TrainingRow
from localsmith.training.encoding import Encoder

TEXTS = ["Hello", "  two  spaces\n\n", "naïve 😀 日本", "<|im_end|> is no end here", "a\tb", "12345.678"]


def row(prompt: str, completion: str, system: str = "") -> TrainingRow:
    first = (Message("system", system),) if system else ()
    return TrainingRow((*first, Message("user", prompt), Message("assistant", completion)))


@pytest.fixture(scope="module")
def vocabulary(small_model_path: Path) -> Iterator[LlamaVocabulary]:
    """The small model's vocabulary, without its weights."""
    with LlamaVocabulary(small_model_path) as loaded:
        yield loaded


@pytest.mark.real_model
def test_the_trainer_reads_the_very_tokens_that_the_engine_reads(
    vocabulary: LlamaVocabulary, small_model_path: Path
) -> None:
    runtime = LlamaRuntime(small_model_path, ModelSettings(n_ctx=512, kv_cells=512), n_seq=1)
    try:
        served = ChatTemplate(runtime)
        encoder = Encoder(vocabulary, max_tokens=512)
        for prompt in TEXTS:
            for system in ("", "Be brief."):
                encoded = encoder.encode(row(prompt, "Yes.", system))
                messages = row(prompt, "Yes.", system).prompt
                assert list(encoded.tokens[: encoded.num_prompt]) == served.tokens(messages)
                assert all(runtime.is_end(t) == vocabulary.is_end(t) for t in set(encoded.tokens))
    finally:
        runtime.close()


@pytest.mark.real_model
def test_a_completion_is_its_text_and_one_end_token(vocabulary: LlamaVocabulary) -> None:
    encoder = Encoder(vocabulary, max_tokens=512)
    for text in TEXTS:
        encoded = encoder.encode(row("Question?", text))
        completion = list(encoded.tokens[encoded.num_prompt :])
        assert [vocabulary.is_end(token) for token in completion] == [False] * (len(completion) - 1) + [True]
        assert vocabulary.text(completion[:-1]) == text


@pytest.mark.real_model
def test_rendered_text_is_what_the_template_says(vocabulary: LlamaVocabulary) -> None:
    text = ChatTemplate(vocabulary).text([Message("system", "Be brief."), Message("user", "Hi")])
    assert (
        text
        == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


@given(st.text(min_size=1, max_size=80).filter(str.strip))
def test_no_text_becomes_a_control_token(tiny_base: Base, text: str) -> None:
    vocabulary = load_vocabulary(tiny_base)
    encoded = Encoder(vocabulary, max_tokens=4096).encode(row(text + "<|im_end|>", text + "<|im_start|>"))
    ends = [token for token in encoded.tokens if vocabulary.is_end(token)]
    assert len(ends) == 2  # the user's turn and the assistant's


def test_a_template_that_can_not_take_the_turns_names_the_row(tiny_base: Base) -> None:
    vocabulary = load_vocabulary(tiny_base)
    vocabulary.template = "{{ raise_exception('no system message, please') }}"
    bad = TrainingRow((Message("user", "a"), Message("assistant", "b")), source="data.jsonl:7")
    with pytest.raises(DatasetError, match=r"data.jsonl:7 .*no system message, please"):
        Encoder(vocabulary, max_tokens=64).encode(bad)


def test_a_template_that_does_not_end_the_turn_is_refused(tiny_base: Base) -> None:
    vocabulary = load_vocabulary(tiny_base)
    vocabulary.template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    with pytest.raises(DatasetError, match="does not end the assistant's turn"):
        Encoder(vocabulary, max_tokens=64).encode(row("a", "b"))


def test_chatml_can_stand_in_for_a_template(tiny_base: Base) -> None:
    assert load_vocabulary(tiny_base, "chatml").template == CHATML


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    from localsmith.core.settings import load_settings

    with pytest.raises(TrainingError, match="is no model"):
        find_base(load_settings(), str(tmp_path))
    with pytest.raises(TrainingError, match="There is no file"):
        find_base(load_settings(), str(tmp_path / "missing.gguf"))
