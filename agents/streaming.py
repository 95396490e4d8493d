"""A blocking generator as an asynchronous one, so that a strategy is written once.

Place in the data's way: `RagStrategy.events` -> here -> `RagStrategy.aevents`. Each run has a thread of its
own, so that many waiting runs do not use up the event loop's pool.

Example:
    async for event in iterate_in_thread(lambda: strategy.events(question)):
        ...
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from typing import TypeVar

T = TypeVar("T")


async def iterate_in_thread(make: Callable[[], Generator[T, None, None]]) -> AsyncGenerator[T, None]:
    """Run a generator in a thread and yield what it yields.

    Args:
        make: Called in the thread; what it returns is closed there when the asynchronous iteration is left
            early.

    Yields:
        The generator's items; its exception is raised here.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[T | None, BaseException | None, bool]] = asyncio.Queue()
    is_left = threading.Event()

    def put(item: T | None, error: BaseException | None, is_end: bool) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody listens any more
            loop.call_soon_threadsafe(queue.put_nowait, (item, error, is_end))

    def pump() -> None:
        try:
            with contextlib.closing(make()) as items:
                for item in items:
                    if is_left.is_set():
                        return
                    put(item, None, False)
            put(None, None, True)
        except BaseException as exc:  # noqa: BLE001 - it is raised again on the other side
            put(None, exc, True)

    threading.Thread(target=pump, name="strategy", daemon=True).start()
    try:
        while True:
            item, error, is_end = await queue.get()
            if error is not None:
                raise error
            if is_end:
                return
            yield item  # type: ignore[misc]  # an item that is not the end is a T
    finally:
        is_left.set()
