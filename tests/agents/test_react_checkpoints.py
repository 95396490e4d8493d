"""Runs that stop and go on: killed ones, and those that wait for a person."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from localsmith.agents.acting.checkpoints import Checkpoints
from localsmith.agents.react import Approval, ReactStrategy
from localsmith.agents.tools.tool import FunctionTool, Observation
from localsmith.core.errors import AgentError, ToolArgumentError
from localsmith.core.types import ApprovalNeeded, Question
from localsmith.models.scripted import ScriptedModel

sys.path.insert(0, str(Path(__file__).parent))
from react_tools import TEXT, Outbox, answer, call, final, strategy, tool_steps

CHILD = Path(__file__).with_name("react_child.py")
ASKED = Question("Send hello.", user="ann")
SEND = call("send", text="hello")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run for each place in which its process was killed."""
    folder = tmp_path_factory.mktemp("killed")
    process = subprocess.run([sys.executable, str(CHILD), str(folder)], capture_output=True, timeout=200)
    assert process.returncode == 0, process.stderr.decode()
    return folder


def appending(folder: Path, name: str, file: str) -> FunctionTool:
    def append(arguments: Any, context: Any) -> Observation:
        with (folder / file).open("a") as opened:
            opened.write(f"{arguments['text']}\n")
        return Observation(f"{name} done")

    return FunctionTool(name, "Append.", TEXT, append, needs_approval=name == "send")


def waiting(tmp_path: Path, *replies: str) -> tuple[ReactStrategy, Outbox, ApprovalNeeded, ScriptedModel]:
    """Return a run that waits for a person's word on its first call."""
    outbox = Outbox()
    scripted = ScriptedModel([SEND, *replies], n_ctx=8192)
    react = strategy(scripted, tmp_path, [outbox.tool])
    events = list(react.events(ASKED))
    assert final(events).stop_reason == "needs_approval" and outbox.sent == []
    (needed,) = [event for event in events if isinstance(event, ApprovalNeeded)]
    return react, outbox, needed, scripted


def test_a_run_killed_after_its_second_step_resumes_and_finishes(killed: Path) -> None:
    folder = killed / "third"
    scripted = ScriptedModel([answer("all noted")], n_ctx=8192)
    react = strategy(scripted, folder, [appending(folder, "note", "noted.txt")])
    (run,) = react.list_runs()
    assert (run.state, run.num_steps, run.question) == ("stopped", 2, "Take notes.")
    told = final(list(react.resume(run.run_id)))
    assert (told.text, told.stop_reason, told.trace_id) == ("all noted", "answered", run.run_id)
    assert [step.output for step in tool_steps(told)] == ["noted first", "noted second", "note done"]
    # The first two were not made again; the third, cut off in its middle, was.
    assert (folder / "noted.txt").read_text().split() == ["first", "second", "third", "third"]
    assert "noted second" in scripted.prompts[0][-3].content
    assert react.list_runs() == [] and list(folder.glob("*.lock")) == []


def test_an_approved_call_that_was_cut_off_is_asked_for_again_and_not_made_twice(killed: Path) -> None:
    folder = killed / "in-call"
    react = strategy(
        ScriptedModel([answer("sent")], n_ctx=8192), folder, [appending(folder, "send", "sent.txt")]
    )
    (run,) = react.list_runs()
    events = list(react.resume(run.run_id))
    (needed,) = [event for event in events if isinstance(event, ApprovalNeeded)]
    assert "may have been done already" in needed.reason
    assert final(events).stop_reason == "needs_approval"
    assert (folder / "sent.txt").read_text().split() == ["hello"]
    told = final(list(react.resume(run.run_id, Approval("refuse", "It has arrived."))))
    assert told.text == "sent" and (folder / "sent.txt").read_text().split() == ["hello"]


