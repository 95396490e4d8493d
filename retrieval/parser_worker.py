"""The process that reads files, so that a file can only kill this process.

Place in the data's way: started by `parser_process` as `python -m localsmith.retrieval.parser_worker`;
takes one JSON request a line on standard input and answers each with one frame (`parser_wire`) on standard
output. Before the first file it gives up what it doesn't need: memory beyond the limit, writing to files,
core dumps.

Example:
    >>> handle({"op": "load", "path": "/nowhere", "name": "x.txt"})[0] == FAILURE
    True
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import IO, Any

from ..core.errors import LoadError
from ..core.types import Box
from .parser_wire import DOCUMENT, FAILURE, HEADER, PICTURE, READY, encode_document, encode_failure

MAX_OPEN_FILES = 64
CPU_FACTOR = 2
CPU_MARGIN_S = 5
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Answer requests until standard input ends."""
    memory_bytes, timeout_s, parent = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    _die_with_parent(parent)
    # Whatever a library prints must not get between the frames.
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    _limit(memory_bytes)
    _send(answers, READY, b"")
    for request in sys.stdin.buffer:
        _limit_cpu(timeout_s)
        try:
            kind, payload = handle(json.loads(request))
        except MemoryError:
            error = LoadError("The file needs more memory than is allowed.", "memory")
            kind, payload = FAILURE, encode_failure(error)
        _send(answers, kind, payload)


def handle(request: dict[str, Any]) -> tuple[bytes, bytes]:
    """Do what is asked.

    Args:
        request: `op` "load" or "render" and the arguments of `load_document` or `render_page`.

    Returns:
        The kind of the answer's frame and its payload.
    """
    path = Path(request["path"])
    try:
        if request["op"] == "render":
            from .page_image import render_page

            boxes = [Box(*box) for box in request["boxes"]]
            return PICTURE, render_page(path, request["page"], boxes, request["width_px"])
        from .loaders import load_document

        limits = {key: request[key] for key in ("max_file_bytes", "max_text_chars") if key in request}
        return DOCUMENT, encode_document(load_document(path, request["name"], **limits))
    except LoadError as exc:
        return FAILURE, encode_failure(exc)
    except RecursionError:
        return FAILURE, encode_failure(LoadError("The file is nested too deeply.", "corrupt"))


def _send(answers: IO[bytes], kind: bytes, payload: bytes) -> None:
    answers.write(HEADER.pack(kind, len(payload)))
    answers.write(payload)
    answers.flush()


def _die_with_parent(parent: int) -> None:
    if sys.platform != "linux":
        return  # elsewhere the end of standard input and the limit on CPU time do it
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def _limit(memory_bytes: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_OPEN_FILES, MAX_OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # a parser has nothing to write
    if sys.platform == "linux":
        # Address space counts, not memory in use: libraries and threads' stacks are mapped beside the data.
        address_space = memory_bytes + 1_000_000_000
        resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))


def _limit_cpu(timeout_s: float) -> None:
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    allowed = int(usage.ru_utime + usage.ru_stime + CPU_FACTOR * timeout_s + CPU_MARGIN_S)
    resource.setrlimit(resource.RLIMIT_CPU, (allowed, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    main()
