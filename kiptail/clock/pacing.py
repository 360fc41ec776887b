"""How fast, and how soon again: a token bucket and a jittered exponential back-off."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

__all__ = ["Backoff", "TokenBucket"]


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
    """Pauses in seconds that double up to ``cap``, each shortened at random by up to ``jitter``, a share of it."""

    def __init__(self, first: float, cap: float, *, jitter: float = 0.5) -> None:
        self._first, self._cap, self._jitter = first, cap, jitter
        self._next = first

    def pause(self) -> float:
        """The pause before the next try."""
        pause = random.uniform(1.0 - self._jitter, 1.0) * self._next  # noqa: S311 - jitter, no secret
        self._next = min(self._cap, 2 * self._next)
        return pause

    def reset(self) -> None:
        """A try succeeded: begin with the shortest pause again."""
        self._next = self._first
