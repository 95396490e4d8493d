"""The filters: numbers are the kernel's own, and a filtered process can't do what it must not."""

from __future__ import annotations

import errno
import os
import platform
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from localsmith.agents.sandbox import seccomp, worker

HEADERS = (
    Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    Path("/usr/include/asm-generic/unistd.h"),
)
linux = pytest.mark.skipif(not seccomp.is_available(), reason="filters are for Linux, x86-64 and ARM64")


@pytest.mark.skipif(not all(path.exists() for path in HEADERS), reason="the kernel's headers are not here")
def test_the_numbers_are_those_of_the_kernel_s_headers() -> None:
    for column, path in enumerate(HEADERS):
        found = {
            name: int(number)
            for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\b", path.read_text())
        }
        found["newfstatat"] = found.get("newfstatat", found.get("fstatat", 0))
        for name, numbers in seccomp._NUMBERS.items():
            assert numbers[column] == found.get(name), name


def run_filtered(rules: bytes, code: str) -> str:
    """Run code under a filter in a process of its own."""
    program = f"from localsmith.agents.sandbox.worker import apply_filter\napply_filter({rules!r})\n{code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr[-300:]


@linux
@pytest.mark.parametrize(
    "code",
    [
        "import os; os.fork()",
        "import os; os.execv('/bin/true', ['true'])",
        "import socket; socket.socket()",
        "import os; os.kill(1, 0)",
        "import os, signal; signal.pidfd_send_signal(os.pidfd_open(1), 0)",
    ],
)
def test_a_worker_starts_no_process_and_opens_no_socket(code: str) -> None:
    assert "PermissionError" in run_filtered(seccomp.worker_filter(), code)


@linux
def test_a_worker_may_start_threads() -> None:
    code = "import threading; t = threading.Thread(target=print, args=('here',)); t.start(); t.join()"
    assert run_filtered(seccomp.worker_filter(), code) == "here\n"


@linux
def test_a_new_thread_is_under_the_filter_too() -> None:
    code = (
        "import os, threading\ndef attack():\n    try:\n        os.fork()\n    except PermissionError:\n"
        "        print('denied')\nt = threading.Thread(target=attack); t.start(); t.join()"
    )
    assert run_filtered(seccomp.worker_filter(), code) == "denied\n"


@linux
@pytest.mark.skipif(platform.machine() != "x86_64", reason="x32 is a second set of numbers on x86-64")
def test_the_second_set_of_numbers_is_closed() -> None:
    code = (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "print(libc.syscall(0x40000000 | 57), ctypes.get_errno())"
    )
    assert run_filtered(seccomp.worker_filter(), code) == f"-1 {errno.ENOSYS}\n"


def test_a_filter_for_an_unknown_machine_or_call_is_refused() -> None:
    with pytest.raises(ValueError, match="sparc"):
        seccomp.compile_filter({}, default=seccomp.ALLOW, machine="sparc")
    with pytest.raises(ValueError, match="teleport"):
        seccomp.compile_filter({"teleport": 1}, default=seccomp.ALLOW, machine="x86_64")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_jump_stays_inside_the_filter(machine: str) -> None:
    rules = dict.fromkeys(seccomp._NUMBERS, errno.EPERM) | {"clone": seccomp.NEW_PROCESS}
    steps = list(struct.iter_unpack("<HBBI", seccomp.compile_filter(rules, default=0, machine=machine)))
    assert steps[-1][0] == 0x06
    for place, (_, if_true, if_false, _) in enumerate(steps):
        assert place + 1 + max(if_true, if_false) < len(steps) or (if_true, if_false) == (0, 0)


def test_no_filter_is_applied_where_there_is_none() -> None:
    before = os.getpid()
    worker.apply_filter(b"")
    assert os.getpid() == before
