"""A thread that runs llama.cpp and nothing else, for programs in which PyTorch computes, too.

Place in the data's way: the engine has such a thread of its own; whoever decodes outside of it, in a process
that also trains, does it here.

On processors with AMX both keep a configuration of tile registers in the thread. llama.cpp sets its own once
a thread, PyTorch's bfloat16 kernels release it when they are done, and llama.cpp's next decode on that thread
ends the process by an illegal instruction (ggml/src/ggml-cpu/amx/mmq.cpp, `ggml_tile_config_init`).

Example:
    thread = OwnThread()
    code = thread.run(runtime.decode)
    thread.close()
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class OwnThread:
    """One thread; what it is given to run takes turns."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="llama")

    def run(self, call: Callable[[], T]) -> T:
        """Run a call there, wait for it, and return what it returns or raise what it raises."""
        return self._pool.submit(call).result()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown()
