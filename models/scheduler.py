"""Which requests are in the batch, and what of each is computed in the next step.

Place in the data's way: the engine's thread calls `admit` and `plan` before every step. Requests join and
leave between any two steps; reading a prompt is cut into pieces that go along with the tokens being written.

Example:
    scheduler.admit()
    for work in scheduler.plan(): ...
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from .pacing import PrefillPacer
from .prefix_cache import PrefixCache
from .prompt_lookup import PromptLookup
from .radix_tree import shared_prefix
from .request import NO_SEQUENCE, Request
from .waiting import WaitingQueue

# A request waits for another one's reading where that saves it at least this many tokens.
MIN_AWAITED_TOKENS = 16
# Of a completion's longest length only so much is set aside; when cells run out, a request is put back.
RESERVED_TOKENS = 256
# A long prompt is read at a pace that hardly shows in the answers being written. A short one is read in
# larger pieces, which cost the processor less a token: its reader waits less, and all are done sooner.
SHORT_PROMPT_TOKENS = 512
SHORT_PIECE_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Work:
    """What one request wants of a step.

    Attributes:
        request: The request.
        tokens: Tokens to compute behind those it holds; drafts come last.
        num_drafts: How many of them are guesses.
        wants_logits: Whether the next token can be sampled after this step.
        is_decoding: Whether it is writing; else it reads its prompt.
    """

    request: Request
    tokens: list[int]
    num_drafts: int
    wants_logits: bool
    is_decoding: bool


class Scheduler:
    """Admission, preemption and the plan of a step.

    Args:
        cache: Sequences and cells.
        waiting: The requests that wait.
        num_cells: Cells of the KV cache.
        n_batch: Most rows in a step.
        max_running: Most requests in the batch.
        draft_tokens: Most tokens guessed by prompt lookup for one request; 0 for none.
    """

    def __init__(
        self,
        cache: PrefixCache,
        waiting: WaitingQueue,
        *,
        num_cells: int,
        n_batch: int,
        max_running: int,
        draft_tokens: int,
    ) -> None:
        self.running: list[Request] = []
        self.pacer = PrefillPacer(n_batch)
        self._cache = cache
        self._waiting = waiting
        self._num_cells = num_cells
        self._n_batch = n_batch
        self._max_running = min(max_running, n_batch)
        self._lookup = PromptLookup(draft_tokens)

    # -- joining and leaving

    def admit(self) -> list[Request]:
        """Move waiting requests into the batch as far as places and cells go; returns those that joined."""
        joined = self._join() if len(self._waiting) else []
        if joined:
            self._cache.bound_idle()  # only now, or one who joins first would evict the next one's prefix
        return joined

    def _join(self) -> list[Request]:
        joined: list[Request] = []
        by_user = Counter(request.user for request in self.running)
        for request in self._waiting.in_order(by_user):
            if self._awaits_prefix(request):
                continue
            while not self._has_place(request):
                if request.is_batch or not self._put_back_batch_request():
                    return joined
            lease = self._cache.begin(request.tokens)
            if lease is None:
                return joined
            self._waiting.take(request)
            request.seq_id, request.num_held = lease.seq_id, lease.num_cached
            request.num_to_read = request.num_left
            self.running.append(request)
            joined.append(request)
        return joined

    def leave(self, request: Request, *, is_kept: bool = True) -> None:
        """Take a request out of the batch; what it computed stays as a cached prefix if `is_kept`."""
        self.running.remove(request)
        self._cache.end(request.seq_id, is_kept=is_kept)
        self._lookup.forget(request)
        request.seq_id = NO_SEQUENCE

    def put_back(self, request: Request) -> None:
        """Let a request wait again; what it computed stays cached, so that it goes on cheaply."""
        self.leave(request)
        self._waiting.put_back(request)

    def put_back_youngest(self) -> bool:
        """Make room by putting back the request that can best wait; False where only one runs."""
        if len(self.running) < 2:
            return False
        self.put_back(max(self.running, key=lambda request: (request.is_batch, request.arrival)))
        return True

    def _put_back_batch_request(self) -> bool:
        batch = [request for request in self.running if request.is_batch]
        if not batch:
            return False
        self.put_back(max(batch, key=lambda request: request.arrival))
        return True

    def _has_place(self, request: Request) -> bool:
        if not self.running:
            return True
        if len(self.running) >= self._max_running:
            return False
        needed = _cells_needed(request) - self._cache.longest_prefix(request.tokens)
        promised = sum(_cells_needed(other) - other.num_held for other in self.running)
        return needed + promised + self._cache.cells_running <= self._num_cells

    def _awaits_prefix(self, request: Request) -> bool:
        """Return whether some request is just reading a prefix that this one can share soon."""
        reading = [other for other in self.running if other.num_left > 1]
        if not reading:
            return False
        held = self._cache.longest_prefix(request.tokens) + MIN_AWAITED_TOKENS
        return any(
            len(other.tokens) >= held and shared_prefix(other.tokens, request.tokens) >= held
            for other in reading
        )

    # -- the next step

    def plan(self) -> list[Work]:
        """Return what to compute next: a token for all that write, and a piece of the prompts being read."""
        decoding = [request for request in self.running if request.is_decoding]
        reading = [request for request in self.running if not request.is_decoding]
        room = self._n_batch - len(decoding) - bool(reading)
        works = []
        for request in decoding:
            drafts = self._lookup.propose(request, min(room, request.num_remaining - 1))
            room -= len(drafts)
            tokens = [request.tokens[-1], *drafts]
            works.append(Work(request, tokens, len(drafts), wants_logits=True, is_decoding=True))
        if reading:
            works += self._plan_reading(reading, decoding, sum(len(work.tokens) for work in works))
        return works

    def _plan_reading(self, reading: list[Request], decoding: list[Request], num_rows: int) -> list[Work]:
        # Batch requests that write may be stalled; those a person watches may not.
        num_watched = 0 if all(request.is_batch for request in decoding) else num_rows
        left_s = min((request.generation.left_s for request in reading), default=None, key=_none_last)
        paced = min(self._n_batch - num_rows, self.pacer.num_tokens(num_watched, left_s))
        if num_watched == 0:
            return _shared_out(reading, paced)
        if paced == 0:
            return []
        short = [request for request in reading if request.num_to_read <= SHORT_PROMPT_TOKENS]
        long = [request for request in reading if request.num_to_read > SHORT_PROMPT_TOKENS]
        if short and long:
            paced //= 2  # or the long ones would starve while short ones keep coming
        works = _shared_out(long, paced)
        room = self._n_batch - num_rows - sum(len(work.tokens) for work in works)
        return works + _shared_out(short, min(room, max(paced, SHORT_PIECE_TOKENS)))

    def learn(self, request: Request, num_drafts: int, num_accepted: int) -> None:
        """Note how many of a request's drafts the model agreed with."""
        self._lookup.learn(request, num_drafts, num_accepted)


def _shared_out(reading: list[Request], room: int) -> list[Work]:
    """Share `room` prompt tokens out: half to who came first, against starving; the rest to the shortest."""
    if not reading or room <= 0:
        return []
    first = min(reading, key=lambda request: (request.is_batch, request.arrival))
    shares = {first: min(first.num_left, (room + 1) // 2)}
    room -= shares[first]
    for request in sorted(reading, key=lambda request: (request.is_batch, request.num_left)):
        taken = min(request.num_left - shares.get(request, 0), room)
        shares[request] = shares.get(request, 0) + taken
        room -= taken
    return [_reading(request, num) for request, num in shares.items() if num]


def _reading(request: Request, num: int) -> Work:
    tokens = request.tokens[request.num_held : request.num_held + num]
    return Work(request, tokens, 0, wants_logits=num == request.num_left, is_decoding=False)


def _cells_needed(request: Request) -> int:
    return len(request.tokens) + min(request.num_remaining, RESERVED_TOKENS)


def _none_last(seconds: float | None) -> float:
    return float("inf") if seconds is None else seconds
