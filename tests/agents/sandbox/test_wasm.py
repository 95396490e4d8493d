"""What only the WebAssembly sandbox promises: workers that come back, and nothing compiled on the way."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest
from localsmith.agents.sandbox import WasmSandbox
from localsmith.core.errors import SandboxError
from localsmith.core.settings import SandboxSettings

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture
def small(compiled: Path) -> WasmSandbox:
    """A sandbox of one worker."""
    return WasmSandbox(compiled, SandboxSettings(timeout_s=20), num_workers=1)


def test_a_worker_that_is_killed_costs_its_program_only(small: WasmSandbox) -> None:
    with small:
        small.run("print(1)")
        (pid,) = small.worker_pids
        threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
        began = time.monotonic()
        result = small.run("while True: pass", timeout_s=20)
        assert result.status == "crashed"
        assert time.monotonic() - began < 5
        assert small.run("print(2)").stdout == "2\n"
        assert small.worker_pids != (pid,)


def test_a_worker_that_hangs_is_killed_at_the_limit(small: WasmSandbox) -> None:
    with small:
        small.run("print(1)")
        (pid,) = small.worker_pids
        os.kill(pid, signal.SIGSTOP)
        result = small.run("print(2)", timeout_s=0.5)
        assert (result.status, result.stdout) == ("timeout", "")
        assert result.duration_s < 0.5 + 0.5
        assert not psutil.pid_exists(pid)
        assert small.run("print(3)").stdout == "3\n"


def test_close_ends_the_workers_and_what_they_run(small: WasmSandbox) -> None:
    small.run("print(1)")
    (pid,) = small.worker_pids
    threading.Timer(0.5, small.close).start()
    assert small.run("while True: pass", timeout_s=20).status == "crashed"
    assert not psutil.pid_exists(pid)
    with pytest.raises(SandboxError, match="closed"):
        small.run("print(2)")


def test_workers_are_reused(small: WasmSandbox) -> None:
    with small:
        pids = {small.worker_pids for _ in range(3) if small.run("1/0")}
        assert len(pids) == 1


def test_a_worker_holds_none_of_the_host_s_secrets(
    small: WasmSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALSMITH_REMOTE_API_KEY", "sk-pear")
    with small:
        small.run("print(1)")
        environment = psutil.Process(small.worker_pids[0]).environ()
        assert "sk-pear" not in str(environment)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="seccomp is Linux's")
def test_a_worker_is_under_a_filter(small: WasmSandbox) -> None:
    with small:
        small.run("print(1)")
        for status in Path(f"/proc/{small.worker_pids[0]}/task").glob("*/status"):
            assert "Seccomp:\t2" in status.read_text()


def test_a_module_that_does_not_load_is_an_error_and_compiles_nothing(compiled: Path, tmp_path: Path) -> None:
    (module,) = compiled.glob("*.cwasm")
    damaged = tmp_path / module.name
    damaged.write_bytes(module.read_bytes()[:100_000])
    damaged.chmod(0o600)
    began = time.monotonic()
    with WasmSandbox(tmp_path, SandboxSettings()) as sandbox:
        with pytest.raises(SandboxError, match="can't be loaded") as error:
            sandbox.run("print(1)")
        assert "localsmith setup" in error.value.hint
        assert sandbox.worker_pids == ()
    assert time.monotonic() - began < 20
    assert damaged.stat().st_size == 100_000


def test_a_loadable_module_of_another_name_compiles_nothing(compiled: Path, tmp_path: Path) -> None:
    """The library looks for one name and would compile where it is missing; the worker must not let it."""
    began = time.monotonic()
    (module,) = compiled.glob("*.cwasm")
    shutil.copy(module, tmp_path / "other.cwasm")
    with WasmSandbox(tmp_path, SandboxSettings()) as sandbox, pytest.raises(SandboxError):
        sandbox.run("print(1)")
    assert [path.name for path in tmp_path.iterdir()] == ["other.cwasm"]
    assert time.monotonic() - began < 20
