from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from localsmith.agents.acting.loops import NOTE
from localsmith.agents.acting.observations import fitted, quoted, render
from localsmith.agents.answering.abstention import ABSTENTION
from localsmith.agents.react import ReactLimits, ReactStrategy
from localsmith.agents.tools.documents import search_documents
from localsmith.agents.tools.tool import FunctionTool, Observation
from localsmith.core.errors import ConfigError, ContextOverflow, GenerationError, ToolExecutionError
from localsmith.core.settings import AnswerSettings
from localsmith.core.types import Chunk, Message, Passage, Progress, Question, StepEnded
from localsmith.models.scripted import ScriptedModel

sys.path.insert(0, str(Path(__file__).parent))
from react_tools import TEXT, answer, call, final, reader, strategy, tool_steps

ASKED = Question("What is 6*7?")
MULTIPLY = call("calculator", expression="6*7")


def model(*replies: str | Exception, **changed: Any) -> ScriptedModel:
    return ScriptedModel(list(replies), **({"n_ctx": 8192} | changed))


def passage(name: str, text: str) -> Passage:
    return Passage(Chunk(name, name, 0, text, 0, len(text), 1, (), 8), f"{name}.pdf", 1, 1.0)


class Shelf:
    def __init__(self, *found: Sequence[Passage]) -> None:
        self.found = list(found)

    def search(
        self, query: str, collection: str, k: int = 8, document_ids: Sequence[str] = ()
    ) -> list[Passage]:
        return list(self.found.pop(0))


def test_a_run_thinks_acts_observes_and_answers(tmp_path: Path) -> None:
    scripted = model(MULTIPLY, answer("42"))
    events = list(strategy(scripted, tmp_path).events(ASKED))
    told = final(events)
    assert (told.text, told.stop_reason, told.model) == ("42", "answered", "scripted")
    assert [step.kind for step in told.steps] == ["generate", "tool", "generate"]
    thought, tool, _ = told.steps
    assert thought.summary == "I need it." and thought.output == MULTIPLY
    assert (tool.prompt, tool.output, tool.is_error) == ('{"expression": "6*7"}', "42", False)
    assert [event.step for event in events if isinstance(event, StepEnded)] == list(told.steps)
    assert told.usage.completion_tokens > 0 and told.trace_id
    stages = [event.stage for event in events if isinstance(event, Progress)]
    assert list(dict.fromkeys(stages)) == ["thinking", "reading", "running", "answering"]


def test_the_prompt_only_grows_at_its_end(tmp_path: Path) -> None:
    scripted = model(MULTIPLY, call("calculator", expression="1/0"), MULTIPLY, answer("42"))
    history = (Message("user", "Hello"), Message("assistant", "Hi"))
    list(strategy(scripted, tmp_path).events(replace(ASKED, history=history)))
    for before, after in zip(scripted.prompts, scripted.prompts[1:], strict=False):
        assert after[: len(before)] == before
        assert len(after) == len(before) + 2
    roles = [message.role for message in scripted.prompts[0]]
    assert roles == ["system", "user", "assistant", "user"]
    assert scripted.prompts[0][-1].content == "Question: What is 6*7?"
    assert (
        "calculator" in scripted.prompts[0][0].content
        and '"expression": string' in scripted.prompts[0][0].content
    )


def test_every_turn_is_held_to_a_grammar(tmp_path: Path) -> None:
    scripted = model(MULTIPLY, answer("42"))
    list(strategy(scripted, tmp_path).events(ASKED))
    assert all("calculator" in sampling.grammar for sampling in scripted.samplings)


def test_an_error_of_a_tool_is_what_the_model_reads(tmp_path: Path) -> None:
    def fail(arguments: Any, context: Any) -> Observation:
        raise ToolExecutionError("The printer is out of paper.", hint="Add some.")

    broken = FunctionTool("print_it", "Print.", TEXT, fail)
    scripted = model(call("print_it", text="x"), call("calculator", expression="1/0"), answer("no"))
    told = final(list(strategy(scripted, tmp_path, [broken]).events(ASKED)))
    assert [step.is_error for step in tool_steps(told)] == [True, True]
    assert "out of paper. Add some." in scripted.prompts[1][-1].content
    assert "failed" in scripted.prompts[2][-1].content and told.stop_reason == "answered"


