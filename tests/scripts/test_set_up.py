"""Set-up: `make` passes its arguments on, a second run does nothing, and no CUDA package slips in."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def make_dry(*arguments: str) -> str:
    done = run("make", "--dry-run", "--no-print-directory", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_make_run_passes_its_arguments_on() -> None:
    plain = make_dry("run")
    assert "localsmith setup" in plain
    assert "ui --port 8501" in plain and "--no-open" not in plain
    assert "--llama-cmake-args" not in plain
    chosen = make_dry("run", "PORT=9000", "OPEN=0", "LLAMA_CMAKE_ARGS=-DGGML_CUDA=on")
    assert "ui --port 9000 --no-open" in chosen
    assert '--llama-cmake-args="-DGGML_CUDA=on"' in chosen


def test_make_test_finds_a_browser_before_it_starts() -> None:
    planned = make_dry("test")
    assert planned.index("scripts/chromium.py") < planned.index("-m pytest")


def test_make_says_what_to_install_where_python_is_missing() -> None:
    done = run("make", "setup", "PYTHON=")
    assert done.returncode != 0
    assert "apt-get install -y python3 python3-venv build-essential" in done.stderr


def test_a_second_set_up_does_nothing(tmp_path: Path, scripts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = scripts("setup")
    stamp = setup.Stamp(setup.inputs_hash(), ("dev",), "-DGGML_CUDA=on")
    stamp.write(tmp_path)
    monkeypatch.setattr(setup, "make_venv", lambda venv: pytest.fail("set up again"))
    setup.set_up(tmp_path, ("dev",), None)
    setup.set_up(tmp_path, (), None)  # what `make test` added stays for `make run`
    assert setup.Stamp.read(tmp_path) == stamp


def test_a_change_of_the_inputs_sets_up_again(
    tmp_path: Path, scripts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = scripts("setup")
    setup.Stamp("an older state", ("dev",)).write(tmp_path)
    monkeypatch.setattr(setup, "make_venv", lambda venv: (_ for _ in ()).throw(setup.SetupError("begun")))
    with pytest.raises(setup.SetupError, match="begun"):
        setup.set_up(tmp_path, (), None)


def test_a_python_without_venv_names_the_package(scripts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = scripts("machine")
    assert machine.missing_interpreter_parts() == ""
    monkeypatch.setitem(sys.modules, "ensurepip", None)  # what Debian's python3 is without python3-venv
    monkeypatch.setattr(machine.platform, "system", lambda: "Linux")
    monkeypatch.setattr(
        machine.shutil, "which", lambda name: f"/usr/bin/{name}" if name == "apt-get" else None
    )
    assert "apt-get install -y python3-venv" in machine.missing_interpreter_parts()


def test_pytorch_is_asked_for_by_a_name_that_no_cuda_build_has(
    scripts: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    setup, machine = scripts("setup"), scripts("machine")
    asked: list[tuple[str, ...]] = []

    def refuse(python: Path, title: str, *arguments: str, failed: str = "") -> bool:
        asked.append(arguments)
        (python.parent.parent / "pip.log").write_text("No matching distribution")
        return False

    monkeypatch.setattr(setup, "pip_install", refuse)
    monkeypatch.setattr(setup.platform, "system", lambda: "Linux")
    (tmp_path / "bin").mkdir()
    for has_card in (False, True):
        monkeypatch.setattr(machine, "has_nvidia_gpu", lambda has_card=has_card: has_card)
        with pytest.raises(setup.SetupError, match="No matching distribution"):
            setup.install_torch(tmp_path / "bin" / "python")
    names = [arguments[1] for arguments in asked]
    assert all(name.endswith("+cpu") for name in names[:2]) and "+" not in names[2]
    assert asked[1][-1] == setup.PYTORCH_CPU_INDEX and "--index-url" not in asked[0]


def test_cuda_packages_without_a_card_are_an_error(
    tmp_path: Path, scripts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, machine = scripts("setup"), scripts("machine")
    listed = json.dumps([{"name": "torch", "version": "1"}, {"name": "nvidia-cublas", "version": "1"}])
    monkeypatch.setattr(machine, "output", lambda *command: listed)
    monkeypatch.setattr(machine, "has_nvidia_gpu", lambda: False)
    with pytest.raises(setup.SetupError, match="nvidia-cublas"):
        setup.check_no_cuda(Path("python"))
    monkeypatch.setattr(machine, "has_nvidia_gpu", lambda: True)
    setup.check_no_cuda(Path("python"))


def test_no_cuda_library_is_installed_here(scripts: Any) -> None:
    scripts("setup").check_no_cuda(Path(sys.executable))


def test_constraints_are_plain_pins_of_one_set_for_all_machines() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][A-Za-z0-9.]*", line) for line in lines)
    names = [line.partition("==")[0] for line in lines]
    assert names == sorted(set(names))
    assert not [name for name in names if name.startswith(("nvidia-", "cuda-", "triton"))]


def test_no_index_host_but_pytorchs_own_is_named() -> None:
    listed = run("git", "ls-files", "-z").stdout or "constraints.txt"
    files = [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]
    hosts = re.compile(rb"py" rb"pi\.org|pythonhosted\.org|registry\.npm|deb\.debian")
    texts = [path for path in files if path.suffix in {".py", ".txt", ".toml", ".md", ".yaml", ""}]
    assert [str(path) for path in texts if path != Path(__file__) and hosts.search(path.read_bytes())] == []


def test_ci_runs_the_command_of_the_readme() -> None:
    text = (ROOT / ".ci" / "run").read_text()
    assert text.rstrip().endswith("make test")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "make test" in (ROOT / "README.md").read_text()
