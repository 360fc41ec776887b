"""Flow records on their way to the journal: written when they are due, at a bounded pace, and noted in the state.

Nothing waits for the journal. What it does not take is tried again, for counts are absolute and the next record tells
the same; a flow that has ended is kept for its last record, as long as there is room.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from kiptail.clock.own import OwnClock
from kiptail.clock.pacing import TokenBucket
from kiptail.clock.trouble import Trouble
from kiptail.events.delivery import Notes
from kiptail.events.event import EventRecord, EventStyle
from kiptail.events.flow_record import fields, is_urgent, next_stretch
from kiptail.events.schedule import DueQueue
from kiptail.events.stages import Stages, Tracked

__all__ = ["Journaling", "RecordCounts", "RecordSink"]

log = logging.getLogger(__name__)

#: Records a second, and the most at once: journald drops what a service logs beyond 10,000 entries in 30 s.
RATE, BURST = 50.0, 500
#: The most at a time: an Event that is due waits for no more.
_AT_ONCE = 100
#: The most in the last round, for the same reason as the rate.
_LAST_MOST = 5_000
#: How long until a journal that takes nothing is tried again, in seconds; in the last round, which ends soon.
_RETRY, _LAST_RETRY = 1.0, 0.01

_Key = tuple[int, str, str]


class RecordSink(Protocol):
    """Where records go."""

    def write(self, fields: Mapping[str, str]) -> None:
        """Write one record, without ever waiting; OSError when it is not taken."""


@dataclass(slots=True)
class RecordCounts:
    """How records fared; all only grow."""

    written: int = 0
    #: Tries that the journal did not take; most are made good.
    failed: int = 0
    #: Records that will never be written: their flows had to go before.
    left_out: int = 0


class Journaling:
    """Writes the records of tracked flows; of one thread."""

    def __init__(
        self,
        sink: RecordSink | None,
        stages: Stages,
        notes: Notes,
        *,
        style: EventStyle,
        repeat_interval: float,
        clock: Callable[[], float],
        own_clock: OwnClock,
    ) -> None:
        """``repeat_interval``: seconds between two records of a flow that goes on. Without ``sink`` there are none."""
        self._sink, self._stages, self._notes, self._style = sink, stages, notes, style
        self._repeat_interval, self._clock, self._own_clock = repeat_interval, clock, own_clock
        self._bucket = TokenBucket(RATE, BURST, clock=clock)
        self._queue: DueQueue[_Key] = DueQueue()
        self._paused_until = 0.0
        self._trouble = Trouble()
        self.counts = RecordCounts()

    @property
    def due(self) -> float | None:
        """When there is something to write; None when there is nothing."""
        due = self._queue.due
        return None if due is None else max(due, self._paused_until)

    def restore(self, tracked: Tracked) -> None:
        """A stored flow: an earlier run may have written more than it noted, where that is not all there is."""
        for record in tracked.records.values():
            if self._sink is not None and (not record.recorded or next_stretch(record, tracked.flow) is not None):
                record.recorded_unnoted = True

    def plan(self, tracked: Tracked) -> None:
        """Schedule what the journal does not have yet of a flow."""
        if self._sink is None:
            return
        now = self._clock()
        for record in tracked.records.values():
            if next_stretch(record, tracked.flow) is None:
                self._queue.discard(record.key)
            else:
                # One that waits for its interval already waits no longer for having grown once more.
                self._queue.hasten(record.key, now if is_urgent(record, tracked.flow) else now + self._repeat_interval)

    def holds(self, tracked: Tracked) -> bool:
        """The flow's last word is not in the journal yet."""
        return any(record.key in self._queue for record in tracked.records.values())

    def give_up(self, tracked: Tracked) -> None:
        """The flow is not waited for any longer."""
        self.counts.left_out += sum(self._queue.discard(record.key) for record in tracked.records.values())

    def write_due(self) -> list[Tracked]:
        """Write what is due and may be written now; gives the flows of which nothing is left to write."""
        sink, now = self._sink, self._clock()
        done: list[Tracked] = []
        if sink is None or now < self._paused_until:
            return done
        for _ in range(_AT_ONCE):
            key = self._queue.next(now)
            if key is None:
                break
            tracked, record = self._found(key)
            if tracked is None or record is None:
                self._queue.discard(key)
                continue
            wait = self._bucket.delay()
            if wait > 0:
                self._paused_until = now + wait
                break
            if not self._write(sink, tracked, record):
                self._paused_until = now + _RETRY
                break
            if not self.holds(tracked):
                done.append(tracked)
        return done

    def write_all(self, timeout: float) -> None:
        """Write all counts as they are, within ``timeout`` seconds: the last round. The next start goes on from it."""
        sink = self._sink
        if sink is None:
            return
        until, left = time.monotonic() + timeout, _LAST_MOST
        for tracked in list(self._stages):
            for record in tracked.records.values():
                while next_stretch(record, tracked.flow) is not None:
                    if self._write(sink, tracked, record):
                        left -= 1
                    else:
                        time.sleep(_LAST_RETRY)
                    if not left or time.monotonic() >= until:
                        return

    def _found(self, key: _Key) -> tuple[Tracked | None, EventRecord | None]:
        tracked = self._stages.get(key[0])
        return tracked, tracked.records.get(key[1:]) if tracked is not None else None

    def _write(self, sink: RecordSink, tracked: Tracked, record: EventRecord) -> bool:
        """Write what is next of a series; False when it was not taken."""
        stretch = next_stretch(record, tracked.flow)
        if stretch is not None:
            record_fields = fields(stretch, record, tracked, self._style, wall_us=self._own_clock.wall_us)
            if not self._taken(sink, record_fields):
                return False
            record.recorded, record.recorded_count = stretch.value, record.counts(tracked.flow.count)
            record.recorded_unnoted = False
            self._notes.add(record)
        self._queue.discard(record.key)
        self.plan(tracked)
        return True

    def _taken(self, sink: RecordSink, record_fields: Mapping[str, str]) -> bool:
        try:
            sink.write(record_fields)
        except OSError as error:
            # Not logged before it is over: a line in the log would wait for the same journal.
            self._trouble.begins(str(error))
            self.counts.failed += 1
            return False
        self.counts.written += 1
        why = self._trouble.text
        if self._trouble.ends():
            log.info("the journal takes flow records again; before, it did not: %s", why)
        return True
