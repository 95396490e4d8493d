"""Requests that wait for a place in the batch, in the order in which they should get one.

Place in the data's way: `Engine.submit` pushes from any thread; the engine's thread takes the next.
Interactive goes before batch; among equals the user who runs fewest requests and was served least goes first,
and a user's own requests keep their order.

Example:
    queue = WaitingQueue(max_waiting=64)
    queue.push(request)
    for request in queue.in_order(running_by_user): ...
"""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping

from ..core.errors import Overloaded
from .request import Request

# Users beyond this many are forgotten, those served least first: they would go first anyway.
_KEPT_USERS = 1024


class WaitingQueue:
    """A bounded queue with fair shares.

    Args:
        max_waiting: Requests that may wait.
    """

    def __init__(self, max_waiting: int) -> None:
        self.max_waiting = max_waiting
        self._requests: list[Request] = []
        self._served_s: dict[str, float] = {}
        self._arrivals = itertools.count()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._requests)

    def push(self, request: Request) -> None:
        """Let a request wait.

        Raises:
            Overloaded: As many wait as may.
        """
        with self._lock:
            if len(self._requests) >= self.max_waiting:
                raise Overloaded(
                    f"{self.max_waiting} requests are waiting already.", hint="Try again in a moment."
                )
            request.arrival = next(self._arrivals)
            user = request.user
            if user not in self._served_s:
                # A newcomer starts level with whoever was served least, not with a credit for all the past.
                self._served_s[user] = min(self._served_s.values(), default=0.0)
            self._requests.append(request)

    def put_back(self, request: Request) -> None:
        """Let a request that ran before wait again, in its old place; it always fits."""
        with self._lock:
            self._requests.append(request)

    def take(self, request: Request) -> None:
        """Remove a request."""
        with self._lock:
            self._requests.remove(request)

    def take_all(self) -> list[Request]:
        """Remove and return all."""
        with self._lock:
            taken, self._requests = self._requests, []
        return taken

    def take_stopped(self) -> list[Request]:
        """Remove and return those that were cancelled or whose deadline has passed."""
        with self._lock:
            stopped = [request for request in self._requests if request.generation.stop_cause is not None]
            for request in stopped:
                self._requests.remove(request)
        return stopped

    def in_order(self, running_by_user: Mapping[str, int]) -> Iterator[Request]:
        """Yield those that wait, next first.

        Args:
            running_by_user: How many requests of each user are in the batch.
        """
        with self._lock:
            by_user: dict[tuple[bool, str], list[Request]] = defaultdict(list)
            for request in sorted(self._requests, key=lambda request: request.arrival):
                by_user[request.is_batch, request.user].append(request)
            served = dict(self._served_s)

        def turn(item: tuple[int, Request]) -> tuple[bool, int, float, int]:
            place, request = item
            num_before = running_by_user.get(request.user, 0) + place
            return request.is_batch, num_before, served.get(request.user, 0.0), request.arrival

        waiting = [(place, request) for own in by_user.values() for place, request in enumerate(own)]
        for _, request in sorted(waiting, key=turn):
            yield request

    def charge(self, user: str, seconds: float) -> None:
        """Note that the engine worked for a user.

        Args:
            user: The user.
            seconds: The user's share of a step's time.
        """
        with self._lock:
            self._served_s[user] = self._served_s.get(user, 0.0) + seconds
            if len(self._served_s) > _KEPT_USERS:
                waiting = {request.user for request in self._requests}
                idle = [name for name in self._served_s if name not in waiting and name != user]
                for name in sorted(idle, key=self._served_s.__getitem__)[: len(idle) // 2]:
                    del self._served_s[name]
