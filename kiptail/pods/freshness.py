"""How far what is known of pods keeps up with what happens in the cluster."""

from __future__ import annotations

import time

from kiptail.clock.own import OwnClock
from kiptail.pods.evidence import WATCH_LAG_US

__all__ = ["Freshness"]


class Freshness:
    """Written by the thread that follows pods, read by any. Times are µs since the epoch, by ``clock``."""

    def __init__(self, clock: OwnClock) -> None:
        """Nothing is known yet."""
        self._clock = clock
        self._ready = False
        self._current = False
        self._heard_at = time.monotonic()
        self._fresh_us = 0
        self._watched_us = 0

    # -- what happens ---------------------------------------------------------------------------------------

    def restored(self, seen_us: int) -> None:
        """An earlier run knew all up to then, and watched until then."""
        self._fresh_us = self._watched_us = seen_us

    def heard(self) -> None:
        """The API server has sent all that there was to send."""
        self._heard_at = time.monotonic()
        self._fresh_us = self._clock.now_us()

    def listed(self) -> bool:
        """All pods are known; True for the first time."""
        first, self._ready = not self._ready, True
        return first

    def follow(self, current: bool) -> None:
        """A watch is open, and what comes by it can be read, or not."""
        self._current = current

    def interrupted(self, *, expired: bool = False) -> None:
        """The watch is over; ``expired``: the server could not go on from where it was, and something was missed."""
        if self._current:
            self._watched_us = max(self._watched_us, self._fresh_us) if expired else self._clock.now_us()
        self._current = False

    # -- what is known of it --------------------------------------------------------------------------------

    def ready(self) -> bool:
        """All pods were listed once."""
        return self._ready

    def current(self) -> bool:
        """Changes of pods arrive at present."""
        return self._current

    def expects(self, at_us: int) -> bool:
        """What happened to pods at ``at_us`` may not be known yet."""
        return not self._current or self._clock.now_us() < at_us + WATCH_LAG_US

    def fresh_us(self) -> int:
        """Up to when all that happened is known, as far as the watch does not lag."""
        return self._fresh_us

    def watched_us(self) -> int:
        """When pods were watched for the last time."""
        return self._watched_us

    def age(self) -> float:
        """Seconds since the API server last said anything; bookmarks come about once a minute."""
        return time.monotonic() - self._heard_at