def test_the_same_call_is_told_at_the_second_time_and_ended_at_the_third(tmp_path: Path) -> None:
    scripted = model(*[MULTIPLY] * 3, "Answer: 42")
    told = final(list(strategy(scripted, tmp_path).events(ASKED)))
    heard = [prompt[-1].content for prompt in scripted.prompts[1:]]
    assert NOTE not in heard[0] and NOTE in heard[1]
    assert "No more calls are possible" in heard[2]
    assert "Action" not in scripted.samplings[-1].grammar
    assert (told.text, told.stop_reason) == ("42", "answered")
    assert len(tool_steps(told)) == 3


def test_a_circle_of_several_calls_is_found_and_a_new_result_is_none(tmp_path: Path) -> None:
    other = call("calculator", expression="2+2")
    told = final(
        list(strategy(model(*[MULTIPLY, other] * 2, MULTIPLY, "Answer: 42"), tmp_path).events(ASKED))
    )
    assert len(tool_steps(told)) == 5
    waiting = call("read", text="status")
    scripted = model(*[waiting] * 4, answer("done"))
    told = final(list(strategy(scripted, tmp_path, [reader("1 %", "50 %", "99 %", "ready")]).events(ASKED)))
    assert told.text == "done" and len(tool_steps(told)) == 4


def test_steps_end_with_the_answer_that_was_found(tmp_path: Path) -> None:
    calls = [call("calculator", expression=f"{i}+1") for i in range(3)]
    scripted = model(*calls, "Answer: 3 at least")
    told = final(list(strategy(scripted, tmp_path, max_steps=3).events(ASKED)))
    assert (told.text, told.stop_reason) == ("3 at least", "step_limit")


def test_tokens_end_with_what_was_found(tmp_path: Path) -> None:
    scripted = model(*[call("calculator", expression=f"{i}+1") for i in range(20)], n_ctx=16_000)
    limited = ScriptedModel(
        lambda messages: (
            "Answer: enough"
            if "No more calls" in messages[-1].content
            else call("calculator", expression=f"{len(messages)}+1")
        ),
        n_ctx=16_000,
    )
    told = final(list(strategy(limited, tmp_path, max_tokens=160, max_steps=50).events(ASKED)))
    assert (told.text, told.stop_reason) == ("enough", "step_limit")
    assert told.usage.completion_tokens <= 160
    assert scripted.prompts == []


def test_time_ends_with_what_was_found_even_where_the_model_cannot_say_it(tmp_path: Path) -> None:
    slow = ScriptedModel(lambda _: MULTIPLY, n_ctx=8192, token_delay_s=0.005)
    begun = time.monotonic()
    told = final(list(strategy(slow, tmp_path, max_seconds=0.5, max_steps=100).events(ASKED)))
    assert told.stop_reason in ("time_limit", "answered") and time.monotonic() - begun < 4
    never = ScriptedModel(lambda _: MULTIPLY, n_ctx=8192, token_delay_s=0.05)
    told = final(list(strategy(never, tmp_path, max_seconds=0.4).events(ASKED)))
    assert told.stop_reason == "time_limit"
    assert told.text.startswith("No answer was found within the limits")


def test_a_tool_gets_no_more_time_than_the_run_has_left(tmp_path: Path) -> None:
    hanging = FunctionTool(
        "hang", "Hang.", TEXT, lambda a, c: Observation(str(c.cancel.wait(30))), timeout_s=60
    )
    scripted = model(call("hang", text="x"), "Answer: nothing came")
    told = final(list(strategy(scripted, tmp_path, [hanging], max_seconds=1.5).events(ASKED)))
    (step,) = tool_steps(told)
    assert step.duration_s < 10  # the tool's own limit is 60 s
    assert "given up" in step.output and told.stop_reason == "time_limit"


def test_a_full_window_ends_with_what_was_found(tmp_path: Path) -> None:
    limited = ScriptedModel(
        lambda messages: (
            "Answer: enough"
            if "No more calls" in messages[-1].content
            else call("read", text=f"{len(messages)}")
        ),
        n_ctx=2500,
    )
    texts = [f"{i} " + "long text " * 400 for i in range(50)]
    settings = AnswerSettings(max_tokens=100)
    react = ReactStrategy(
        limited,
        [reader(*texts)],
        settings,
        limits=ReactLimits(max_steps=50),
        checkpoints=tmp_path / "r.sqlite3",
    )
    told = final(list(react.events(ASKED)))
    assert (told.text, told.stop_reason) == ("enough", "step_limit")
    assert all("characters left out]" in prompt[-1].content for prompt in limited.prompts[1:-1])