def test_an_approved_call_is_not_made_again_where_it_was_noted_as_done(killed: Path) -> None:
    folder = killed / "after-call"
    react = strategy(
        ScriptedModel([answer("sent")], n_ctx=8192), folder, [appending(folder, "send", "sent.txt")]
    )
    (run,) = react.list_runs()
    assert final(list(react.resume(run.run_id))).text == "sent"
    assert (folder / "sent.txt").read_text().split() == ["hello"]


def test_an_approval_outlives_a_kill_before_the_call(killed: Path) -> None:
    folder = killed / "decided"
    react = strategy(
        ScriptedModel([answer("sent")], n_ctx=8192), folder, [appending(folder, "send", "sent.txt")]
    )
    (run,) = react.list_runs()
    assert not (folder / "sent.txt").exists()
    assert final(list(react.resume(run.run_id))).text == "sent"
    assert (folder / "sent.txt").read_text().split() == ["hello"]


def test_approved_means_made_once(tmp_path: Path) -> None:
    react, outbox, needed, _ = waiting(tmp_path, answer("sent"))
    assert (needed.tool, needed.arguments, needed.call) == ("send", '{"text": "hello"}', 1)
    (run,) = react.list_runs("ann")
    assert run.state == "needs_approval" and run.approval == needed and react.list_runs("bob") == []
    told = final(list(react.resume(needed.run_id, Approval("approve", call=1))))
    assert (told.text, outbox.sent) == ("sent", ["hello"])
    assert [step.kind for step in told.steps] == ["generate", "tool", "generate"]
    with pytest.raises(AgentError, match="no unfinished run"):
        list(react.resume(needed.run_id, Approval("approve")))
    assert outbox.sent == ["hello"]


def test_refused_means_never_made_and_the_model_reads_why(tmp_path: Path) -> None:
    react, outbox, needed, scripted = waiting(tmp_path, SEND, answer("not sent"))
    told = final(list(react.resume(needed.run_id, Approval("refuse", "Not today."))))
    # The model asked for the very same again: nobody was asked twice.
    assert (told.text, outbox.sent) == ("not sent", [])
    assert "A person refused this call. Reason: Not today." in scripted.prompts[1][-1].content
    assert all(step.is_error for step in tool_steps(told)) and len(tool_steps(told)) == 2


def test_edited_arguments_are_those_that_are_used(tmp_path: Path) -> None:
    react, outbox, needed, scripted = waiting(tmp_path, answer("sent"))
    told = final(list(react.resume(needed.run_id, Approval("approve", arguments='{"text": "good day"}'))))
    assert outbox.sent == ["good day"]
    assert tool_steps(told)[0].prompt == '{"text": "good day"}'
    assert "A person changed the arguments" in scripted.prompts[1][-1].content


@pytest.mark.parametrize("arguments", ["{", "[]", "{}", '{"text": 3}', '{"text": "a", "to": "b"}'])
def test_edited_arguments_have_to_obey_the_schema(tmp_path: Path, arguments: str) -> None:
    react, outbox, needed, _ = waiting(tmp_path, answer("sent"))
    with pytest.raises(ToolArgumentError):
        list(react.resume(needed.run_id, Approval("approve", arguments=arguments)))
    assert outbox.sent == []
    assert [run.state for run in react.list_runs()] == ["needs_approval"]


def test_going_on_without_a_word_asks_again(tmp_path: Path) -> None:
    react, outbox, needed, _ = waiting(tmp_path, answer("sent"))
    for _ in range(2):
        events = list(react.resume(needed.run_id))
        assert needed in events and final(events).stop_reason == "needs_approval"
    assert outbox.sent == []
    final(list(react.resume(needed.run_id, Approval("approve"))))
    assert outbox.sent == ["hello"]


