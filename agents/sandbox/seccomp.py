"""Seccomp filters: which system calls a sandbox's process may make, as BPF for the Linux kernel.

Place in the data's way: `wasm` and `bubblewrap` compile a filter here and hand it to the process they start,
which puts itself under it (`worker.apply_filter`) before the first program runs.

Source: Linux, Documentation/userspace-api/seccomp_filter.rst; constants from linux/seccomp.h, linux/audit.h,
linux/bpf_common.h and linux/sched.h; numbers from asm/unistd_64.h and asm-generic/unistd.h.

Example:
    >>> len(compile_filter({"ptrace": errno.EPERM}, default=ALLOW, machine="x86_64")) % 8
    0
"""

from __future__ import annotations

import errno
import platform
import struct
import sys
from collections.abc import Mapping

ALLOW = 0  # for every other number: the call fails with that errno
NEW_PROCESS = -1  # `clone` only: threads may, processes fail with EPERM

_RET_KILL_PROCESS = 0x80000000
_RET_ERRNO = 0x00050000
_RET_ALLOW = 0x7FFF0000
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_OFFSET_NUMBER, _OFFSET_ARCHITECTURE, _OFFSET_ARGUMENT_0 = 0, 4, 16  # struct seccomp_data
_X32_BIT = 0x40000000
_CLONE_THREAD = 0x00010000
_AUDIT_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_COLUMNS = {"x86_64": 0, "aarch64": 1}

# name: (x86_64, aarch64); None where the architecture has no such call.
_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    # What a program needs to compute and print.
    "access": (21, None),
    "brk": (12, 214),
    "clock_getres": (229, 114),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "close": (3, 57),
    "dup": (32, 23),
    "dup3": (292, 24),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "fcntl": (72, 25),
    "fstat": (5, 80),
    "futex": (202, 98),
    "getcwd": (79, 17),
    "getdents64": (217, 61),
    "getegid": (108, 177),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "getrandom": (318, 278),
    "getrlimit": (97, 163),
    "getrusage": (98, 165),
    "gettid": (186, 178),
    "gettimeofday": (96, 169),
    "getuid": (102, 174),
    "lseek": (8, 62),
    "lstat": (6, None),
    "madvise": (28, 233),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "munmap": (11, 215),
    "nanosleep": (35, 101),
    "newfstatat": (262, 79),
    "open": (2, None),
    "openat": (257, 56),
    "poll": (7, None),
    "ppoll": (271, 73),
    "pread64": (17, 67),
    "prlimit64": (302, 261),
    "pselect6": (270, 72),
    "read": (0, 63),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "readv": (19, 65),
    "restart_syscall": (219, 128),
    "rseq": (334, 293),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_getaffinity": (204, 123),
    "sched_yield": (24, 124),
    "select": (23, None),
    "set_robust_list": (273, 99),
    "set_tid_address": (218, 96),
    "sigaltstack": (131, 132),
    "stat": (4, None),
    "statx": (332, 291),
    "sysinfo": (99, 179),
    "tgkill": (234, 131),
    "times": (100, 153),
    "uname": (63, 160),
    "write": (1, 64),
    "writev": (20, 66),
    # What it has no business with.
    "accept": (43, 202),
    "accept4": (288, 242),
    "add_key": (248, 217),
    "bind": (49, 200),
    "bpf": (321, 280),
    "clone": (56, 220),
    "clone3": (435, 435),
    "connect": (42, 203),
    "execve": (59, 221),
    "execveat": (322, 281),
    "finit_module": (313, 273),
    "fork": (57, None),
    "init_module": (175, 105),
    "io_uring_setup": (425, 425),
    "ioctl": (16, 29),
    "kcmp": (312, 272),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "kill": (62, 129),
    "listen": (50, 201),
    "mount": (165, 40),
    "open_by_handle_at": (304, 265),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "request_key": (249, 218),
    "setns": (308, 268),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "tkill": (200, 130),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vfork": (58, None),
}
_NEEDED = tuple(_NUMBERS)[: tuple(_NUMBERS).index("accept")]
_HARMFUL = tuple(name for name in _NUMBERS if name not in _NEEDED and name != "ioctl")


def is_available() -> bool:
    """Whether filters can be compiled for this machine."""
    return sys.platform == "linux" and platform.machine() in _COLUMNS


def worker_filter() -> bytes:
    """Return the filter of the WebAssembly worker: all but processes, sockets and other processes' memory.

    Empty where the system has no seccomp; WebAssembly holds by itself, this is the second wall.
    """
    if not is_available():
        return b""
    rules = dict.fromkeys(_HARMFUL, errno.EPERM)
    # ENOSYS lets the C library fall back from clone3, whose flags no filter can see, to clone.
    return compile_filter(rules | {"clone": NEW_PROCESS, "clone3": errno.ENOSYS}, default=ALLOW)


def program_filter() -> bytes:
    """Return the filter of a program on the system's Python: computing, reading and printing only."""
    rules = dict.fromkeys(_NEEDED, ALLOW) | dict.fromkeys(_HARMFUL, errno.EPERM)
    return compile_filter(rules | {"clone3": errno.ENOSYS, "ioctl": errno.ENOTTY}, default=errno.ENOSYS)


def compile_filter(rules: Mapping[str, int], *, default: int, machine: str = "") -> bytes:
    """Compile rules to BPF instructions.

    Args:
        rules: A system call's name and ALLOW, NEW_PROCESS or the errno that it fails with.
        default: The same for all others.
        machine: "x86_64" or "aarch64"; "" for this one.

    Returns:
        An array of struct sock_filter, 8 bytes each.

    Raises:
        ValueError: The machine or a call is unknown.
    """
    machine = machine or platform.machine()
    if machine not in _COLUMNS or not set(rules) <= set(_NUMBERS):
        raise ValueError(f"no numbers for {sorted(set(rules) - set(_NUMBERS)) or machine}")
    steps = [
        _step(_LOAD, _OFFSET_ARCHITECTURE),
        _step(_JUMP_EQUAL, _AUDIT_ARCHITECTURES[machine], if_true=1),
        _step(_RETURN, _RET_KILL_PROCESS),  # a call by another architecture's numbers
        _step(_LOAD, _OFFSET_NUMBER),
    ]
    if machine == "x86_64":
        steps += [_step(_JUMP_AT_LEAST, _X32_BIT, if_false=1), _step(_RETURN, _RET_ERRNO | errno.ENOSYS)]
    for name, action in rules.items():
        number = _NUMBERS[name][_COLUMNS[machine]]
        if number is not None:
            steps += _rule(number, action)
    return b"".join([*steps, _step(_RETURN, _verdict(default))])


def _rule(number: int, action: int) -> list[bytes]:
    if action != NEW_PROCESS:
        return [_step(_JUMP_EQUAL, number, if_false=1), _step(_RETURN, _verdict(action))]
    return [
        _step(_JUMP_EQUAL, number, if_false=4),
        _step(_LOAD, _OFFSET_ARGUMENT_0),  # the flags' lower half
        _step(_JUMP_ANY_BIT, _CLONE_THREAD, if_false=1),
        _step(_RETURN, _RET_ALLOW),
        _step(_RETURN, _RET_ERRNO | errno.EPERM),
    ]


def _verdict(action: int) -> int:
    return _RET_ALLOW if action == ALLOW else _RET_ERRNO | action


def _step(code: int, value: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)
