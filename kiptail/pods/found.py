"""What look-ups by address found, for as long as it answers. Not for several threads."""

from __future__ import annotations

import time
from typing import NamedTuple

from cachetools import TTLCache

__all__ = ["Found"]

#: How long a pod that was found is taken for the address's owner, in seconds.
HIT_TTL = 30.0
#: How long it is remembered that none was found, in seconds; it answers for drops from before the look-up only.
MISS_TTL = 600.0
MAX_HITS, MAX_MISSES = 4_096, 8_192
#: Seconds until an address with new drops and no pod is looked up again: the first pause, which grows up to the last.
MISS_PAUSE, MISS_PAUSE_CAP = 10.0, 300.0


class _Miss(NamedTuple):
    #: Drops until then are answered.
    until_us: int
    #: By time.monotonic(): the next look-up, should there be a drop after that.
    again_at: float
    pause: float


class Found:
    """By address: that somebody has it, or that nobody had it when that was asked."""

    def __init__(self) -> None:
        self._hits: TTLCache[str, bool] = TTLCache(MAX_HITS, HIT_TTL)
        self._misses: TTLCache[str, _Miss] = TTLCache(MAX_MISSES, MISS_TTL)

    def answers(self, address: str, at_us: int) -> bool:
        """That answers for a drop at ``at_us``."""
        if address in self._hits:
            return True
        miss = self._misses.get(address)
        return miss is not None and at_us <= miss.until_us

    def again_at(self, address: str) -> float:
        """When the address may be looked up, by time.monotonic()."""
        miss = self._misses.get(address)
        return miss.again_at if miss is not None else 0.0

    def hit(self, address: str) -> None:
        """A pod has the address."""
        self._hits[address] = True
        self._misses.pop(address, None)

    def miss(self, address: str, asked_us: int) -> None:
        """No pod had the address at ``asked_us``."""
        before = self._misses.get(address)
        pause = min(2 * before.pause, MISS_PAUSE_CAP) if before is not None else MISS_PAUSE
        self._hits.pop(address, None)
        self._misses[address] = _Miss(asked_us, time.monotonic() + pause, pause)

    def give_up(self, address: str) -> None:
        """It cannot be looked up: that answers for nothing, and it is not tried again soon."""
        self._misses[address] = _Miss(0, time.monotonic() + MISS_PAUSE_CAP, MISS_PAUSE_CAP)

    def forget(self, address: str) -> None:
        """Somebody else has the address now."""
        self._hits.pop(address, None)
