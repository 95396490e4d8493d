"""Guesses at the next tokens by looking where the last few stood before.

Place in the data's way: an answer over documents copies names and sentences from its prompt; the scheduler
lets the model check several guessed tokens in one step. What is sampled stays the same: a guess only counts
where the sampler picks that very token.

Source: prompt lookup decoding, Saxena 2023 (github.com/apoorvumang/prompt-lookup-decoding); checking drafts
by the model, Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding".

Example:
    lookup = PromptLookup(max_drafts=8)
    lookup.propose(request, room=8)
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

from .request import Request

NGRAM = 3
_OLD_SHARE = 0.8  # of the moving average of agreed drafts
_MIN_ACCEPTED = 0.35


class PromptLookup:
    """Finds drafts in a request's own tokens.

    Args:
        max_drafts: Most drafts a step; 0 for none at all.
    """

    def __init__(self, max_drafts: int) -> None:
        self._max_drafts = max_drafts
        self._states: WeakKeyDictionary[Request, _State] = WeakKeyDictionary()

    def propose(self, request: Request, room: int) -> list[int]:
        """Return the tokens that followed the last time the request's last tokens stood together.

        Args:
            request: A request that is writing.
            room: Most drafts now.
        """
        most = min(self._max_drafts, room)
        if most <= 0:
            return []
        state = self._states.setdefault(request, _State())
        begin = state.find(request.tokens)
        if begin is None or not state.is_worth_it():
            return []
        return request.tokens[begin : begin + most]

    def learn(self, request: Request, num_drafts: int, num_accepted: int) -> None:
        """Note how many drafts the model agreed with."""
        if num_drafts and (state := self._states.get(request)) is not None:
            state.learn(num_accepted / num_drafts)

    def forget(self, request: Request) -> None:
        """Drop what is known of a request."""
        self._states.pop(request, None)


class _State:
    """Where each n-gram of a request stood last, and how well guessing went."""

    def __init__(self) -> None:
        self._ends: dict[tuple[int, ...], int] = {}
        self._num_indexed = NGRAM - 1
        self._accepted = 1.0
        self._pause = 0

    def find(self, tokens: list[int]) -> int | None:
        """Return where the tokens behind an earlier stand of the last n-gram begin."""
        # The last n-gram itself is left out, or it would find itself.
        for end in range(self._num_indexed + 1, len(tokens)):
            self._ends[tuple(tokens[end - NGRAM : end])] = end
        self._num_indexed = max(self._num_indexed, len(tokens) - 1)
        return self._ends.get(tuple(tokens[-NGRAM:]))

    def is_worth_it(self) -> bool:
        """Return whether guessing pays; after bad luck it is tried again now and then."""
        if self._accepted >= _MIN_ACCEPTED:
            return True
        self._pause += 1
        if self._pause >= 16:
            self._pause, self._accepted = 0, _MIN_ACCEPTED
            return True
        return False

    def learn(self, share: float) -> None:
        """Note the share of drafts that were right."""
        self._accepted = _OLD_SHARE * self._accepted + (1 - _OLD_SHARE) * share
