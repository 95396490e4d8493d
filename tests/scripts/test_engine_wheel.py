"""The engine: how it is built, kept and tried out, and what happens when it crashes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
VERSION = "0.3.36"
METADATA = f"Metadata-Version: 2.1\nName: llama-cpp-python\nVersion: {VERSION}\n"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def fake_engine(folder: Path, behaviour: str) -> None:
    """Put a wheel into the cache whose engine does one thing as soon as it is used."""
    folder.mkdir(parents=True)
    info = f"llama_cpp_python-{VERSION}.dist-info"
    with zipfile.ZipFile(folder / f"llama_cpp_python-{VERSION}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("llama_cpp.py", f"import os, signal\ndef llama_backend_init():\n    {behaviour}\n")
        wheel.writestr(f"{info}/METADATA", METADATA)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def test_the_cmake_arguments_reach_the_build(
    tmp_path: Path, scripts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    python = tmp_path / "python"
    python.write_text(
        textwrap.dedent(
            """\
            #!/bin/sh
            echo "$CMAKE_ARGS" > "$(dirname "$0")/seen"
            while [ "$1" != --wheel-dir ]; do shift; done
            touch "$2/engine.whl"
            """
        )
    )
    python.chmod(0o755)
    engine_wheel = scripts("engine_wheel")
    wheel = engine_wheel._build(python, tmp_path / "out", VERSION, "c++", "-DGGML_CUDA=on")
    assert wheel == tmp_path / "out" / "engine.whl"
    assert (tmp_path / "seen").read_text().strip() == "-DGGML_CUDA=on"


def test_a_failed_build_shows_the_end_of_its_log(tmp_path: Path, scripts: Any) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'CMake Error: no such flag'\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(scripts("progress").SetupError, match="no such flag"):
        scripts("engine_wheel")._build(python, tmp_path / "out", VERSION, "c++", "")


def test_no_compiler_names_the_package_to_install(tmp_path: Path, scripts: Any) -> None:
    with pytest.raises(scripts("progress").SetupError, match="C\\+\\+ compiler"):
        scripts("engine_wheel")._build(Path(sys.executable), tmp_path / "out", VERSION, None, "")


def test_an_engine_that_crashes_is_replaced_by_the_next_build(
    tmp_path: Path, scripts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    machine, engine_wheel = scripts("machine"), scripts("engine_wheel")
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"amx_tile"}))
    monkeypatch.setattr(machine, "cxx_compiler", lambda: None)
    crashing, working = engine_wheel.flavours(True, False)[:2]
    for flavour, end in (
        (crashing, f"os.kill(os.getpid(), {int(signal.SIGSEGV)})"),
        (working, "os._exit(0)"),
    ):
        fake_engine(engine_wheel._cache_folder(VERSION, None, flavour.cmake_args), end)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"

    assert engine_wheel.install(python, VERSION, "") == working.name
    marked = engine_wheel._cache_folder(VERSION, None, crashing.cmake_args) / "crashed.txt"
    assert marked.read_text().startswith(f"exit status -{int(signal.SIGSEGV)}")
    assert engine_wheel.install(python, VERSION, "") == working.name  # and it is not tried again


def test_the_flavours_begin_with_the_fastest_safe_one(scripts: Any) -> None:
    flavours = scripts("engine_wheel").flavours
    assert [f.name for f in flavours(False, False)] == ["native", "portable"]
    assert [f.name for f in flavours(True, False)] == ["native", "no-amx", "portable"]
    assert [f.name for f in flavours(True, True)] == ["amx-stores-kept", "no-amx", "portable"]


def test_the_amx_fault_is_seen_exactly_where_the_compiler_drops_the_store(
    tmp_path: Path, scripts: Any
) -> None:
    """Reference: the assembly itself. `rows` belongs in byte 48; a faulty GCC never stores it."""
    machine = scripts("machine")
    cxx = machine.cxx_compiler()
    assert cxx, "make test needs a C++ compiler"
    source = tmp_path / "tile.cpp"
    source.write_text(
        "#include <immintrin.h>\nvoid f(unsigned char rows) {\n"
        "  unsigned char config[64] = {1};\n  config[48] = rows;\n  _tile_loadconfig(config);\n}\n"
    )
    done = run(cxx, "-O2", "-mamx-tile", "-S", "-o", "-", str(source))
    if done.returncode != 0:  # not an x86 compiler
        assert not machine.amx_config_is_dropped(cxx)
        return
    assert machine.amx_config_is_dropped(cxx) is not bool(re.search(r"%(dil|edi|rdi)", done.stdout))


def test_the_engine_here_decodes_with_quantised_weights() -> None:
    done = run(sys.executable, str(ROOT / "scripts" / "engine_smoke.py"))
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr[-2000:]


def test_the_engine_here_decodes_a_real_model(small_model_path: Path) -> None:
    code = textwrap.dedent(
        """\
        import sys
        sys.path.insert(0, sys.argv[1])
        from pathlib import Path
        from engine_smoke import decode
        logits = decode(Path(sys.argv[2]))
        assert max(logits) > min(logits)
        """
    )
    done = run(sys.executable, "-c", code, str(ROOT / "scripts"), str(small_model_path))
    assert done.returncode == 0, done.stderr[-2000:]
