"""When all pods are read for the sake of second addresses, and for which. Not for several threads."""

from __future__ import annotations

import random
import time

from cachetools import TTLCache

from kiptail.clock.pacing import Backoff

__all__ = ["DualStackPlan"]

#: Seconds between two lists, at least; up to a fifth is added, so that a cluster's nodes do not go together.
INTERVAL = 600.0
#: Seconds from the first question to its list, at most; at random, so that a cluster's nodes do not go together.
FIRST_WITHIN = 20.0
#: The same in a small cluster; by then it is asked how many pods there are.
SMALL_FIRST_WITHIN = 3.0
#: After a failure, in seconds; it is twice as long after each further one, up to the interval.
FAILED_RETRY = 30.0
#: Addresses that wait at most.
MAX_WAITING = 2_048


class DualStackPlan:
    """Addresses that wait for a list, and those that one answers. Times to come are by time.monotonic()."""

    def __init__(self) -> None:
        self._awaited: set[str] = set()
        #: Up to when all pods are read, and for which addresses whoever had them was kept: µs since the epoch.
        self._read_us = 0
        self._answered_us: TTLCache[str, int] = TTLCache(MAX_WAITING, INTERVAL)
        self._not_before = 0.0
        #: Until then only a small cluster is read.
        self._small_until = 0.0
        self._retries = Backoff(FAILED_RETRY, INTERVAL, jitter=0.0)
        self._off_until = 0.0

    def __len__(self) -> int:
        return len(self._awaited)

    def __contains__(self, address: str) -> bool:
        return address in self._awaited

    def answers(self, address: str, at_us: int) -> bool:
        """A list for this address was read after ``at_us``."""
        return at_us <= self._answered_us.get(address, 0)

    def add(self, address: str, at_us: int) -> bool:
        """The owner at ``at_us`` is asked for; False when that is not waited for."""
        now = time.monotonic()
        if at_us <= self._read_us or now < self._off_until or len(self._awaited) >= MAX_WAITING:
            return False
        if not self._awaited:
            self._small_until = now + random.uniform(0.0, FIRST_WITHIN)  # noqa: S311 - jitter, no secret
            soon = min(now + random.uniform(0.0, SMALL_FIRST_WITHIN), self._small_until)  # noqa: S311 - as above
            self._not_before = max(self._not_before, soon)
        self._awaited.add(address)
        return True

    def next(self) -> tuple[frozenset[str], float | None]:
        """For which addresses all pods are to be read now; or none, and the seconds until then, if any waits."""
        wait = self._not_before - time.monotonic()
        if self._awaited and wait <= 0:
            return frozenset(self._awaited), 0.0
        return frozenset(), wait if self._awaited else None

    def is_early(self) -> bool:
        """It is the time for a small cluster only."""
        return time.monotonic() < self._small_until

    def postpone(self) -> None:
        """The cluster is not small: wait for the time of all others."""
        self._not_before = self._small_until

    def turn_off(self, seconds: float) -> None:
        """No list is read for ``seconds``."""
        self._off_until = time.monotonic() + seconds

    def is_off(self) -> bool:
        """No list is read at present."""
        return time.monotonic() < self._off_until

    def reached(self) -> None:
        """The API server answered: the next failure is the first."""
        self._retries.reset()

    def complete(self, awaited: frozenset[str], begin_us: int) -> frozenset[str]:
        """A list for these was read, from ``begin_us`` on; returns whom it answers."""
        self._read_us = begin_us
        self._answered_us.update(dict.fromkeys(awaited, begin_us))
        # Those that came too late for this one can be looked up by their first address now.
        answered = awaited | self._awaited
        self._awaited.clear()
        self._not_before = time.monotonic() + INTERVAL * random.uniform(1.0, 1.2)  # noqa: S311 - jitter, no secret
        return answered

    def drop(self) -> None:
        """There is no list for those that wait."""
        self._awaited.clear()
        self._not_before = time.monotonic()

    def failed(self) -> None:
        """The list came to nothing; those that wait go on waiting."""
        self._not_before = time.monotonic() + self._retries.pause()
