"""A part loads once, tells how far it is, and can be tried again after a failure."""

from __future__ import annotations

import threading

import pytest
from localsmith.core.errors import LocalsmithError, ModelLoadError

from localsmith.loading import Part, Report


def test_everyone_waits_for_the_same_value_made_once() -> None:
    gate, made = threading.Event(), []

    def make(report: Report) -> object:
        report(0.5, "half")
        gate.wait()
        made.append(object())
        return made[0]

    part = Part("model", make)
    assert part.state.state == "idle"
    part.start()
    part.start()
    results: list[object] = []
    threads = [threading.Thread(target=lambda: results.append(part.result())) for _ in range(4)]
    for thread in threads:
        thread.start()
    while part.state.progress != 0.5:
        pass
    assert part.state.state == "loading"
    gate.set()
    for thread in threads:
        thread.join()
    assert results == made * 4
    assert part.state.state == "ready"


def test_a_failure_reaches_everyone_and_start_tries_again() -> None:
    tries: list[int] = []

    def make(report: Report) -> int:
        tries.append(1)
        if len(tries) == 1:
            raise ModelLoadError("broken", hint="mend it")
        return 7

    part = Part("model", make)
    with pytest.raises(ModelLoadError, match="broken"):
        part.result()
    with pytest.raises(ModelLoadError, match="broken"):
        part.result()
    assert part.state.error is not None
    assert part.state.error.hint == "mend it"
    part.start()
    assert part.result() == 7
    assert part.state.error is None


def test_an_unforeseen_exception_becomes_an_error_with_its_cause_in_words() -> None:
    def make(report: Report) -> int:
        raise ZeroDivisionError("oops")

    with pytest.raises(LocalsmithError, match="oops"):
        Part("model", make).result()
