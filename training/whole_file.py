"""A file that appears whole or not at all.

Place in the data's way: the writers of runs and exports write into the path it gets from `whole_file`.

Example:
    >>> import pathlib, tempfile
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "a.txt"
    >>> with whole_file(target) as partial:
    ...     _ = partial.write_text("all of it")
    >>> target.read_text(), len(list(target.parent.iterdir()))
    ('all of it', 1)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..core.errors import StorageError


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Give a path beside `target`; move what was written there to `target` if no error came, else delete it.

    Raises:
        StorageError: The disk is full, read-only or broken; `target` is what it was before.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, target)
    except OSError as exc:
        # numpy reports a short write without an error number
        raise StorageError(
            f"{target} can't be written: {exc.strerror or exc}.",
            "Free some space, or write to another disk.",
        ) from exc
    finally:
        partial.unlink(missing_ok=True)
