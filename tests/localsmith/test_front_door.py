"""Three lines of Python: add, ask, stream, plain and async, with real models."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from localsmith.core.errors import IndexNotFoundError, LoadError, ModelNotFoundError
from localsmith.core.settings import load_settings

from localsmith import Delta, Final, Localsmith, Message, Progress, Question

pytestmark = pytest.mark.real_model

HANDBOOK = (
    b"# Leave\n\nEvery employee has thirty days of paid leave a year.\n\n# Hours\n\nThe week has 38 hours.\n"
)


@pytest.fixture(scope="module", autouse=True)
def handbook(ls: Localsmith) -> str:
    return ls.add(HANDBOOK, name="handbook.md").id


def test_making_one_loads_and_starts_nothing(ls: Localsmith, tmp_path: Path) -> None:
    fresh = Localsmith(settings=load_settings(home=tmp_path))
    assert [state.state for state in fresh.loading] == ["idle", "idle"]
    fresh.close()
    fresh.close()


def test_an_answer_reads_the_document_and_says_what_it_did(ls: Localsmith) -> None:
    answer = ls.ask("How many days of paid leave does an employee have?")
    assert answer.passages
    assert answer.passages[0].document_name == "handbook.md"
    assert answer.budget is not None
    assert sum(part.used_tokens for part in answer.budget.parts) == answer.budget.prompt_tokens
    assert [step.kind for step in answer.steps][:3] == ["plan", "search", "budget"]
    assert str(answer) == answer.text != ""
    assert answer.model == "smollm2-135m"


def test_the_stream_is_the_answer_and_every_stage_is_announced(ls: Localsmith) -> None:
    question = "How many hours has the week?"
    events = list(ls.events(question))
    assert isinstance(events[-1], Final)
    text = "".join(event.text for event in events if isinstance(event, Delta))
    assert text == events[-1].answer.text == "".join(ls.stream(question))
    stages = {event.stage for event in events if isinstance(event, Progress)}
    assert {"searching", "reading"} <= stages


def test_async_gives_the_same(ls: Localsmith) -> None:
    question = "How many hours has the week?"

    async def both() -> tuple[str, str]:
        answer = await ls.aask(question)
        return answer.text, "".join([piece async for piece in ls.astream(question)])

    asked, streamed = asyncio.run(both())
    assert asked == streamed == ls.ask(question).text


def test_a_conversation_and_a_restriction_to_documents_are_taken(ls: Localsmith, handbook: str) -> None:
    other = ls.add(b"The canteen opens at noon.", name="canteen.txt")
    history = (Message("user", "Tell me about leave."), Message("assistant", "There are thirty days."))
    answer = ls.ask(Question("How many are paid?", history=history, document_ids=(handbook,)))
    assert {passage.chunk.document_id for passage in answer.passages} <= {handbook}
    ls.library.remove(other.id)


def test_cancelling_ends_the_run_with_what_there_is(ls: Localsmith) -> None:
    cancel = threading.Event()
    events = ls.events("How many days of paid leave does an employee have?", cancel=cancel)
    last = None
    for event in events:
        if isinstance(event, Progress) and event.stage == "reading":
            cancel.set()
        last = event
    assert isinstance(last, Final)
    assert last.answer.stop_reason == "cancelled"


def test_bad_files_and_unknown_names_are_errors_with_a_next_step(ls: Localsmith, tmp_path: Path) -> None:
    with pytest.raises(LoadError) as caught:
        ls.add(b"", name="empty.txt")
    assert caught.value.reason == "empty"
    with pytest.raises(IndexNotFoundError):
        ls.ask("Anything?", collection="nowhere")
    with pytest.raises(ModelNotFoundError) as unknown:
        Localsmith("qwen2.5-codr-0.5b", settings=ls.settings).engine  # noqa: B018 - loading is the point
    assert "qwen2.5-coder-0.5b" in f"{unknown.value} {unknown.value.hint}"


def test_the_chat_model_runs_langchain_messages(ls: Localsmith) -> None:
    message = ls.chat_model.invoke("Say hello.")
    assert message.text
    assert message.usage_metadata is not None
    assert message.usage_metadata["output_tokens"] <= ls.settings.answer.max_tokens
