"""Passage blocks in llama.cpp's KV cache: computed once, kept, set down at another position.

Place in the data's way: a `CutPrompt` -> its KV cells, computed in one of several ways -> `write` continues
all of them greedily in one batch. Only the low-level calls that the engine does not make are here.

A cell that two sequences hold has one position, so a block can't be shifted for one request alone: it is kept
in the process's memory and every request gets its own copy, whose keys llama.cpp turns (RoPE) by the
difference of positions before the next decode. The values carry no position.

Example:
    bench = BlockBench(runtime)
    reading = bench.read_with_blocks(prompt, num_head=16)
    texts = bench.write([reading])
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from localsmith.agents.rag import REPEAT_PENALTY
from localsmith.core.errors import GenerationError
from localsmith.core.types import SamplingParams
from localsmith.models.llama.runtime import LlamaRuntime
from localsmith.models.sampling import Sampler

from .kshift_prompts import CutPrompt

PREFIX, SCRATCH, FIRST = 0, 1, 2
"""Sequences: the system prompt; where blocks are made and turned; the first that answers."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A prompt that was read.

    Attributes:
        cells: Its KV cells, out of llama.cpp.
        num_tokens: Position of the first token to be written.
        logits: `(n_vocab,)` float32, of the first token to be written.
        num_computed: Prompt tokens that ran through the model.
        seconds: Wall time, copying and turning included.
        cpu_seconds: Processor time of all threads.
    """

    cells: ctypes.Array[ctypes.c_uint8]
    num_tokens: int
    logits: npt.NDArray[np.float32]
    num_computed: int
    seconds: float
    cpu_seconds: float


class BlockBench:
    """Reads prompts with and without kept blocks.

    Args:
        runtime: The model, used by nobody else; at least `FIRST` sequences and one for each answer.

    Raises:
        ValueError: This model's positions can't be shifted.
    """

    def __init__(self, runtime: LlamaRuntime) -> None:
        self._runtime = runtime
        self._api, self._context, self._memory = runtime._api, runtime._context, runtime._memory
        if not runtime.can_share or not self._api.llama_memory_can_shift(self._memory):
            raise ValueError("This model's KV cache can't be shifted.")
        self._prefix: tuple[int, ...] = ()
        self._blocks: dict[str, ctypes.Array[ctypes.c_uint8]] = {}

    @property
    def block_bytes(self) -> list[int]:
        """Size of every kept block."""
        return [len(block) for block in self._blocks.values()]

    def read_ordinarily(self, prompt: CutPrompt) -> Reading:
        """Compute all behind the system prompt, as the engine does for passages in a new order."""
        self._begin(prompt)
        begun = _now()
        rest = prompt.tokens[len(prompt.prefix) :]
        logits = self._compute(FIRST, rest, len(prompt.prefix))
        return self._end(prompt, logits, len(rest), begun)

    def read_with_blocks(self, prompt: CutPrompt, num_head: int = 0) -> Reading:
        """Set kept blocks down where the prompt wants them and compute the rest.

        Args:
            prompt: The prompt; blocks not kept yet are made first, outside the time.
            num_head: Tokens at the beginning of each block that are computed anew, as seen from where it
                stands. Source: EPIC (Hu et al., 2024, arXiv 2410.15332), algorithm LegoLink.
        """
        self._begin(prompt)
        for block, name in zip(prompt.blocks, prompt.block_ids, strict=True):
            if name not in self._blocks:
                self._make_block(name, (*prompt.prefix, *prompt.markers[0]), block)
        made_at = len(prompt.prefix) + len(prompt.markers[0])
        begun = _now()
        position, num_computed = len(prompt.prefix), 0
        for marker, block, name in zip(prompt.markers, prompt.blocks, prompt.block_ids, strict=True):
            fresh = (*marker, *block[:num_head])
            self._compute(FIRST, fresh, position)
            self._set_down(name, num_head, shift=position + len(marker) - made_at)
            position += len(marker) + len(block)
            num_computed += len(fresh)
        logits = self._compute(FIRST, prompt.tail, position)
        return self._end(prompt, logits, num_computed + len(prompt.tail), begun)

    def turned(self, reading: Reading, prompt: CutPrompt, shift: int) -> Reading:
        """Move a whole reading by `shift` positions: the turning of keys alone, nothing left out.

        Only differences of positions count in RoPE, so the answer should stay as it was.
        """
        self._begin(prompt)
        begun = _now()
        self._load(reading.cells, FIRST)
        self._runtime.forget(FIRST, reading.num_tokens - 1)
        self._api.llama_memory_seq_add(self._memory, FIRST, 0, -1, shift)
        position = reading.num_tokens - 1 + shift
        logits = self._compute(FIRST, prompt.tokens[-1:], position)
        return self._end(prompt, logits, 1, begun, shift)

    def write(self, readings: Sequence[Reading], max_tokens: int) -> list[str]:
        """Continue greedily, with the RAG strategy's repeat penalty; in one batch where the cells suffice.

        Args:
            readings: What was read.
            max_tokens: Longest answer.
        """
        runtime = self._runtime
        num_cells = len(self._prefix) + sum(reading.num_tokens + max_tokens for reading in readings)
        if len(readings) > 1 and num_cells > runtime.num_cells:
            return [text for reading in readings for text in self.write([reading], max_tokens)]
        params = SamplingParams(max_tokens=max_tokens, temperature=0, repeat_penalty=REPEAT_PENALTY)
        samplers = [Sampler(params, runtime) for _ in readings]
        for i, reading in enumerate(readings):
            self._load(reading.cells, FIRST + i)
        written: list[list[int]] = [[] for _ in readings]
        rows: dict[int, npt.NDArray[np.float32]] = {i: r.logits.copy() for i, r in enumerate(readings)}
        while rows:
            runtime.batch.clear()
            places: dict[int, int] = {}
            for i, logits in rows.items():
                token = samplers[i].sample(logits).token
                if runtime.is_end(token):
                    continue
                written[i].append(token)
                if len(written[i]) < max_tokens:
                    start = readings[i].num_tokens + len(written[i]) - 1
                    places[i] = runtime.batch.add(FIRST + i, [token], start, 1)
            if places:
                self._decode()
            rows = {i: runtime.logits(row).copy() for i, row in places.items()}
        for i, sampler in enumerate(samplers):
            sampler.close()
            runtime.forget(FIRST + i, 0)
        return [b"".join(map(runtime.piece, tokens)).decode(errors="replace") for tokens in written]

    # -- cells

    def _begin(self, prompt: CutPrompt) -> None:
        """Empty the cache but for the system prompt, which every request shares."""
        if prompt.prefix != self._prefix:
            self._runtime.forget(PREFIX, 0)
            self._compute(PREFIX, prompt.prefix, 0)
            self._prefix = prompt.prefix
            self._blocks.clear()
        self._runtime.share(PREFIX, FIRST, 0, len(prompt.prefix))

    def _end(
        self,
        prompt: CutPrompt,
        logits: npt.NDArray[np.float32],
        num_computed: int,
        begun: tuple[float, float],
        shift: int = 0,
    ) -> Reading:
        wall, cpu = _now()
        cells = self._save(FIRST)
        self._runtime.forget(FIRST, 0)
        num_tokens = len(prompt.tokens) + shift
        return Reading(cells, num_tokens, logits, num_computed, wall - begun[0], cpu - begun[1])

    def _make_block(self, name: str, before: tuple[int, ...], block: tuple[int, ...]) -> None:
        """Compute a block as the first passage behind the system prompt and keep its cells."""
        num_shared = len(self._prefix)
        self._runtime.share(PREFIX, SCRATCH, 0, num_shared)
        self._compute(SCRATCH, (*before[num_shared:], *block), num_shared)
        self._runtime.forget(SCRATCH, 0, len(before))
        self._blocks[name] = self._save(SCRATCH)
        self._runtime.forget(SCRATCH, 0)

    def _set_down(self, name: str, num_head: int, shift: int) -> None:
        """Copy a block's cells behind its head into the request's sequence, `shift` positions further."""
        self._load(self._blocks[name], SCRATCH)
        start = int(self._api.llama_memory_seq_pos_min(self._memory, SCRATCH))
        self._runtime.forget(SCRATCH, start, start + num_head)
        if shift:
            self._api.llama_memory_seq_add(self._memory, SCRATCH, 0, -1, shift)
        self._runtime.share(SCRATCH, FIRST, 0, -1)
        self._runtime.forget(SCRATCH, 0)

    def _save(self, seq_id: int) -> ctypes.Array[ctypes.c_uint8]:
        size = int(self._api.llama_state_seq_get_size(self._context, seq_id))
        cells = (ctypes.c_uint8 * size)()
        if self._api.llama_state_seq_get_data(self._context, cells, size, seq_id) != size:
            raise GenerationError("llama.cpp did not hand out the sequence.")
        return cells

    def _load(self, cells: ctypes.Array[ctypes.c_uint8], seq_id: int) -> None:
        if not self._api.llama_state_seq_set_data(self._context, cells, len(cells), seq_id):
            raise GenerationError("The KV cache has no room for the sequence.", hint="Use more cells.")

    # -- the model

    def _compute(self, seq_id: int, tokens: Sequence[int], start: int) -> npt.NDArray[np.float32]:
        """Run tokens through the model and return the logits behind the last."""
        batch, size = self._runtime.batch, self._runtime.n_batch
        row = 0
        for begin in range(0, len(tokens), size):
            piece = tokens[begin : begin + size]
            batch.clear()
            row = batch.add(seq_id, piece, start + begin, int(begin + size >= len(tokens)))
            self._decode()
        return self._runtime.logits(row).copy()

    def _decode(self) -> None:
        if code := self._runtime.decode():
            raise GenerationError(f"llama_decode returned {code}.")


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()
