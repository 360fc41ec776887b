"""Which Event is written next (pure): first writes, then updates at their intervals, then what failed before."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Sequence
from typing import Generic, Protocol, TypeVar

__all__ = ["FIRST_UPDATES", "DueQueue", "Event", "LastRound", "Schedule", "Scheduled"]

#: An Event's first updates follow the previous write after so many seconds, so that a first look at it shows a
#: true count; later ones follow after the repeat interval.
FIRST_UPDATES = (2.0, 8.0, 32.0)

#: Of so many writes in a row, one is not the most urgent, so that updates and retries get their turn as well.
_SHARE = 5

Key = TypeVar("Key", bound=Hashable)


class DueQueue(Generic[Key]):
    """Keys by when they are due, each at most once; of those due at once, the one that came first."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Key]] = []
        #: When each key is due, and the entry of the heap that counts for it; others are left over.
        self._entries: dict[Key, tuple[float, int]] = {}
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    @property
    def due(self) -> float | None:
        """When the next key is due; None when there is none."""
        while self._heap and self._entries.get(self._heap[0][2]) != self._heap[0][:2]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def add(self, key: Key, due: float) -> None:
        """Schedule a key, in place of what it was scheduled for."""
        self._sequence += 1
        self._entries[key] = due, self._sequence
        heapq.heappush(self._heap, (due, self._sequence, key))

    def hasten(self, key: Key, due: float) -> None:
        """Schedule a key, unless it is due as early as that."""
        if key not in self._entries or due < self._entries[key][0]:
            self.add(key, due)

    def discard(self, key: Key) -> bool:
        """A key is not due any more; True when it was."""
        return self._entries.pop(key, None) is not None

    def next(self, now: float) -> Key | None:
        """The next key, which stays, if it is due by ``now``."""
        due = self.due
        return self._heap[0][2] if due is not None and due <= now else None

    def pop(self) -> tuple[float, Key]:
        """Take the next key, whether it is due or not, and when it was; IndexError when there is none."""
        due = self.due
        _due, _sequence, key = heapq.heappop(self._heap)
        del self._entries[key]
        return due or 0.0, key


#: An Event's key.
Event = tuple[int, str, str]


class Scheduled(Protocol):
    """What is asked of an Event to know its turn."""

    @property
    def key(self) -> Event:
        """What no other Event has."""

    @property
    def writes(self) -> int:
        """Successful writes so far."""

    @property
    def sent_at_us(self) -> int:
        """When the last one was, in steady time, µs since the epoch."""


class Schedule:
    """Events with something to say, by their keys; ``now`` in seconds of any clock, ``now_us`` µs since the epoch."""

    def __init__(self, repeat_interval: float, first_updates: Sequence[float] = FIRST_UPDATES) -> None:
        """``repeat_interval``: seconds between two updates of an Event, but for its first few."""
        self._repeat_interval, self._first_updates = repeat_interval, tuple(first_updates)
        self._first: DueQueue[Event] = DueQueue()
        self._updates: DueQueue[Event] = DueQueue()
        #: Events that failed by themselves: whatever has not failed yet goes first.
        self._retries: DueQueue[Event] = DueQueue()
        #: Updates that are the last of their Event and do not wait for its interval.
        self._hastened: set[Event] = set()
        self._taken = 0

    @property
    def unposted(self) -> int:
        """Events that wait for their first write."""
        return len(self._first)

    @property
    def due(self) -> float | None:
        """When the next Event is due; None when there is none."""
        return min((queue.due for queue in self._queues() if queue.due is not None), default=None)

    def plan(self, record: Scheduled, *, now: float, now_us: int, last: bool = False) -> None:
        """Schedule an Event that has something to say, unless it is; ``last``: without an interval.

        For there is nothing to follow, or what it says is wrong.
        """
        key = record.key
        if key in self._hastened:
            return
        if last and record.writes and key not in self._retries:
            self._hastened.add(key)
            self._updates.add(key, now)
            return
        if any(key in queue for queue in self._queues()):
            return
        if not record.writes:
            self._first.add(key, now)
            return
        interval = self._interval(record.writes)
        # Clamped: a wall clock that is set back must not silence an Event.
        left = min(interval, max(0.0, interval - (now_us - record.sent_at_us) / 1e6))
        self._updates.add(key, now + left)

    def again(self, key: Event, at: float, *, posted: bool, behind: bool) -> None:
        """Try the Event again at ``at``; ``posted``: it was written before. ``behind``: after what has not failed."""
        queue = self._retries if behind else self._updates if posted else self._first
        queue.add(key, at)

    def take(self, now: float) -> tuple[float, Event] | None:
        """The Event to write now, and when it was due; None when none is."""
        due = [queue for queue in self._queues() if queue.due is not None and queue.due <= now]
        if not due:
            return None
        self._taken += 1
        taken = due[self._taken // _SHARE % len(due) if self._taken % _SHARE == 0 else 0].pop()
        self._hastened.discard(taken[1])
        return taken

    def _queues(self) -> tuple[DueQueue[Event], ...]:
        return (self._first, self._updates, self._retries)

    def _interval(self, writes: int) -> float:
        if writes <= len(self._first_updates):
            return min(self._first_updates[writes - 1], self._repeat_interval)
        return self._repeat_interval


class LastRound:
    """In place of the schedule before the end: all that is pending, at once and in its order; nothing is planned."""

    def __init__(self, records: Sequence[Scheduled], *, retry: bool) -> None:
        """``retry``: what failed is written again until there is nothing left, or nobody takes any more.

        Else each is tried once, and none once the server is away: the next start goes on with what is stored.
        """
        self._retry = retry
        self._queue: DueQueue[Event] = DueQueue()
        self._unwritten = {record.key for record in records if not record.writes}
        for turn, record in enumerate(records):
            self._queue.add(record.key, float(turn - len(records)))  # each a turn of its own, before any retry's time

    @property
    def unposted(self) -> int:
        """Events that wait for their first write."""
        return len(self._unwritten)

    @property
    def due(self) -> float | None:
        """When the next Event is due; None when there is none."""
        return self._queue.due

    def plan(self, record: Scheduled, *, now: float, now_us: int, last: bool = False) -> None:
        """Whatever has something to say is in the round already."""

    def again(self, key: Event, at: float, *, posted: bool, behind: bool) -> None:
        """Try the Event again at ``at``, if at all; not ``behind``: the server is away."""
        if not posted:
            self._unwritten.add(key)
        if self._retry:
            self._queue.add(key, at)
        elif not behind:
            self._queue = DueQueue()

    def take(self, now: float) -> tuple[float, Event] | None:
        """The Event to write now, and when it was due; None when none is."""
        if self._queue.due is None or self._queue.due > now:
            return None
        taken = self._queue.pop()
        self._unwritten.discard(taken[1])
        return taken
