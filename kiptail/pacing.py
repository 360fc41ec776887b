"""How fast, how soon again, and what next: a token bucket, a jittered exponential back-off, and a schedule."""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Backoff", "Schedule", "TokenBucket"]

Key = TypeVar("Key", bound=Hashable)


class TokenBucket:
    """``rate`` a second, ``burst`` at once."""

    def __init__(self, rate: float, burst: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._tokens, self._at = float(burst), clock()

    def delay(self) -> float:
        """Seconds until the next token; 0.0 takes it."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate


class Backoff:
    """Pauses in seconds that double up to ``cap``, each shortened by up to half at random."""

    def __init__(self, first: float, cap: float) -> None:
        self._first, self._cap = first, cap
        self._next = first

    def pause(self) -> float:
        """The pause before the next try."""
        pause = random.uniform(0.5, 1.0) * self._next  # noqa: S311 - jitter, no secret
        self._next = min(self._cap, 2 * self._next)
        return pause

    def reset(self) -> None:
        """A try succeeded: begin with the shortest pause again."""
        self._next = self._first


class Schedule(Generic[Key]):
    """Keys by when they are due, each at most once; of those due at once, the one that came first."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Key]] = []
        self._keys: set[Key] = set()
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._heap)

    def __contains__(self, key: Key) -> bool:
        return key in self._keys

    @property
    def due(self) -> float | None:
        """When the next key is due; None when there is none."""
        return self._heap[0][0] if self._heap else None

    def add(self, key: Key, due: float) -> None:
        """Schedule a key that is not."""
        self._keys.add(key)
        self._sequence += 1
        heapq.heappush(self._heap, (due, self._sequence, key))

    def pop(self) -> tuple[float, Key]:
        """Take the next key, whether it is due or not, and when it was."""
        due, _sequence, key = heapq.heappop(self._heap)
        self._keys.discard(key)
        return due, key