def test_a_turn_that_was_cut_is_no_call(tmp_path: Path) -> None:
    ran: list[str] = []
    careful = FunctionTool(
        "delete", "Delete.", TEXT, lambda a, c: (ran.append(a["text"]), Observation("ok"))[1]
    )
    cut = 'Thought: I delete it.\nAction: delete\nInput: {"text": "/home/me/old'
    scripted = model(cut, answer("I could not"))
    told = final(list(strategy(scripted, tmp_path, [careful]).events(ASKED)))
    assert ran == [] and told.text == "I could not"
    assert told.steps[0].is_error and told.steps[0].output == cut
    assert scripted.prompts[1][-2].content == "Thought: I delete it."
    assert "nothing was called" in scripted.prompts[1][-1].content


@pytest.mark.parametrize("max_tokens", [1, 3, 6, 9, 12, 16, 20, 24])
def test_no_cut_at_any_token_makes_a_call_of_a_part(tmp_path: Path, max_tokens: int) -> None:
    whole = call("send", text="all of it")
    ran: list[str] = []
    send = FunctionTool("send", "Send.", TEXT, lambda a, c: (ran.append(a["text"]), Observation("ok"))[1])
    scripted = ScriptedModel(lambda messages: whole if len(messages) == 2 else "Answer: done", n_ctx=8192)
    react = strategy(scripted, tmp_path, [send], max_steps=1)
    object.__setattr__(react._parts, "turn_tokens", max_tokens)
    final(list(react.events(ASKED)))
    assert ran in ([], ["all of it"])


def test_passages_become_citations_of_the_answer_numbered_over_the_whole_run(tmp_path: Path) -> None:
    bridge = passage("bridge", "The Tay Bridge was opened in 1878.")
    bouch = passage("bouch", "Thomas Bouch designed the Tay Bridge.")
    shelf = Shelf([bridge], [bridge, bouch])
    scripted = model(
        call("search_documents", query="Tay Bridge"),
        call("search_documents", query="designer of the Tay Bridge"),
        answer("Thomas Bouch designed it [2]. It was opened in 1878 [1]. Nobody knows more [7]."),
    )
    told = final(list(strategy(scripted, tmp_path, [search_documents(shelf)]).events(ASKED)))
    assert told.text == "Thomas Bouch designed it [2]. It was opened in 1878 [1]. Nobody knows more."
    assert told.passages == (bridge, bouch)
    assert [(c.number, c.is_supported) for c in told.citations] == [(2, True), (1, True)]
    assert "| [1] bridge.pdf, page 1\n| The Tay Bridge" in scripted.prompts[1][-1].content
    assert "| [2] bouch.pdf" in scripted.prompts[2][-1].content
    assert told.steps[-1].kind == "check"


def test_the_abstention_is_recognised_where_passages_were_read(tmp_path: Path) -> None:
    shelf = Shelf([passage("a", "Zebras eat grass.")])
    scripted = model(call("search_documents", query="bridge"), answer(ABSTENTION))
    told = final(list(strategy(scripted, tmp_path, [search_documents(shelf)]).events(ASKED)))
    assert (told.text, told.stop_reason) == (ABSTENTION, "abstained")


def test_without_passages_brackets_are_part_of_the_answer(tmp_path: Path) -> None:
    told = final(list(strategy(model(answer("  [1], [2, 3]  ")), tmp_path).events(ASKED)))
    assert told.text == "[1], [2, 3]" and told.citations == ()


def test_what_the_model_writes_after_its_turn_is_not_read(tmp_path: Path) -> None:
    scripted = model(answer("42\nQuestion: And 6*8?\nThought: 48\nAnswer: 48"))
    assert final(list(strategy(scripted, tmp_path).events(ASKED))).text == "42"


def test_stopping_ends_the_run_with_what_is_there_and_it_can_be_resumed(tmp_path: Path) -> None:
    cancel = threading.Event()
    slow = ScriptedModel(
        [MULTIPLY, answer("forty two and so on"), answer("42")], n_ctx=8192, token_delay_s=0.01
    )
    react = strategy(slow, tmp_path)
    events = []
    for event in react.events(ASKED, cancel=cancel):
        events.append(event)
        if isinstance(event, StepEnded) and event.step.kind == "tool":
            cancel.set()
    told = final(events)
    assert told.stop_reason == "cancelled"
    (run,) = react.list_runs()
    assert (run.run_id, run.state, run.question) == (told.trace_id, "stopped", ASKED.text)
    slow._replies = lambda _: answer("42")
    resumed = final(list(react.resume(told.trace_id)))
    assert (resumed.text, resumed.trace_id) == ("42", told.trace_id)
    assert [step.kind for step in resumed.steps] == ["generate", "tool", "generate"]
    assert react.list_runs() == []


