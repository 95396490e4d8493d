"""A file that appears whole or not at all.

Place in the data's way: what is kept in a file of its own (runs, exports, models, results) is written into
the path that `whole_file` gives, so that a crash or a full disk leaves what was there before.

Example:
    >>> import pathlib, tempfile
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "a.txt"
    >>> with whole_file(target) as partial:
    ...     _ = partial.write_text("all of it")
    >>> target.read_text(), len(list(target.parent.iterdir()))
    ('all of it', 1)
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import StorageError


@contextlib.contextmanager
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
        raise unwritable(target, exc.strerror or str(exc)) from exc
    finally:
        with contextlib.suppress(OSError):  # else it would take the place of the error that tells the cause
            partial.unlink(missing_ok=True)


def unwritable(target: Path, reason: str) -> StorageError:
    """Return the error that says why a file could not be written, and what to do."""
    return StorageError(
        f"{target} can't be written: {reason}.", "Free some space, or write to a folder on another disk."
    )


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, wholly or not at all.

    Raises:
        StorageError: It can't be written; what was there before still is.
        ValueError: A number in it is infinite or none.
    """
    with whole_file(path) as partial:
        partial.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
