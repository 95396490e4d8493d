"""llama.cpp's shared library: the only place that imports it; its log and its abort flag.

Place in the data's way: `llama.py` and `llama_sampler.py` call llama.cpp through the module returned here.

Example:
    api = llama_api()
    api.llama_max_parallel_sequences()
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import psutil
import structlog

from ...core.errors import ModelLoadError

log = structlog.get_logger(__name__)

_WARNING, _ERROR = 3, 4  # ggml_log_level
_KEPT_MESSAGES = 20
# llama.cpp keeps the pointer of the last callback for the life of the process.
_kept_callbacks: list[Any] = []


def llama_api() -> Any:
    """Return the module `llama_cpp`, imported when first asked for."""
    # A step makes hundreds of OpenMP barriers. Threads that spin at them for long burn, whenever anything
    # else wants a core, the time slice that the other needs; threads that sleep at once lose some 35
    # microseconds a barrier. So: a short spin, then sleep. See docs/experiments.md.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    import llama_cpp

    return llama_cpp


def ggml_library() -> Any:
    """Return ggml's shared library, for what `llama_cpp` does not bind."""
    llama_api()
    from llama_cpp._ggml import libggml

    return libggml


class LogMessages:
    """The last warnings and errors of llama.cpp, which tell why something failed."""

    def __init__(self, api: Any) -> None:
        """Take over llama.cpp's log."""
        self._messages: list[str] = []

        def keep(level: int, text: bytes, _: Any) -> None:
            line = text.decode("utf-8", errors="replace").strip()
            if level in (_WARNING, _ERROR) and line:
                self._messages.append(line)
                del self._messages[:-_KEPT_MESSAGES]
                log.debug("llama.cpp", text=line)

        callback = api.llama_log_callback(keep)
        _kept_callbacks.append(callback)
        api.llama_log_set(callback, ctypes.c_void_p(0))

    @property
    def last(self) -> str:
        """The last message, or words that say there was none."""
        return self._messages[-1] if self._messages else "llama.cpp gave no reason"


class AbortFlag:
    """Makes a running `llama_decode` return soon; safe from any thread."""

    def __init__(self, api: Any, context: Any) -> None:
        """Install the flag in a context."""
        # llama.cpp asks before every node of the graph whether to abort. A Python callback would take the
        # interpreter lock each time, so strlen answers: 0 (go on) for an empty string, 1 (abort) otherwise.
        self._flag = ctypes.create_string_buffer(2)
        self._callback = ctypes.cast(ctypes.CDLL(None).strlen, api.ggml_abort_callback)
        api.llama_set_abort_callback(context, self._callback, ctypes.cast(self._flag, ctypes.c_void_p))

    def set(self) -> None:
        """Abort."""
        self._flag[0] = b"\x01"

    def clear(self) -> None:
        """Go on."""
        self._flag[0] = b"\x00"


def default_threads() -> int:
    """Return the physical cores this process may use; more threads than these slow llama.cpp down."""
    physical = psutil.cpu_count(logical=False) or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return min(physical, allowed)


def check_magic(path: Path) -> None:
    """Refuse what is not a GGUF before llama.cpp parses it.

    Raises:
        ModelLoadError: The file can't be read, or does not begin like a GGUF.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as exc:
        raise ModelLoadError(f"{path} can't be read: {exc.strerror}.", hint="Pull the model again.") from exc
    if magic != b"GGUF":
        raise ModelLoadError(
            f"{path.name} is not a GGUF file (it starts with {magic!r}).", hint="Pull the model again."
        )