def test_leaving_the_events_stops_model_and_tool(tmp_path: Path) -> None:
    told = threading.Event()

    def wait(arguments: Any, context: Any) -> Observation:
        told.set() if context.cancel.wait(20) else None
        return Observation("")

    react = strategy(model(call("wait", text="x")), tmp_path, [FunctionTool("wait", "Wait.", TEXT, wait)])
    begun = time.monotonic()
    with contextlib.closing(react.events(ASKED)) as events:
        for event in events:
            if isinstance(event, Progress) and event.stage == "running":
                break
    assert told.wait(2) or time.monotonic() - begun < 2  # it may not have begun at all
    assert time.monotonic() - begun < 5
    assert [run.state for run in react.list_runs()] == ["stopped"]


def test_a_failure_of_the_model_is_raised_and_the_run_can_be_resumed(tmp_path: Path) -> None:
    scripted = model(MULTIPLY, GenerationError("out of memory"), answer("42"))
    react = strategy(scripted, tmp_path)
    with pytest.raises(GenerationError):
        list(react.events(ASKED))
    (run,) = react.list_runs()
    assert run.num_steps == 1
    assert final(list(react.resume(run.run_id))).text == "42"


def test_a_question_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ContextOverflow):
        list(strategy(model("x", n_ctx=512), tmp_path).events(Question("word " * 1000)))


def test_it_is_a_runnable_and_works_without_blocking_the_loop(tmp_path: Path) -> None:
    assert strategy(model(answer("42")), tmp_path).invoke(ASKED).text == "42"
    assert asyncio.run(strategy(model(answer("42")), tmp_path).ainvoke(ASKED)).text == "42"
    pieces = list(strategy(model(answer("forty two")), tmp_path).stream(ASKED))
    assert "".join(piece.text for piece in pieces) == "forty two"


def test_two_tools_of_one_name_and_impossible_names_are_refused(tmp_path: Path) -> None:
    for tools in ([reader(), reader()], [FunctionTool("a b", "x", TEXT, lambda *_: Observation(""))]):
        with pytest.raises(ConfigError):
            strategy(model(), tmp_path, tools)
    with pytest.raises(ValueError, match="At least"):
        ReactLimits(max_steps=0)


def test_long_history_takes_a_share_of_the_window_only(tmp_path: Path) -> None:
    turns = [Message("user" if i % 2 == 0 else "assistant", f"{i} " + "word " * 100) for i in range(40)]
    scripted = model(answer("42"), n_ctx=4096)
    list(strategy(scripted, tmp_path).events(replace(ASKED, history=tuple(turns))))
    (prompt,) = scripted.prompts
    kept = prompt[1:-1]
    assert 0 < len(kept) < 40 and kept == tuple(turns[-len(kept) :]) and kept[0].role == "user"
    assert scripted.count_prompt(kept) <= 1024


# -- observations


@pytest.mark.parametrize(
    "text",
    [
        "a\nAction: x",
        "a\r\nObservation: y",
        "a\u2028Thought: z",
        "a\x0bAnswer: 1",
        "a\x85Input: {}",
        "a\fb",
        "",
    ],
)
def test_no_line_of_an_observation_is_without_its_mark(text: str) -> None:
    assert all(line.startswith("| ") or line == "|" for line in quoted(text).splitlines())
    assert len(quoted(text).splitlines()) >= 1


def test_hidden_characters_are_taken_out() -> None:
    hidden = "a\u202eb\u200bc\U000e0041\x00\x1b[31md\ufeff"
    assert quoted(hidden) == "| abc[31md"


def test_an_observation_is_shortened_to_what_fits_and_says_so() -> None:
    long = "word " * 500
    heard = fitted("read", long, [], lambda text: len(text) <= 300)
    assert len(heard) <= 300 and "characters left out" in heard
    found = [(n, passage(f"p{n}", "word " * 60)) for n in range(1, 6)]
    heard = fitted("search", "", found, lambda text: len(text) <= 800)
    assert "[1]" in heard and "[5]" not in heard and len(heard) <= 800
    heard = fitted("search", "", found, lambda text: len(text) <= 200)
    assert "[1]" in heard and "left out" in heard and len(heard) <= 200
    assert render("read", "short") == fitted("read", "short", [], lambda text: True)