def test_a_word_on_one_call_is_none_on_the_next(tmp_path: Path) -> None:
    react, outbox, needed, _ = waiting(tmp_path, call("send", text="goodbye"), answer("sent"))
    events = list(react.resume(needed.run_id, Approval("approve", call=needed.call)))
    assert final(events).stop_reason == "needs_approval" and outbox.sent == ["hello"]
    with pytest.raises(AgentError, match="no longer"):
        list(react.resume(needed.run_id, Approval("approve", call=needed.call)))
    assert outbox.sent == ["hello"]
    assert final(list(react.resume(needed.run_id, Approval("approve", call=2)))).text == "sent"
    assert outbox.sent == ["hello", "goodbye"]


def test_two_who_approve_at_once_make_one_call(tmp_path: Path) -> None:
    react, outbox, needed, _ = waiting(tmp_path, answer("sent"))
    results: list[str] = []
    barrier = threading.Barrier(4)

    def approve() -> None:
        barrier.wait()
        try:
            results.append(final(list(react.resume(needed.run_id, Approval("approve")))).text)
        except AgentError as exc:
            results.append(type(exc).__name__)

    threads = [threading.Thread(target=approve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outbox.sent == ["hello"]
    assert sorted(results) == ["AgentError"] * 3 + ["sent"]


def test_a_run_at_work_is_listed_and_can_neither_be_resumed_nor_forgotten(tmp_path: Path) -> None:
    react = strategy(ScriptedModel([answer("42")], n_ctx=8192), tmp_path)
    events = react.events(ASKED)
    next(events)
    (run,) = react.list_runs()
    assert run.state == "running"
    with pytest.raises(AgentError, match="at work"):
        react.forget(run.run_id)
    with pytest.raises(AgentError, match="at work"):
        next(react.resume(run.run_id))
    events.close()
    react.forget(run.run_id)
    assert react.list_runs() == []


def test_forgetting_leaves_nothing_behind(tmp_path: Path) -> None:
    react, _, needed, _ = waiting(tmp_path)
    react.forget(needed.run_id)
    react.forget(needed.run_id)
    assert react.list_runs() == [] and list(tmp_path.glob("*.lock")) == []
    with pytest.raises(AgentError, match="no unfinished run"):
        list(react.resume(needed.run_id))


@pytest.mark.parametrize("run_id", ["", "../../etc/passwd", "a" * 31, "A" * 32, "0" * 32])
def test_what_is_no_run_is_an_error(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(AgentError):
        list(strategy(ScriptedModel([]), tmp_path).resume(run_id))
    assert list(tmp_path.rglob("*.lock")) == []


def test_a_stopped_run_takes_no_decision(tmp_path: Path) -> None:
    cancel = threading.Event()
    react = strategy(ScriptedModel([call("calculator", expression="1+1"), answer("2")], n_ctx=8192), tmp_path)
    cancel.set()
    told = final(list(react.events(ASKED, cancel=cancel)))
    assert told.stop_reason == "cancelled"
    with pytest.raises(AgentError, match="waits for approval"):
        list(react.resume(told.trace_id, Approval("approve")))


def test_a_run_resumed_without_its_tool_is_told_so(tmp_path: Path) -> None:
    _, outbox, needed, _ = waiting(tmp_path)
    without = strategy(ScriptedModel([answer("no")], n_ctx=8192), tmp_path)
    told = final(list(without.resume(needed.run_id)))
    assert told.text == "no" and "no tool send any more" in tool_steps(told)[0].output
    assert outbox.sent == []


def test_runs_nobody_came_back_to_are_deleted_in_the_end(tmp_path: Path) -> None:
    react, _, needed, _ = waiting(tmp_path)
    checkpoints = Checkpoints(tmp_path / "react.sqlite3")
    with checkpoints._database.transaction() as connection:
        connection.execute("UPDATE runs SET updated_at = updated_at - 40 * 86400")
    final(list(strategy(ScriptedModel([answer("1")], n_ctx=8192), tmp_path).events(ASKED)))
    assert react.list_runs() == [] and not checkpoints.has(needed.run_id)
