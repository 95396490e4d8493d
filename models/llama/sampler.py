"""llama.cpp's samplers over a few candidate tokens: the grammar, and the chain that draws one.

Place in the data's way: `sampling.Sampler` picks the candidates from the logits and asks here.

Example:
    chain = CandidateChain(api, SamplingParams(temperature=0.8, seed=1))
    chain.draw(ids, logits)
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from ...core.types import SamplingParams

Ids = npt.NDArray[np.int32]
Logits = npt.NDArray[np.float32]

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class CandidateChain:
    """Top-k, top-p, min-p, temperature and the seeded draw, as llama.cpp does them."""

    def __init__(self, api: Any, params: SamplingParams) -> None:
        """Build the chain for one completion.

        Args:
            api: The module `llama_cpp`.
            params: Sampling parameters with a temperature above 0.
        """
        self._api = api
        self._chain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
        if params.top_k > 0:
            self._add(api.llama_sampler_init_top_k(params.top_k))
        if params.top_p < 1:
            self._add(api.llama_sampler_init_top_p(params.top_p, 1))
        if params.min_p > 0:
            self._add(api.llama_sampler_init_min_p(params.min_p, 1))
        self._add(api.llama_sampler_init_temp(params.temperature))
        # llama.cpp takes its largest seed, LLAMA_DEFAULT_SEED, to ask for one that nobody knows.
        self._add(api.llama_sampler_init_dist(params.seed % api.LLAMA_DEFAULT_SEED))

    def draw(self, ids: Ids, logits: Logits) -> int:
        """Return one of the candidates.

        Args:
            ids: `(n,)` tokens.
            logits: `(n,)` their logits.
        """
        data, array = _candidates(self._api, ids, logits)
        self._api.llama_sampler_apply(self._chain, ctypes.byref(array))
        return int(data["id"][array.selected])

    def close(self) -> None:
        """Free the chain."""
        if self._chain:
            self._api.llama_sampler_free(self._chain)
            self._chain = None

    def _add(self, sampler: Any) -> None:
        self._api.llama_sampler_chain_add(self._chain, sampler)


class GrammarMatcher:
    """Where a completion stands in a GBNF grammar.

    Args:
        api: The module `llama_cpp`.
        vocab: The model's vocabulary.
        grammar: GBNF with a rule `root`.
        never: `(n_vocab,)` tokens that no grammar allows: control tokens, which stand for no text and which
            llama.cpp would let pass wherever any character may stand.

    Raises:
        ValueError: The grammar is not valid.
    """

    def __init__(self, api: Any, vocab: Any, grammar: str, never: npt.NDArray[np.bool_]) -> None:
        self._api = api
        self._never = never
        self._sampler = api.llama_sampler_init_grammar(vocab, grammar.encode(), b"root")
        if not self._sampler:
            raise ValueError(f"The grammar is not valid GBNF: {grammar[:200]!r}")

    def allowed(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """Return `(n,)` whether each token may come next."""
        data, array = _candidates(self._api, ids, np.zeros(len(ids), np.float32))
        self._api.llama_sampler_apply(self._sampler, ctypes.byref(array))
        result: npt.NDArray[np.bool_] = np.isfinite(data["logit"]) & ~self._never[ids]
        return result

    def accept(self, token: int) -> None:
        """Go on behind a token; it must be an allowed one, for llama.cpp ends the process otherwise."""
        self._api.llama_sampler_accept(self._sampler, token)

    def close(self) -> None:
        """Free the grammar."""
        if self._sampler:
            self._api.llama_sampler_free(self._sampler)
            self._sampler = None


def _candidates(api: Any, ids: Ids, logits: Logits) -> tuple[npt.NDArray[Any], Any]:
    data = np.empty(len(ids), _CANDIDATE)
    data["id"] = ids
    data["logit"] = logits
    data["p"] = 0
    array = api.llama_token_data_array(
        data=data.ctypes.data_as(api.llama_token_data_p), size=len(ids), selected=-1, sorted=False
    )
    return data, array
