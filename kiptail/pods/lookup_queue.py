"""Which address is looked up next, and when: paced, and slower while the API server does not answer.

Not for several threads.
"""

from __future__ import annotations

import time
from collections import Counter

from kiptail.clock.pacing import Backoff, TokenBucket

__all__ = ["LookupQueue"]

#: Look-ups a second, at once, and waiting.
RATE, BURST, MAX_WAITING = 5.0, 100, 2_048
#: Pauses while the API server does not answer, in seconds.
BACKOFF_FIRST, BACKOFF_CAP = 0.5, 5.0
#: The longest pause that the API server may ask for, in seconds.
MAX_RETRY_AFTER = 60.0
#: Seconds until a missing right is tried again.
FORBIDDEN_RETRY = 600.0
#: A look-up that fails this often by itself is given up.
MAX_FAILURES = 3


class LookupQueue:
    """Addresses that wait, and those whose look-up is under way. All times are by time.monotonic()."""

    def __init__(self) -> None:
        #: When each may be looked up; in the order of the questions.
        self._due: dict[str, float] = {}
        self._under_way: set[str] = set()
        self._failures: Counter[str] = Counter()
        self._bucket = TokenBucket(RATE, BURST)
        self._backoff = Backoff(BACKOFF_FIRST, BACKOFF_CAP)
        self._not_before = 0.0
        #: The right is missing: nobody is asked until then.
        self._forbidden_until = 0.0

    def __len__(self) -> int:
        return len(self._due) + len(self._under_way)

    def __contains__(self, address: str) -> bool:
        return address in self._due or address in self._under_way

    def full(self) -> bool:
        """No further address can wait."""
        return len(self._due) >= MAX_WAITING

    def forbidden(self) -> bool:
        """The right is missing, as far as is known: it is of no use to ask."""
        return time.monotonic() < self._forbidden_until

    def add(self, address: str, not_before: float) -> None:
        """The address is to be looked up."""
        self._due[address] = not_before

    def next(self) -> tuple[str | None, float | None]:
        """An address whose turn it is, and which is under way now; or None, and the seconds until one may be."""
        address = min(self._due, key=self._due.__getitem__, default=None)
        if address is None:
            return None, None
        wait = max(self._due[address], self._not_before) - time.monotonic()
        if wait <= 0:
            wait = self._bucket.delay()
        if wait > 0:
            return None, wait
        del self._due[address]
        self._under_way.add(address)
        return address, 0.0

    def answered(self, address: str) -> None:
        """The API server answered who has the address."""
        self._under_way.discard(address)
        self._failures.pop(address, None)
        self._backoff.reset()

    def dropped(self, address: str) -> None:
        """The look-up came to nothing, and is not tried again."""
        self._under_way.discard(address)

    def failed(self, address: str, *, transient: bool, retry_after: float) -> bool:
        """It failed, and may do better later if that is ``transient``; False when it is given up."""
        self._under_way.discard(address)
        now = time.monotonic()
        self._not_before = now + max(self._backoff.pause(), min(retry_after, MAX_RETRY_AFTER))
        self._failures[address] += 1
        if transient or self._failures[address] < MAX_FAILURES:
            self._due[address] = now  # behind those that were not tried yet
            return True
        del self._failures[address]
        return False

    def refused(self, address: str) -> None:
        """The right is missing: what waits is dropped, and nothing is asked for long."""
        self._under_way.discard(address)
        self._forbidden_until = time.monotonic() + FORBIDDEN_RETRY
        self._due.clear()
