"""Prompt prefixes kept on disk, so that the first question after a restart need not read them again.

Place in the data's way: when the engine closes, the prefixes that prompts found most often are written out;
when a prompt comes that begins with one, its KV cells are read back instead of computed. A folder belongs to
one model file, one KV type and one version of llama.cpp: anything else never sees it.

Example:
    saved = SavedPrefixes(home / "prefixes", key="cc324af0-f16-0.3.36", max_bytes=2**28)
    saved.write(cache, runtime)           # at the end
    saved.restore(prompt, cache, runtime) # before a prompt is read
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from .prefix_cache import PrefixCache
from .radix_tree import shared_prefix

log = structlog.get_logger(__name__)

# Reading back fewer tokens than these saves too little to be worth a file.
MIN_SAVED_TOKENS = 64
_INDEX = "index.json"


class SequenceFiles(Protocol):
    """The runtime's part in it."""

    def save_sequence(self, path: Path, seq_id: int, tokens: Sequence[int]) -> int:
        """Write a sequence's KV cells and return the bytes written; 0 where that failed."""
        ...

    def load_sequence(self, path: Path, seq_id: int, max_tokens: int) -> list[int]:
        """Read them into an empty sequence; returns its tokens, [] on failure."""
        ...


@dataclass(frozen=True, slots=True)
class SavedPrefix:
    """A prefix on disk."""

    tokens: list[int]
    file: str
    sha256: str


class SavedPrefixes:
    """The prefixes of one model on disk.

    Args:
        folder: Where the folders of all models are.
        key: What the KV cells depend on; made into the name of this model's folder.
        max_bytes: Most bytes on disk for this model.
    """

    def __init__(self, folder: Path, key: str, max_bytes: int) -> None:
        self._folder = folder / hashlib.sha256(key.encode()).hexdigest()[:24]
        self._max_bytes = max_bytes
        self._prefixes = self._read_index()

    def restore(self, prompt: Sequence[int], cache: PrefixCache, files: SequenceFiles) -> int:
        """Read back the longest saved prefix of a prompt where that gains enough over what is cached.

        Returns:
            The tokens read back; 0 where there was nothing to gain.
        """
        lengths = [shared_prefix(saved.tokens, prompt) for saved in self._prefixes]
        best = max(range(len(lengths)), key=lengths.__getitem__, default=None)
        if best is None or lengths[best] < cache.longest_prefix(prompt) + MIN_SAVED_TOKENS:
            return 0
        saved = self._prefixes.pop(best)  # tried once: from now on it is in memory, or no good
        path = self._folder / saved.file
        if not cache.make_room(len(saved.tokens)) or _sha256(path) != saved.sha256:
            return 0
        lease = cache.begin(saved.tokens[:1])
        if lease is None:
            return 0
        is_whole = files.load_sequence(path, lease.seq_id, len(saved.tokens)) == saved.tokens
        if is_whole:
            cache.extend(lease.seq_id, saved.tokens)
        cache.end(lease.seq_id, is_kept=is_whole)
        log.info("a saved prefix was read back", tokens=len(saved.tokens), is_whole=is_whole)
        return len(saved.tokens) if is_whole else 0

    def write(self, cache: PrefixCache, files: SequenceFiles) -> None:
        """Write what prompts found most often, up to the limit; a failure leaves nothing half written."""
        chosen = _without_prefixes_of_others(cache.hottest(MIN_SAVED_TOKENS))
        if not chosen:
            return
        fresh = self._folder.with_name(f"{self._folder.name}.{uuid.uuid4().hex[:8]}.partial")
        try:
            fresh.mkdir(parents=True, mode=0o700)
            self._write_files(fresh, chosen, cache, files)
            if self._folder.exists():
                shutil.rmtree(self._folder)
            fresh.rename(self._folder)
        except OSError as exc:
            log.warning("prefixes could not be saved", reason=str(exc))
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _write_files(
        self, folder: Path, chosen: list[list[int]], cache: PrefixCache, files: SequenceFiles
    ) -> None:
        index: list[dict[str, object]] = []
        total_bytes = 0
        for i, tokens in enumerate(chosen):
            lease = cache.begin([*tokens, tokens[-1]])  # a sequence that holds these tokens and no more
            if lease is None or lease.num_cached != len(tokens):
                continue
            path = folder / f"{i}.kv"
            num_bytes = files.save_sequence(path, lease.seq_id, tokens)
            cache.end(lease.seq_id)
            if not num_bytes or total_bytes + num_bytes > self._max_bytes:
                path.unlink(missing_ok=True)
                continue
            total_bytes += num_bytes
            index.append({"tokens": tokens, "file": path.name, "sha256": _sha256(path)})
        (folder / _INDEX).write_text(json.dumps(index))

    def _read_index(self) -> list[SavedPrefix]:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            rows = json.loads((self._folder / _INDEX).read_text())
            return [
                SavedPrefix([int(token) for token in row["tokens"]], Path(row["file"]).name, row["sha256"])
                for row in rows
            ]
        return []


def _without_prefixes_of_others(found: list[list[int]]) -> list[list[int]]:
    """Keep the order; of two where one begins the other, keep the longer in the earlier's place."""
    chosen: list[list[int]] = []
    for tokens in found:
        for i, other in enumerate(chosen):
            common = shared_prefix(tokens, other)
            if common == len(tokens):
                break
            if common == len(other):
                chosen[i] = tokens
                break
        else:
            chosen.append(tokens)
    return chosen


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
