"""The rows of one `llama_decode`, written through numpy.

Place in the data's way: the engine adds what each running request wants computed in this step; `LlamaRuntime`
hands the whole to llama.cpp.

Example:
    batch.clear()
    row = batch.add(seq_id=0, tokens=[1, 2, 3], start=0, num_logits=1)   # row 2 will carry logits
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np


class LlamaBatch:
    """Tokens, positions, sequences and which rows want logits.

    Args:
        api: The module `llama_cpp`.
        capacity: Most rows.
    """

    def __init__(self, api: Any, capacity: int) -> None:
        self.capacity = capacity
        self.num_rows = 0
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._num_seq_ids = np.ones(capacity, np.int32)
        self._seq_ids = np.zeros(capacity, np.int32)
        self._wants_logits = np.zeros(capacity, np.int8)
        int32 = ctypes.POINTER(ctypes.c_int32)
        base = self._seq_ids.ctypes.data
        step = self._seq_ids.itemsize
        self._seq_id_pointers = (int32 * capacity)(
            *(ctypes.cast(base + i * step, int32) for i in range(capacity))
        )
        self._raw = api.llama_batch()
        self._raw.token = self._tokens.ctypes.data_as(int32)
        self._raw.pos = self._positions.ctypes.data_as(int32)
        self._raw.n_seq_id = self._num_seq_ids.ctypes.data_as(int32)
        self._raw.seq_id = self._seq_id_pointers
        self._raw.logits = self._wants_logits.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))

    @property
    def raw(self) -> Any:
        """The C struct, for `llama_decode`."""
        self._raw.n_tokens = self.num_rows
        return self._raw

    def clear(self) -> None:
        """Begin a new step."""
        self.num_rows = 0

    def add(self, seq_id: int, tokens: Sequence[int], start: int, num_logits: int) -> int:
        """Add tokens of one sequence.

        Args:
            seq_id: The sequence.
            tokens: The tokens, at most as many as there are rows left.
            start: Position of the first.
            num_logits: How many of the last rows want logits.

        Returns:
            The first row with logits; one past the last row where none has.
        """
        begin, end = self.num_rows, self.num_rows + len(tokens)
        if end > self.capacity:
            raise ValueError(f"{end} rows in a batch of {self.capacity}.")
        self._tokens[begin:end] = tokens
        self._positions[begin:end] = np.arange(start, start + len(tokens))
        self._seq_ids[begin:end] = seq_id
        self._wants_logits[begin:end] = 0
        self._wants_logits[end - num_logits : end] = 1
        self.num_rows = end
        return end - num_logits
