"""When an Event that was given up is tried anew, because its flow goes on (pure).

What the API server refuses for good, it may take an hour later: a webhook was mended, the namespace is there again,
whoever deleted the Event is gone. A flow can go on for weeks, and must not be mute for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["FIRST_PAUSE", "LONGEST_PAUSE", "SecondChances"]

#: Seconds until the first new try, and the most there are between two; each pause is twice the one before.
FIRST_PAUSE, LONGEST_PAUSE = 600.0, 6 * 3600.0

Event = tuple[int, str, str]


@dataclass(slots=True)
class _Trouble:
    #: What the flow had counted when its Event was given up.
    count: int
    pause: float
    not_before: float
    #: When it was delivered after all; None while it is not.
    delivered_at: float | None = None


class SecondChances:
    """Events that were given up, by their keys, until they are forgotten with their flow. Of one thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock`` is in seconds, and never set."""
        self._clock = clock
        self._troubles: dict[Event, _Trouble] = {}

    def __len__(self) -> int:
        return len(self._troubles)

    def give_up(self, key: Event, count: int) -> bool:
        """The Event was given up when its flow had counted so many; False if it was given up before, and still is.

        One that is delivered and soon given up again, as when somebody deletes it each time, has longer pauses too.
        """
        now, before = self._clock(), self._troubles.get(key)
        healed = before is not None and before.delivered_at is not None
        if before is None or (before.delivered_at is not None and now - before.delivered_at >= LONGEST_PAUSE):
            pause = FIRST_PAUSE
        else:
            pause = min(2 * before.pause, LONGEST_PAUSE)
        self._troubles[key] = _Trouble(count, pause, now + pause)
        return before is None or healed

    def due(self, key: Event, count: int) -> bool:
        """Whether to try it now that its flow has counted so many: it went on, and the pause is over."""
        trouble = self._troubles.get(key)
        return (
            trouble is not None
            and trouble.delivered_at is None
            and count != trouble.count
            and self._clock() >= trouble.not_before
        )

    def delivered(self, key: Event) -> bool:
        """The API server has it; True if it had been given up."""
        trouble = self._troubles.get(key)
        if trouble is None or trouble.delivered_at is not None:
            return False
        trouble.delivered_at = self._clock()
        return True

    def forget(self, key: Event) -> None:
        """There is nothing to tell any more."""
        self._troubles.pop(key, None)
