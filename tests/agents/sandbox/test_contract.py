"""What every sandbox promises, tested on each alike."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from localsmith.core.contracts import Sandbox

pytestmark = pytest.mark.timeout(1200)  # the first session on a machine compiles the module


def test_what_a_program_prints_is_its_result(sandbox: Sandbox) -> None:
    result = sandbox.run("import math\nprint(math.comb(10, 3), 'pears')")
    assert (result.status, result.stdout, result.error) == ("ok", "120 pears\n", "")
    assert result.duration_s > 0


def test_an_error_comes_with_the_line_it_happened_in(sandbox: Sandbox) -> None:
    result = sandbox.run(
        "def share(pears, people):\n    return pears / people\n\nprint('so far')\nshare(3, 0)"
    )
    assert (result.status, result.stdout) == ("error", "so far\n")
    assert result.error.splitlines() == [
        "Traceback (most recent call last):",
        "  line 5: share(3, 0)",
        "  line 2: return pears / people",
        "ZeroDivisionError: division by zero",
    ]


def test_an_error_in_a_library_shows_the_program_s_line_only(sandbox: Sandbox) -> None:
    result = sandbox.run("import json\njson.loads('{')")
    assert result.status == "error"
    assert result.error.splitlines()[1] == "  line 2: json.loads('{')"
    assert result.error.splitlines()[-1].startswith("json.decoder.JSONDecodeError: Expecting property name")
    assert len(result.error.splitlines()) == 3


def test_a_syntax_error_names_the_line(sandbox: Sandbox) -> None:
    result = sandbox.run("x = 1\ny = (2")
    assert result.status == "error"
    assert "line 2" in result.error
    assert "SyntaxError: '(' was never closed" in result.error


@pytest.mark.parametrize(
    ("program", "status", "error"),
    [
        ("raise SystemExit", "ok", ""),
        ("import sys\nsys.exit(0)", "ok", ""),
        ("import sys\nsys.exit('no pears')", "error", "no pears"),
        ("import sys\nsys.exit(3)", "error", "The program ended with exit status 3."),
    ],
)
def test_an_exit_counts_by_its_status(sandbox: Sandbox, program: str, status: str, error: str) -> None:
    result = sandbox.run(program)
    assert (result.status, result.error) == (status, error)


@pytest.mark.parametrize(
    "program", ["", "# nothing", "print('é', '漢', '\\U0001F350')", "if True:\r\n    print(1)\r\n"]
)
def test_odd_programs_run(sandbox: Sandbox, program: str) -> None:
    assert sandbox.run(program).status == "ok"


@pytest.mark.parametrize("program", ["print(1)\0", "print('\udcff')", "x" * 1_000_001])
def test_what_is_no_program_is_an_error_of_the_program(sandbox: Sandbox, program: str) -> None:
    result = sandbox.run(program)
    assert result.status == "error"
    assert result.error


def test_nothing_stays_from_one_run_to_the_next(sandbox: Sandbox) -> None:
    sandbox.run("import builtins, math\nbuiltins.kept = 1\nmath.pi = 3\nkept = 1")
    result = sandbox.run("import math\nprint(math.pi, 'kept' in globals(), hasattr(__builtins__, 'kept'))")
    assert result.stdout == "3.141592653589793 False False\n"


def test_a_program_is_the_main_module(sandbox: Sandbox) -> None:
    program = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\nimport typing\n"
        "@dataclass\nclass Pear:\n    weight: int\n"
        "if __name__ == '__main__':\n    print(Pear(3), typing.get_type_hints(Pear))"
    )
    assert sandbox.run(program).stdout == "Pear(weight=3) {'weight': <class 'int'>}\n"


def test_a_run_s_own_time_limit_holds(sandbox: Sandbox) -> None:
    result = sandbox.run("print('begun', flush=True)\nwhile True: pass", timeout_s=0.6)
    assert result.status == "timeout"
    assert 0.5 < result.duration_s < 0.6 + 0.5
    assert "0.6 s" in result.error


def test_output_is_cut_at_the_limit_and_said_to_be(sandbox: Sandbox) -> None:
    result = sandbox.run("print('pear ' * 100_000)")
    assert result.status == "output"
    assert len(result.stdout) == 20_000
    assert "20000 characters" in result.error


def test_too_much_memory_is_named_as_such(sandbox: Sandbox) -> None:
    result = sandbox.run("pears = []\nwhile True: pears.append(bytearray(10**7))")
    assert result.status == "memory"
    assert "128 MiB" in result.error


def test_threads_run_programs_side_by_side_and_get_their_own_results(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(5) as pool:
        results = list(pool.map(sandbox.run, [f"print({n} ** 2)" for n in range(15)]))
    assert [result.stdout for result in results] == [f"{n**2}\n" for n in range(15)]


def test_a_crash_is_a_result_and_the_next_program_runs(sandbox: Sandbox) -> None:
    assert sandbox.run("import faulthandler\nfaulthandler._sigsegv()").status == "crashed"
    assert sandbox.run("print(1)").stdout == "1\n"


def test_numpy_is_there(sandbox: Sandbox) -> None:
    assert sandbox.run("import numpy\nprint(numpy.arange(4).sum())").stdout == "6\n"
