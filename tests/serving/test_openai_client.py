"""OpenAI's own client against the server: what it sends is taken, what it expects comes back."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import openai
import pytest
from localsmith.core.errors import GenerationError, ModelNotReadyError, Overloaded
from localsmith.core.types import Delta, Prefill, TokenLogprob
from localsmith.models.embedding.fake import HashingEmbedder
from localsmith.models.scripted import ScriptedModel
from localsmith.serving.parts import ServedParts
from pydantic import BaseModel

HELLO: Any = [{"role": "user", "content": "Hello"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a town.",
        "parameters": {
            "type": "object",
            "properties": {"town": {"type": "string"}},
            "required": ["town"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"town": "Oslo"}}\n</tool_call>'


class WithLogprobs:
    """A scripted model that says how likely each token was."""

    def __init__(self, model: ScriptedModel) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        return _Likely(self._model.submit(*args, **kwargs))

    def submit_text(self, *args: Any, **kwargs: Any) -> Any:
        return _Likely(self._model.submit_text(*args, **kwargs))


class _Likely:
    def __init__(self, generation: Any) -> None:
        self._generation = generation

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generation, name)

    async def __aiter__(self) -> AsyncIterator[Prefill | Delta]:
        async for event in self._generation:
            if isinstance(event, Delta):
                token = event.text.encode()
                top = (TokenLogprob(token, -0.5), TokenLogprob(b" no", float("-inf")))
                yield Delta(event.text, (TokenLogprob(token, -0.5, top),))
            else:
                yield event


def client(server: Any, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, **options)


def test_a_chat_answers_with_text_reason_and_usage(serve: Callable[..., Any]) -> None:
    server = serve()
    for _ in range(2):
        reply = client(server).chat.completions.create(model="scripted", messages=HELLO)
    assert reply.choices[0].message.content == "You said: Hello"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.usage.completion_tokens == 5
    assert reply.usage.prompt_tokens_details.cached_tokens == reply.usage.prompt_tokens - 1


def test_the_model_has_a_name_that_is_the_same_on_every_machine(serve: Callable[..., Any]) -> None:
    reply = client(serve()).chat.completions.create(model="localsmith", messages=HELLO)
    assert reply.model == "localsmith"


def test_a_stream_gives_the_text_in_pieces_and_the_usage_last(serve: Callable[..., Any]) -> None:
    chunks = list(
        client(serve()).chat.completions.create(
            model="scripted", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "You said: Hello"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-1] == "stop"
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 5
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_without_usage_names_none(serve: Callable[..., Any]) -> None:
    chunks = client(serve()).chat.completions.create(model="scripted", messages=HELLO, stream=True)
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)


def test_n_choices_differ_by_seed_and_count_their_prompt_once(serve: Callable[..., Any]) -> None:
    server = serve(ScriptedModel(["one", "two", "three"]))
    reply = client(server).chat.completions.create(model="scripted", messages=HELLO, n=3, seed=5)
    assert [choice.message.content for choice in reply.choices] == ["one", "two", "three"]
    assert [sampling.seed for sampling in server.model.samplings] == [5, 6, 7]
    assert reply.usage.prompt_tokens == server.model.count_prompt(server.model.prompts[0])
    assert reply.usage.completion_tokens == 1 + 1 + 2


def test_n_choices_stream_side_by_side(serve: Callable[..., Any]) -> None:
    server = serve(ScriptedModel(["first one", "second"]))
    texts = {0: "", 1: ""}
    stream = client(server).chat.completions.create(model="scripted", messages=HELLO, n=2, stream=True)
    for chunk in stream:
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == {0: "first one", 1: "second"}


def test_sampling_parameters_reach_the_model(serve: Callable[..., Any]) -> None:
    server = serve()
    client(server).chat.completions.create(
        model="scripted",
        messages=HELLO,
        temperature=0.25,
        top_p=0.5,
        presence_penalty=0.1,
        frequency_penalty=-0.2,
        max_completion_tokens=9,
        seed=-1,
        stop=["END"],
        logit_bias={"7": -100},
        user="ann",
        extra_body={"top_k": 3, "min_p": 0.01, "repeat_penalty": 1.2, "priority": "batch"},
    )
    sampling = server.model.samplings[0]
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.25, 0.5, 3, 0.01)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.1, -0.2)
    assert (sampling.max_tokens, sampling.stop, sampling.logit_bias) == (9, ("END",), ((7, -100.0),))
    assert (sampling.repeat_penalty, sampling.seed) == (1.2, 2**32 - 2)


def test_without_a_seed_two_requests_differ(serve: Callable[..., Any]) -> None:
    server = serve()
    for _ in range(2):
        client(server).chat.completions.create(model="scripted", messages=HELLO)
    assert server.model.samplings[0].seed != server.model.samplings[1].seed


def test_a_tool_call_comes_back_typed(serve: Callable[..., Any]) -> None:
    server = serve(ScriptedModel([f"I look.\n{CALL}"]))
    reply = client(server).chat.completions.create(model="scripted", messages=HELLO, tools=[WEATHER])
    message = reply.choices[0].message
    assert message.content == "I look."
    assert message.tool_calls[0].function.name == "weather"
    assert json.loads(message.tool_calls[0].function.arguments) == {"town": "Oslo"}
    assert reply.choices[0].finish_reason == "tool_calls"
    assert server.model.samplings[0].grammar_trigger == "<tool_call>"


def test_a_streamed_tool_call_is_never_shown_as_text(serve: Callable[..., Any]) -> None:
    server = serve(ScriptedModel([f"I look.\n{CALL}\n{CALL}"]))
    with client(server).chat.completions.stream(model="scripted", messages=HELLO, tools=[WEATHER]) as stream:
        final = stream.get_final_completion()
    message = final.choices[0].message
    assert message.content == "I look."
    assert [call.function.parsed_arguments for call in message.tool_calls] == [{"town": "Oslo"}] * 2
    assert final.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("form", ["%s", "```json\n%s\n```", "%s\n%s"])
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_call_without_its_tags_is_a_call(serve: Callable[..., Any], form: str, is_stream: bool) -> None:
    bare = '{"name": "weather", "arguments": {"town": "Oslo"}}'
    count = form.count("%s")
    server = serve(ScriptedModel([form % ((bare,) * count)]))
    reply: Any = client(server).chat.completions.create(
        model="scripted", messages=HELLO, tools=[WEATHER], stream=is_stream
    )
    choices = [chunk.choices[0] for chunk in reply] if is_stream else reply.choices
    messages = [choice.delta if is_stream else choice.message for choice in choices]
    calls = [call for message in messages for call in message.tool_calls or ()]
    assert [json.loads(call.function.arguments) for call in calls] == [{"town": "Oslo"}] * count
    assert not any(message.content for message in messages)
    assert choices[-1].finish_reason == "tool_calls"


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "another", "arguments": {}}',
        '{"name": "weather", "arguments": 1}',
        '{"name": "weather"',
        "{} is an object",
        "```json\n[1]\n```",
        '{"name": "weather", "arguments": {}} I think.',
        "Plain.",
    ],
)
def test_what_only_looks_like_a_call_stays_text(serve: Callable[..., Any], text: str) -> None:
    server = serve(ScriptedModel([text, text]))
    create = client(server).chat.completions.create
    whole: Any = create(model="scripted", messages=HELLO, tools=[WEATHER])
    assert whole.choices[0].message.content == text and not whole.choices[0].message.tool_calls
    chunks: Any = create(model="scripted", messages=HELLO, tools=[WEATHER], stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text


def test_parallel_tool_calls_can_be_switched_off(serve: Callable[..., Any]) -> None:
    for is_stream in (False, True):
        server = serve(ScriptedModel([f"{CALL}\n{CALL}"]))
        create = client(server).chat.completions.create
        reply: Any = create(
            model="scripted", messages=HELLO, tools=[WEATHER], parallel_tool_calls=False, stream=is_stream
        )
        if is_stream:
            calls = [call for chunk in reply for call in chunk.choices[0].delta.tool_calls or ()]
        else:
            calls = reply.choices[0].message.tool_calls
        assert len(calls) == 1


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "weather"}}], ids=["required", "named"]
)
def test_a_forced_tool_call_is_held_by_a_grammar_from_the_start(
    serve: Callable[..., Any], choice: Any
) -> None:
    server = serve(ScriptedModel([CALL]))
    client(server).chat.completions.create(
        model="scripted", messages=HELLO, tools=[WEATHER], tool_choice=choice
    )
    assert "weather" in server.model.samplings[0].grammar
    assert server.model.samplings[0].grammar_trigger == ""


def test_tool_choice_none_offers_no_tools(serve: Callable[..., Any]) -> None:
    server = serve(ScriptedModel([CALL]))
    reply = client(server).chat.completions.create(
        model="scripted", messages=HELLO, tools=[WEATHER], tool_choice="none"
    )
    assert reply.choices[0].message.content == CALL
    assert server.model.samplings[0].grammar == ""


def test_a_conversation_with_tools_goes_back_the_way_the_model_wrote_it(serve: Callable[..., Any]) -> None:
    server = serve(ScriptedModel([CALL, "Rain."]))
    first = client(server).chat.completions.create(model="scripted", messages=HELLO, tools=[WEATHER])
    message = first.choices[0].message
    answer = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "rain"}
    client(server).chat.completions.create(
        model="scripted", messages=[*HELLO, message.model_dump(), answer], tools=[WEATHER]
    )
    _, assistant, tool = server.model.prompts[1]
    assert (assistant.role, assistant.content) == ("assistant", CALL)
    assert (tool.role, tool.content) == ("tool", "rain")


class Town(BaseModel):
    name: str
    people: int


def test_a_response_format_becomes_a_grammar_and_parses(serve: Callable[..., Any]) -> None:
    server = serve(ScriptedModel(['{"name":"Oslo","people":7}', "{}"]))
    parsed = client(server).chat.completions.parse(model="scripted", messages=HELLO, response_format=Town)
    assert parsed.choices[0].message.parsed == Town(name="Oslo", people=7)
    client(server).chat.completions.create(
        model="scripted", messages=HELLO, response_format={"type": "json_object"}
    )
    assert all(sampling.grammar for sampling in server.model.samplings)
    assert "people" in server.model.samplings[0].grammar


@pytest.mark.parametrize(
    "extension", [{"regex": "[0-9]+"}, {"choice": ["yes", "no"]}, {"grammar": 'root ::= "a"'}]
)
def test_constraints_of_our_own_become_a_grammar(serve: Callable[..., Any], extension: Any) -> None:
    server = serve()
    client(server).chat.completions.create(model="scripted", messages=HELLO, extra_body=extension)
    assert "root" in server.model.samplings[0].grammar


def test_logprobs_come_with_alternatives_and_bytes(serve: Callable[..., Any]) -> None:
    server = serve(WithLogprobs(ScriptedModel(["Oslo é", "Oslo é"])))
    reply = client(server).chat.completions.create(
        model="scripted", messages=HELLO, logprobs=True, top_logprobs=2
    )
    content = reply.choices[0].logprobs.content
    assert "".join(token.token for token in content) == "Oslo é"
    assert content[0].logprob == -0.5 and bytes(content[-1].bytes) == " é".encode()
    assert [top.logprob for top in content[0].top_logprobs] == [-0.5, -9999.0]
    stream = client(server).chat.completions.create(
        model="scripted", messages=HELLO, logprobs=True, stream=True
    )
    streamed = [t for chunk in stream if (lp := chunk.choices[0].logprobs) for t in lp.content]
    assert "".join(token.token for token in streamed) == "Oslo é"


def test_completions_take_lists_echo_and_the_old_logprobs(serve: Callable[..., Any]) -> None:
    server = serve(WithLogprobs(ScriptedModel(["a b", "c", "d", "e", "f g"])))
    reply = client(server).completions.create(model="scripted", prompt=["P1 ", "P2 "], n=2, echo=True)
    assert [choice.text for choice in reply.choices] == ["P1 a b", "P1 c", "P2 d", "P2 e"]
    assert reply.usage.prompt_tokens == 2 * server.model.count_text("P1 ")
    scored = client(server).completions.create(model="scripted", prompt="P", logprobs=1)
    assert scored.choices[0].logprobs.tokens == ["f", " g"]
    assert scored.choices[0].logprobs.text_offset == [0, 1]
    assert scored.choices[0].logprobs.token_logprobs == [-0.5, -0.5]


def test_completions_stream(serve: Callable[..., Any]) -> None:
    stream = client(serve()).completions.create(model="scripted", prompt="Hi", stream=True, echo=True)
    chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == "HiYou said: Hi"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_embeddings_are_the_embedders_in_both_encodings(serve: Callable[..., Any]) -> None:
    server, texts = serve(), ["trace trees", "types"]
    expected = HashingEmbedder().encode(texts)
    for form in ("float", "base64"):
        reply = client(server).embeddings.create(model="hashing-64", input=texts, encoding_format=form)
        got = [
            np.frombuffer(base64.b64decode(item.embedding), "<f4")
            if isinstance(item.embedding, str)
            else np.array(item.embedding, np.float32)
            for item in reply.data
        ]
        assert np.array_equal(np.stack(got), expected)
        assert reply.usage.prompt_tokens == 3
    whole = client(server).embeddings.create(model="hashing-64", input="trace trees")
    assert np.allclose(whole.data[0].embedding, expected[0])


def test_models_lists_what_can_be_asked(serve: Callable[..., Any]) -> None:
    api = client(serve())
    assert [model.id for model in api.models.list()] == ["scripted", "hashing-64"]
    assert api.models.retrieve("scripted").id == "scripted"
    with pytest.raises(openai.NotFoundError):
        api.models.retrieve("gpt-9")


def refused(server: Any, kind: type[openai.APIStatusError], **request: Any) -> Any:
    with pytest.raises(kind) as caught:
        client(server).chat.completions.create(**{"model": "scripted", "messages": HELLO, **request})
    assert "Traceback" not in str(caught.value)
    return caught.value


def test_errors_are_the_clients_own_types(serve: Callable[..., Any]) -> None:
    server = serve(ScriptedModel(["x"], n_ctx=64))
    assert refused(server, openai.NotFoundError, model="gpt-9").code == "model_not_found"
    long = refused(server, openai.BadRequestError, messages=[{"role": "user", "content": "word " * 99}])
    assert long.code == "context_length_exceeded" and "64" in str(long) and "122" in str(long)
    over = refused(server, openai.BadRequestError, max_tokens=60)
    assert over.code == "context_length_exceeded"
    unknown = refused(server, openai.BadRequestError, extra_body={"tempratur": 1})
    assert unknown.param == "tempratur" and unknown.code == "unknown_parameter"
    assert refused(server, openai.BadRequestError, temperature=3).param == "temperature"


def test_a_completion_without_max_tokens_takes_what_the_window_leaves(serve: Callable[..., Any]) -> None:
    server = serve(ScriptedModel(["word " * 99], n_ctx=64))
    reply = client(server).chat.completions.create(model="scripted", messages=HELLO)
    assert reply.usage.total_tokens == 64
    assert reply.choices[0].finish_reason == "length"


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_full_queue_is_429_with_retry_after(serve: Callable[..., Any], is_stream: bool) -> None:
    class Full(ScriptedModel):
        def submit(self, *args: Any, **kwargs: Any) -> Any:
            raise Overloaded("64 requests wait already.")

    error = refused(serve(Full([])), openai.RateLimitError, stream=is_stream)
    assert error.code == "overloaded" and int(error.response.headers["retry-after"]) >= 1


def test_when_one_of_n_does_not_fit_the_queue_the_others_are_cancelled(serve: Callable[..., Any]) -> None:
    generations: list[Any] = []

    class HalfFull(ScriptedModel):
        def submit(self, *args: Any, **kwargs: Any) -> Any:
            if len(generations) == 2:
                raise Overloaded("Full.")
            generations.append(super().submit(*args, **kwargs))
            return generations[-1]

    refused(serve(HalfFull(["a", "b", "c"])), openai.RateLimitError, n=3)
    assert [list(generation) and generation.finish_reason for generation in generations] == [[], []]
    assert [generation.finish_reason for generation in generations] == ["cancelled", "cancelled"]


def test_a_model_that_loads_is_503_with_retry_after(serve: Callable[..., Any]) -> None:
    def loading() -> Any:
        raise ModelNotReadyError("The model is still loading (40%).", hint="Ask again.")

    server = serve(parts=ServedParts(model=loading, embedder=loading))
    error = refused(server, openai.InternalServerError)
    assert error.status_code == 503 and error.code == "model_not_ready"
    assert int(error.response.headers["retry-after"]) >= 1
    assert "40%" in str(error)


def test_a_model_that_is_nearly_loaded_is_waited_for(serve: Callable[..., Any]) -> None:
    model, asked = ScriptedModel(["here"]), []

    def loading() -> Any:
        asked.append(1)
        if len(asked) < 5:
            raise ModelNotReadyError("Loading.")
        return model

    server = serve(parts=ServedParts(model=loading, embedder=loading))
    asked.clear()
    reply = client(server).chat.completions.create(model="scripted", messages=HELLO)
    assert reply.choices[0].message.content == "here"


def test_a_failing_model_is_500_and_in_a_stream_an_error_event(serve: Callable[..., Any]) -> None:
    server = serve(ScriptedModel([GenerationError("Broken."), GenerationError("Broken."), "fine"]))
    assert refused(server, openai.InternalServerError).code == "generation_failed"
    with pytest.raises(openai.APIError, match="Broken"):
        list(client(server).chat.completions.create(model="scripted", messages=HELLO, stream=True))
    reply = client(server).chat.completions.create(model="scripted", messages=HELLO)
    assert reply.choices[0].message.content == "fine"


def test_a_bug_shows_the_client_no_details(serve: Callable[..., Any]) -> None:
    class Buggy(ScriptedModel):
        def submit(self, *args: Any, **kwargs: Any) -> Any:
            raise KeyError("secret_variable")

    error = refused(serve(Buggy([])), openai.InternalServerError)
    assert "secret_variable" not in error.response.text and error.code == "internal_error"
