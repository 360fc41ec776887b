"""Events with something to say that the API server does not have yet: planned, written, noted, and given up.

One request at a time: an Event is never in flight twice, and the flows that were dropped first are posted first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from kiptail.clock.own import OwnClock
from kiptail.errors import StateError
from kiptail.events.attribution import Outbox
from kiptail.events.event import EventRecord
from kiptail.events.second_chance import SecondChances
from kiptail.events.stages import Stages, Tracked
from kiptail.events.turns import Turns
from kiptail.events.wording import Wording
from kiptail.events.writer import MAX_ROUNDS, Again, GivenUp, Sender, Sent
from kiptail.flows.flow import Flow

__all__ = ["Delivery", "Notes"]

log = logging.getLogger(__name__)

#: What became of a write is stored after so many seconds: many in one transaction, if there are many.
_NOTE_INTERVAL = 0.25


class Notes:
    """What became of the writes: stored with the next transaction, whatever that is, and soon in any case."""

    def __init__(self, outbox: Outbox, clock: Callable[[], float]) -> None:
        self._outbox, self._clock = outbox, clock
        #: When they are written; None without any.
        self.due: float | None = None

    def add(self, record: EventRecord) -> None:
        """Note how an Event is by now."""
        self._outbox.note(record)
        if self.due is None:
            self.due = self._clock() + _NOTE_INTERVAL

    def write_if_due(self) -> None:
        """Store them, if it is time."""
        if self.due is not None and self._clock() >= self.due:
            self.write()

    def write(self) -> None:
        """Store what became of the writes so far."""
        self.due = None
        try:
            self._outbox.write_notes()
        except StateError as error:
            # Events hold absolute counts: should this be forgotten, they are written once more.
            log.debug("what was delivered is not noted: %s", error)


class Delivery:
    """Plans and writes the Events of tracked flows."""

    def __init__(
        self,
        stages: Stages,
        sender: Sender,
        turns: Turns,
        notes: Notes,
        *,
        wording: Wording,
        give_up_after: float,
        observe: Callable[[str, str], None],
        clock: Callable[[], float],
        own_clock: OwnClock,
        mute: Callable[[Tracked], None] = lambda tracked: None,
    ) -> None:
        """``give_up_after`` is in seconds; ``mute`` decides before each write which of a flow's Events are left out."""
        self._stages, self.sender, self.turns, self.notes = stages, sender, turns, notes
        self._wording, self.give_up_after, self.observe = wording, give_up_after, observe
        self._mute = mute
        self._clock, self._own_clock = clock, own_clock
        self.chances = SecondChances(clock)
        #: Events that were never written.
        self.unposted = 0

    @property
    def due(self) -> float | None:
        """When the next Event is written; None when there is none."""
        return self.turns.due

    def pending(self) -> list[tuple[Tracked, EventRecord]]:
        """Events with something to say that the API server does not have, those that were dropped first in front."""
        return [
            (tracked, record)
            for tracked in sorted(self._stages, key=lambda tracked: tracked.flow.id)
            for record in tracked.records.values()
            if record.is_pending(tracked.flow.count)
        ]

    def restore(self, tracked: Tracked) -> None:
        """The Events of a stored flow, as an earlier run left them."""
        count = tracked.flow.count
        for record in tracked.records.values():
            record.tried = record.writes > 0 or not record.muted  # by that run, perhaps
            if record.is_pending(count) and record.sent_message:
                # That run may have written more than it noted. What counts as written must not look right by chance
                # when drops turn out to be somebody else's.
                self._plan_one(record, tracked.flow)
                record.sent_message = ""
                self.notes.add(record)
            if record.given_up:
                self.chances.give_up(record.key, count)

    def plan(self, tracked: Tracked) -> None:
        """Schedule those of a flow's Events that have something to say; with one that has, a flow rests no longer."""
        count = tracked.flow.count
        for record in tracked.records.values():
            # An Event that keeps being deleted is created once more for each chance that it gets.
            if record.given_up and self.chances.due(record.key, count):
                record.given_up = ""
                record.rounds = min(record.rounds, MAX_ROUNDS - 1)
            if record.is_pending(count) and (record.writes or not tracked.held):
                self._plan_one(record, tracked.flow)
        self._stages.reopen(tracked)
        self.unposted = self.turns.unposted

    def last_round(self, *, retry: bool) -> None:
        """Write all that is pending at once, in its order, and plan nothing more; as :class:`LastRound`."""
        self.turns.last_round([record for _, record in self.pending()], retry=retry)

    def send_next(self) -> Tracked | None:
        """Write the Event that is due, if any is; returns its flow when that Event is settled for now."""
        taken = self.turns.take()
        settled = self._take_turn(*taken) if taken is not None else None
        self.unposted = self.turns.unposted
        return settled

    def _take_turn(self, due: float, key: tuple[int, str, str]) -> Tracked | None:
        """Write an Event that is due since ``due``; returns its flow when it is settled for now."""
        tracked = self._stages.get(key[0])
        record = tracked.records.get(key[1:]) if tracked is not None else None
        if tracked is None or record is None or not record.is_pending(tracked.flow.count):
            return None
        self._mute(tracked)
        if not record.is_pending(tracked.flow.count):
            return tracked
        again = self._send(tracked, record)
        if again is None:
            return tracked
        self.turns.again(record, due, again)
        return None

    def _send(self, tracked: Tracked, record: EventRecord) -> Again | None:
        """Write one Event; None when that is settled."""
        flow = tracked.flow
        if self.is_too_old(flow):
            self._give_up(record, flow, "undeliverable for too long", logging.WARNING)
            return None
        body = self._wording.body(tracked, record, self._own_clock)
        text, count = record.message, record.counts(flow.count)
        result = self.sender.send(body, record)
        match result:
            case Again():
                return result
            case GivenUp():
                self._give_up(record, flow, result.reason, logging.INFO if result.expected else logging.WARNING)
            case Sent():
                if self.chances.delivered(record.key):
                    self.observe("update" if record.sent_count else "create", "revived")
                record.sent_count, record.sent_message, record.sent_at_us = count, text, self._own_clock.now_us()
                record.writes += 1
                self.notes.add(record)
                self.plan(tracked)
        return None

    def give_up(self, tracked: Tracked, reason: str) -> None:
        """Give up all that a flow's Events have still to say."""
        for record in tracked.records.values():
            if record.is_pending(tracked.flow.count):
                self._give_up(record, tracked.flow, reason, logging.WARNING)

    def forget(self, tracked: Tracked) -> None:
        """A flow is not tracked any more."""
        for record in tracked.records.values():
            self.chances.forget(record.key)

    def is_too_old(self, flow: Flow) -> bool:
        """A flow's Events are worth nothing any more."""
        return self._own_clock.age_s(flow.last_us) > self.give_up_after

    def _plan_one(self, record: EventRecord, flow: Flow) -> None:
        wrong = record.counts(flow.count) < record.sent_count or record.tells_of_another
        self.turns.plan(record, now_us=self._own_clock.now_us(), last=flow.ended or wrong)

    def _give_up(self, record: EventRecord, flow: Flow, reason: str, level: int) -> None:
        record.given_up = reason
        if self.chances.give_up(record.key, flow.count):
            self.observe("update" if record.sent_count else "create", "given_up")
        else:
            level = logging.DEBUG  # said when it was given up first
        pod = record.pod
        log.log(level, "giving up Event %s of %s/%s: %s", record.name, pod.namespace, pod.name, reason)
        self.notes.add(record)
