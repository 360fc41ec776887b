"""Which Event may be written now: what is scheduled, while nothing is held and the server takes requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kiptail.events.schedule import Event, LastRound, Schedule, Scheduled
from kiptail.events.writer import Again, Sender

__all__ = ["Turns"]


class Turns:
    """The turns of Events that one :class:`Sender` writes; ``hold``: none has its turn for the moment."""

    def __init__(self, schedule: Schedule, sender: Sender, *, hold: bool, clock: Callable[[], float]) -> None:
        self._schedule: Schedule | LastRound = schedule
        self._sender, self.hold, self._clock = sender, hold, clock

    @property
    def due(self) -> float | None:
        """When the next turn is, by the clock; None when there is none."""
        due = self._schedule.due
        return None if due is None or self.hold else max(due, self._sender.paused_until)

    @property
    def unposted(self) -> int:
        """Events that wait for their first write."""
        return self._schedule.unposted

    @property
    def ending(self) -> bool:
        """It is the last round."""
        return isinstance(self._schedule, LastRound)

    def plan(self, event: Scheduled, *, now_us: int, last: bool = False) -> None:
        """As :meth:`Schedule.plan`."""
        self._schedule.plan(event, now=self._clock(), now_us=now_us, last=last)

    def last_round(self, events: Sequence[Scheduled], *, retry: bool) -> None:
        """All of these at once, and nothing that is planned later; as :class:`LastRound`."""
        self.hold = False
        self._schedule = LastRound(events, retry=retry)

    def take(self) -> tuple[float, Event] | None:
        """The Event whose turn it is, and since when; None when there is none, or the server is to have a pause."""
        now = self._clock()
        if self.hold or self._schedule.due is None or self._schedule.due > now:
            return None
        wait = self._sender.wait()
        if wait > 0:
            self._sender.paused_until = now + wait
            return None
        return self._schedule.take(now)

    def again(self, event: Scheduled, due: float, answer: Again) -> None:
        """It was its turn since ``due``, and the write did not succeed."""
        # In its old turn when the server was away: what was dropped first is posted first. A pause that the server
        # asks for begins with its answer.
        at = due if answer.unreachable else self._clock() + answer.after
        self._schedule.again(event.key, at, posted=event.writes > 0, behind=not answer.unreachable)
