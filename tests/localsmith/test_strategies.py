"""Every strategy from the front door: by name, kept as traces, with memory in conversations."""

from __future__ import annotations

from contextlib import closing

import pytest
from localsmith.core.errors import AgentError, ConfigError
from localsmith.core.memory_store import MemoryStore

from localsmith import Localsmith, Question, StepEnded

pytestmark = pytest.mark.real_model


def test_a_strategy_is_named_a_question_and_leaves_a_trace(ls: Localsmith) -> None:
    answer = ls.ask("Say hello.", strategy="direct")
    assert answer.text and not answer.passages
    assert [step.kind for step in answer.steps] == ["generate"]
    trace = ls.traces.get(answer.trace_id)
    assert trace is not None and trace.info.strategy == "direct"
    assert ls.strategies["direct"] is ls.strategies["direct"]


def test_the_default_says_what_it_chose_and_why(ls: Localsmith) -> None:
    ls.add(b"The canteen opens at noon.", name="canteen.txt")
    first = next(event for event in ls.events("When does the canteen open?") if isinstance(event, StepEnded))
    assert first.step.kind == "plan" and first.step.summary.startswith("Documents: ")
    assert first.step.usage is None  # no model was asked


def test_an_unknown_strategy_names_the_nearest_and_loads_nothing(ready_settings: object) -> None:
    with Localsmith() as ls, pytest.raises(ConfigError, match="'cot-sc'"):
        ls.ask("Anything?", strategy="cot-scc")
    assert [state.state for state in ls.loading] == ["idle", "idle"]


def test_the_bare_strategy_is_a_runnable_and_leaves_no_trace(ls: Localsmith) -> None:
    answer = ls.strategies["direct"].invoke(Question("Say hello."))
    assert answer.text and ls.traces.get(answer.trace_id) is None


def test_a_conversation_has_memory_and_a_single_question_has_none(ls: Localsmith) -> None:
    said = "Remember that I live in Leeds."
    ls.ask(Question(said), strategy="direct")
    answer = ls.ask(Question(said, conversation_id="talk"), strategy="direct")
    assert "Leeds" in answer.text and [step.kind for step in answer.steps] == ["remember"]
    with closing(MemoryStore(ls.settings.memory_path)) as store:
        assert [fact.text for fact in store.facts()] == ["I live in Leeds."] or len(store.facts()) == 1


def test_a_run_that_is_not_there_cant_be_resumed(ls: Localsmith) -> None:
    assert ls.unfinished_runs() == []
    with pytest.raises(AgentError, match="no unfinished run"):
        list(ls.resume("0" * 32))
