"""One completion's way from logits to tokens: bias, penalties, grammar, draw, log-probabilities.

Place in the data's way: the engine makes one `Sampler` a request and gives it each row of logits. A sampler's
state (seed, penalties, grammar) belongs to its request alone, so what else is in the batch changes nothing
about how a row of logits becomes a token.

Example:
    sampler = Sampler(SamplingParams(temperature=0.7, seed=1), runtime)
    sampler.sample(logits).token
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..core.types import SamplingParams, TokenLogprob
from .llama.sampler import CandidateChain, GrammarMatcher

Logits = npt.NDArray[np.float32]

PENALTY_WINDOW_TOKENS = 64
# A draw looks at tokens whose logit is at most this far below the best; wider only where top-k wants more.
_FIRST_WIDTH = 8.0
# Under a grammar the likeliest tokens are tried first: matching a whole vocabulary takes tens of ms.
_FIRST_GRAMMAR_CANDIDATES = 256


class SamplerSource(Protocol):
    """What a sampler needs of the model."""

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        """Return the tokens of a text."""
        ...

    def piece(self, token: int) -> bytes:
        """Return the bytes of a token."""
        ...

    def chain(self, params: SamplingParams) -> CandidateChain:
        """Return the draw of one completion."""
        ...

    def grammar(self, text: str) -> GrammarMatcher:
        """Return a grammar at its beginning."""
        ...


@dataclass(frozen=True, slots=True)
class Sampled:
    """A token, and its log-probability where it was asked for."""

    token: int
    logprob: TokenLogprob | None = None


class Sampler:
    """Chooses the tokens of one completion; close it after use.

    Args:
        params: How to choose.
        source: The model's vocabulary and llama.cpp's samplers.

    Raises:
        ValueError: The grammar is not valid GBNF.
    """

    def __init__(self, params: SamplingParams, source: SamplerSource) -> None:
        self._params = params
        self._source = source
        self._chain = source.chain(params) if params.temperature > 0 else None
        self._grammar: GrammarMatcher | None = None
        try:
            if params.grammar:
                self._grammar = source.grammar(params.grammar)  # an invalid one is refused now, not later
        except ValueError:
            self.close()
            raise
        self._trigger = params.grammar_trigger.encode()
        self._is_waiting = bool(self._trigger)
        self._text = b""  # what the completion says, while the trigger is waited for
        self._recent: deque[int] = deque(maxlen=PENALTY_WINDOW_TOKENS)
        self._has_penalty = (
            params.repeat_penalty != 1 or params.presence_penalty != 0 or params.frequency_penalty != 0
        )
        self._bias_ids = np.array([token for token, _ in params.logit_bias], np.int64)
        self._bias = np.array([bias for _, bias in params.logit_bias], np.float32)

    def sample(self, logits: Logits) -> Sampled:
        """Choose the next token and take it into account for those after it.

        Args:
            logits: `(n_vocab,)`; changed in place by bias and penalties.
        """
        wanted = self._params.num_logprobs
        before = None if wanted is None else logits.copy()
        if len(self._bias_ids):
            logits[self._bias_ids] += self._bias
        if self._has_penalty and self._recent:
            self._penalize(logits)
        token = self._choose(logits)
        if self._has_penalty:
            self._recent.append(token)
        if self._grammar is not None:
            self._follow_grammar(token)
        if before is None:
            return Sampled(token)
        return Sampled(token, self._report(before, token, wanted or 0))

    def close(self) -> None:
        """Free what llama.cpp holds for it."""
        if self._chain is not None:
            self._chain.close()
        if self._grammar is not None:
            self._grammar.close()
            self._grammar = None

    # -- logits

    def _penalize(self, logits: Logits) -> None:
        # Source: llama.cpp, src/llama-sampler.cpp, llama_sampler_penalties_apply; the repeat penalty is of
        # Keskar et al. 2019 (CTRL), section 4.1.
        counts = Counter(self._recent)
        ids = np.fromiter(counts, np.int64, len(counts))
        values = logits[ids]
        factor = np.float32(self._params.repeat_penalty)
        values = np.where(values <= 0, values * factor, values / factor)
        times = np.fromiter(counts.values(), np.float32, len(counts))
        values -= times * np.float32(self._params.frequency_penalty)
        values -= np.float32(self._params.presence_penalty)
        logits[ids] = values

    # -- the choice

    def _choose(self, logits: Logits) -> int:
        token = self._draw(logits)
        if self._grammar is None or self._is_waiting:
            return token
        if self._grammar.allowed(np.array([token], np.int32))[0]:
            return token
        return self._choose_in_grammar(logits)

    def _draw(self, logits: Logits) -> int:
        if self._chain is None:
            return int(np.argmax(logits))
        ids = self._candidates(logits)
        return self._chain.draw(ids, logits[ids])

    def _candidates(self, logits: Logits) -> npt.NDArray[np.int32]:
        """Return the tokens that can be drawn; all where nothing cuts the tail of the distribution."""
        if self._params.top_k <= 0:
            return np.arange(len(logits), dtype=np.int32)
        best = logits.max()
        width = _FIRST_WIDTH
        while True:
            ids = np.flatnonzero(logits >= best - width)
            if len(ids) >= min(self._params.top_k, len(logits)) or width > 1e3:
                return ids.astype(np.int32)
            width *= 2

    def _choose_in_grammar(self, logits: Logits) -> int:
        """Choose among what the grammar allows: first of the likeliest tokens, then of all."""
        assert self._grammar is not None
        num = min(_FIRST_GRAMMAR_CANDIDATES, len(logits))
        likeliest = np.argpartition(logits, -num)[-num:].astype(np.int32)
        for ids in (likeliest, np.arange(len(logits), dtype=np.int32)):
            allowed = ids[self._grammar.allowed(ids)]
            if not len(allowed):
                continue
            if self._chain is None:
                return int(allowed[np.argmax(logits[allowed])])
            return self._chain.draw(allowed, logits[allowed])
        raise ValueError("The grammar allows no token of this model here.")

    # -- the grammar's state

    def _follow_grammar(self, token: int) -> None:
        assert self._grammar is not None
        if not self._is_waiting:
            self._grammar.accept(token)
            return
        self._text += self._source.piece(token)
        begin = self._text.find(self._trigger)
        if begin < 0:
            self._text = self._text[-(len(self._trigger) - 1) :] if len(self._trigger) > 1 else b""
            return
        self._is_waiting = False
        said = self._text[begin:].decode("utf-8", errors="replace")
        for earlier in self._source.tokenize(said, parse_special=True):
            if not self._grammar.allowed(np.array([earlier], np.int32))[0]:
                # A token ran past the trigger into what the grammar forbids: it can't hold any more.
                self._grammar.close()
                self._grammar = None
                return
            self._grammar.accept(earlier)

    # -- log-probabilities

    def _report(self, logits: Logits, token: int, num_top: int) -> TokenLogprob:
        best = float(logits.max())
        log_sum = best + float(np.log(np.exp((logits - best).astype(np.float64)).sum()))
        top: tuple[TokenLogprob, ...] = ()
        if num_top:
            ids = np.argpartition(logits, -num_top)[-num_top:]
            ordered = ids[np.argsort(-logits[ids], kind="stable")]
            top = tuple(self._logprob(int(i), float(logits[i]), log_sum) for i in ordered)
        return TokenLogprob(self._source.piece(token), min(0.0, float(logits[token]) - log_sum), top)

    def _logprob(self, token: int, logit: float, log_sum: float) -> TokenLogprob:
        return TokenLogprob(self._source.piece(token), min(0.0, logit - log_sum))
