"""Who is told, when, how often, and until when it is tried: the state of delivery, of one thread.

Flows come in by :meth:`Recorder.arrive`, and :meth:`Recorder.step` does the next thing that is due: find out
who is at their ends, write one Event, let go of what is told. One request at a time: an Event is never in flight
twice, and the flows that were dropped first are told first. Whatever there is to tell is in the store, so an
outage or a crash delays Events and loses none.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from kiptail.clock.own import OwnClock
from kiptail.errors import StateError
from kiptail.events.attribution import Attributor, Locate, Outbox
from kiptail.events.awaiting import Awaiting
from kiptail.events.delivery import EventSink
from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.event import EventRecord, EventStyle, event_body
from kiptail.events.schedule import FIRST_UPDATES, Schedule
from kiptail.events.second_chance import SecondChances
from kiptail.events.stages import Stage, Stages, Tracked
from kiptail.events.tally import Tally
from kiptail.events.writer import MAX_ROUNDS, Again, GivenUp, Sender, Sent
from kiptail.flows.flow import Flow, FlowKey
from kiptail.pods.ownership import NEVER

__all__ = ["Progress", "Recorder"]

log = logging.getLogger(__name__)

#: How often flows that cannot be told are looked for, in seconds.
_SWEEP_INTERVAL = 60.0
#: What became of a write is stored after so many seconds: many in one transaction, if there are many.
_NOTE_INTERVAL = 0.25


@dataclass(frozen=True, slots=True)
class Progress:
    """How delivery goes, for status and metrics."""

    #: Events that were never written.
    unposted: int
    #: Flows whose ends are not decided yet.
    unattributed: int
    #: Flows that ended and wait for their Events to be posted.
    ended: int
    #: Drops that nobody could be blamed for, as either of several pods may have had an address; it only grows.
    ambiguous: int
    #: Decisions that were taken back; it only grows.
    reattributed: int
    #: Why requests do not succeed at present, or "".
    trouble: str


class Recorder:
    """Turns committed flows into Events and keeps those current."""

    def __init__(
        self,
        *,
        sink: EventSink,
        locate: Locate,
        outbox: Outbox,
        style: EventStyle,
        repeat_interval: float,
        give_up_after: float,
        most_ended: int,
        first_updates: Sequence[float] = FIRST_UPDATES,
        hold: bool = False,
        paced: bool = True,
        observe: Callable[[str, str], None] = lambda operation, result: None,
        tally: Tally | None = None,
        remember: Callable[[], None] = lambda: None,
        uncut: Callable[[str], bool] = lambda address: False,
        clock: Callable[[], float] = time.monotonic,
        own_clock: OwnClock | None = None,
    ) -> None:
        """``repeat_interval`` and ``give_up_after`` are in seconds; ``hold``: :meth:`step` sends nothing.

        ``most_ended``: so many flows that have ended may wait to be told; then the oldest are given up.
        ``remember`` stores what is known of pods, before a decision that hangs on it. ``uncut`` tells whether flows of
        an address have still to be cut by what is known of it. ``own_clock`` is what flows' times are told by.
        """
        self._outbox, self._style, self._give_up_after = outbox, style, give_up_after
        self._most_ended, self._hold, self._observe = most_ended, hold, observe
        self._clock, self._own_clock = clock, own_clock or OwnClock()
        self._tally = Tally() if tally is None else tally
        self.stages = Stages()
        attributor = Attributor(locate, outbox, style, self.stages, remember=remember)
        self.awaiting = Awaiting(attributor, self.stages, clock=clock, uncut=uncut)
        self._schedule = Schedule(repeat_interval, first_updates)
        self._chances = SecondChances(clock)
        self.sender = Sender(sink, paced=paced, observe=observe, clock=clock)

        #: Drops that were taken from a flow after they had been tallied, by its key, until that comes which has them.
        self._moved: Counter[FlowKey] = Counter()
        self._sweep_at = clock() + _SWEEP_INTERVAL
        #: When notes are written; None without any.
        self._note_at: float | None = None
        #: No change of hands before this time (µs since the epoch) will turn up any more.
        self.settled_us = NEVER
        self._unposted = self._ambiguous = 0

    @property
    def progress(self) -> Progress:
        """How delivery goes; may be asked for by other threads."""
        return Progress(
            unposted=self._unposted,
            unattributed=len(self.awaiting),
            ended=self.stages.count(Stage.ENDED),
            ambiguous=self._ambiguous,
            reattributed=self.awaiting.reattributed,
            trouble=self.sender.trouble,
        )

    def restore(self, flow: Flow, ends: Mapping[str, Endpoint], records: Iterable[EventRecord]) -> None:
        """Take up a stored flow, a copy as for :meth:`arrive`."""
        stored = {(record.end, record.pod.uid): record for record in records}
        tracked = Tracked(flow, self._clock(), dict(ends), stored)
        for record in stored.values():
            record.tried = True  # by an earlier run, perhaps
            if record.has_news(flow.count) and record.sent_message:
                # That run may have written more than it noted. What counts as written must not look right by chance
                # when drops turn out to be somebody else's.
                self._plan_one(record, flow)
                record.sent_message = ""
                self._note(record)
            if record.given_up:
                self._chances.give_up(record.key, flow.count)
        if tracked.attributed:
            tracked.tallied = flow.count  # by an earlier run
            tracked.ambiguous = flow.count
        if flow.last_us >= self.settled_us:
            self.awaiting.reattribute(tracked, None)
        self._track(tracked)

    def arrive(self, flow: Flow) -> None:
        """A flow that was committed, as a copy that nobody changes any more."""
        tracked = self.stages.get(flow.id)
        if tracked is None:
            tracked = Tracked(flow, self._clock())
            tracked.tallied = min(self._moved[flow.key], flow.count) if self._moved else 0
            self._moved[flow.key] -= tracked.tallied
        else:
            before, tracked.flow = tracked.flow, flow
            if tracked.tallied > flow.count:
                self._moved[flow.key] += tracked.tallied - flow.count
                tracked.tallied = flow.count
            self.awaiting.changed(tracked, before)
        self._track(tracked)

    def arrived(self) -> None:
        """All flows of a commit have come."""
        self._moved.clear()

    def reattribute(self, addresses: set[str]) -> None:
        """Something else is known of these addresses than before: who was found there may be wrong."""
        for tracked in list(self.stages):
            self.awaiting.reattribute(tracked, addresses)

    def rename_strangers(self) -> None:
        """The cluster has other names than before: addresses that are told of may have one now."""
        for tracked in self.awaiting.rename_strangers():
            self._plan(tracked)

    def pause(self) -> float:
        """Seconds until there is something to do."""
        at = self._sweep_at
        if self.awaiting.due is not None:
            at = min(at, self.awaiting.due)
        if self._schedule.due is not None and not self._hold:
            at = min(at, max(self._schedule.due, self.sender.paused_until))
        if self._note_at is not None:
            at = min(at, self._note_at)
        return at - self._clock()

    def step(self) -> None:
        """Do what is due, and write one Event at most."""
        self.attribute_waiting()
        if not self._hold:
            self._send_next()
        if self._note_at is not None and self._clock() >= self._note_at:
            self.write_notes()
        self._sweep()

    # -- attribution ----------------------------------------------------------------------------------------

    def _track(self, tracked: Tracked) -> None:
        self.stages.track(tracked)
        self._count(tracked)
        self.awaiting.add(tracked)
        self._plan(tracked)
        self._forget_if_told(tracked)
        if self.stages.count(Stage.ENDED) > self._most_ended:
            self._let_go(self.stages.first(Stage.ENDED), "too many flows wait to be told")

    def attribute_waiting(self, *, final: bool = False, leave: bool = False) -> None:
        """Look who is at the ends of flows, if it is time; ``final``: nobody will be found later.

        ``leave``: except by the next start, to which what would be a guess now is left.
        """
        for looked in self.awaiting.look(final=final, leave=leave):
            self._plan(looked.tracked)
            if looked.decided:
                self._count(looked.tracked)
                self._forget_if_told(looked.tracked)

    def _count(self, tracked: Tracked) -> None:
        """Tally what has come since the last time, once it is known whose it is."""
        flow = tracked.flow
        if tracked.attributed and flow.count > tracked.tallied:
            self._tally.add(flow, tracked.ends, flow.count - tracked.tallied)
            tracked.tallied = flow.count
        if not tracked.attributed:
            return
        if flow.count > tracked.ambiguous and any(tracked.ends[side].kind is Kind.AMBIGUOUS for side in flow.sides):
            self._ambiguous += flow.count - tracked.ambiguous
            tracked.ambiguous = flow.count

    def _plan(self, tracked: Tracked) -> None:
        """Put those of a flow's Events on the schedule that have something to tell."""
        count = tracked.flow.count
        for record in tracked.records.values():
            # An Event that keeps being deleted is created once more for each chance that it gets.
            if record.given_up and self._chances.due(record.key, count):
                record.given_up = ""
                record.rounds = min(record.rounds, MAX_ROUNDS - 1)
            if record.has_news(count):
                self._plan_one(record, tracked.flow)
        self._unposted = self._schedule.unposted

    def _plan_one(self, record: EventRecord, flow: Flow) -> None:
        wrong = record.counts(flow.count) < record.sent_count or record.tells_of_another
        now, now_us = self._clock(), self._own_clock.now_us()
        self._schedule.plan(record, now=now, now_us=now_us, last=flow.ended or wrong)

    # -- sending --------------------------------------------------------------------------------------------

    def news(self) -> list[tuple[Tracked, EventRecord]]:
        """Events with something to tell, those that were dropped first in front."""
        return [
            (tracked, record)
            for tracked in sorted(self.stages, key=lambda tracked: tracked.flow.id)
            for record in tracked.records.values()
            if record.has_news(tracked.flow.count)
        ]

    def send(self, tracked: Tracked, record: EventRecord) -> Again | None:
        """Write one Event; None when that is settled."""
        flow = tracked.flow
        if not record.has_news(flow.count):
            return None
        if self._is_too_old(flow):
            self._give_up(tracked, record, "undeliverable for too long", logging.WARNING)
            return None
        text = record.message
        count = record.counts(flow.count)
        body = event_body(record, flow, self._style, tracked.peer_pod(record.end), wall_us=self._own_clock.wall_us)
        result = self.sender.send(body, record)
        match result:
            case Again():
                return result
            case GivenUp():
                level = logging.INFO if result.expected else logging.WARNING
                self._give_up(tracked, record, result.reason, level)
            case Sent():
                if self._chances.delivered(record.key):
                    self._observe("update" if record.sent_count else "create", "revived")
                record.sent_count, record.sent_message, record.sent_at_us = count, text, self._own_clock.now_us()
                record.writes += 1
                self._note(record)
                self._plan(tracked)
                self._forget_if_told(tracked)
        return None

    def _send_next(self) -> None:
        """Write the Event that is due, if any is."""
        now = self._clock()
        if self._schedule.due is None or self._schedule.due > now:
            return
        wait = self.sender.wait()
        if wait > 0:
            self.sender.paused_until = now + wait
            return
        taken = self._schedule.take(now)
        tracked = self.stages.get(taken[1][0]) if taken is not None else None
        if taken is None or tracked is None:
            return
        due, key = taken
        record = tracked.records.get(key[1:])
        again = self.send(tracked, record) if record is not None else None
        if record is None:
            return
        if again is not None:
            # In its old place when the server was away: what was dropped first is told first.
            at = due if again.unreachable else now + again.after
            self._schedule.again(key, at, posted=record.writes > 0, behind=not again.unreachable)
        self._unposted = self._schedule.unposted

    def _give_up(self, tracked: Tracked, record: EventRecord, reason: str, level: int) -> None:
        record.given_up = reason
        if self._chances.give_up(record.key, tracked.flow.count):
            self._observe("update" if record.sent_count else "create", "given_up")
        else:
            level = logging.DEBUG  # said when it was given up first
        pod = record.pod
        log.log(level, "giving up Event %s of %s/%s: %s", record.name, pod.namespace, pod.name, reason)
        self._note(record)
        self._forget_if_told(tracked)

    def _note(self, record: EventRecord) -> None:
        self._outbox.note(record)
        if self._note_at is None:
            self._note_at = self._clock() + _NOTE_INTERVAL

    def write_notes(self) -> None:
        """Store what became of the writes so far."""
        self._note_at = None
        try:
            self._outbox.write_notes()
        except StateError as error:
            # Events hold absolute counts: should this be forgotten, they are written once more.
            log.debug("what was delivered is not noted: %s", error)

    # -- letting go -----------------------------------------------------------------------------------------

    def _forget_if_told(self, tracked: Tracked) -> None:
        flow = tracked.flow
        if not flow.ended or not tracked.settled or tracked.has_news():
            return
        if flow.last_us < self.settled_us:
            self._forget(flow.id)
            return
        self.stages.rest(tracked)
        if self.stages.count(Stage.RESTING) > self._most_ended:
            self._forget(self.stages.first(Stage.RESTING).flow.id)

    def _forget(self, flow_id: int) -> None:
        try:
            self._outbox.forget([flow_id])
        except StateError:
            return  # the sweep tries again
        tracked = self.stages.get(flow_id)
        for record in tracked.records.values() if tracked is not None else ():
            self._chances.forget(record.key)
        self.stages.drop(flow_id)
        self.awaiting.drop(flow_id)

    def _let_go(self, tracked: Tracked, reason: str) -> None:
        """Give up all that is left to tell of a flow."""
        for record in tracked.records.values():
            if record.has_news(tracked.flow.count):
                self._give_up(tracked, record, reason, logging.WARNING)
        if tracked.flow.ended and not tracked.settled:
            self._observe("create", "given_up")
            self._forget(tracked.flow.id)

    def _sweep(self) -> None:
        """Let go of what cannot be told any more, also of what never comes to its turn while the cluster is away."""
        now = self._clock()
        if now < self._sweep_at:
            return
        self._sweep_at = now + _SWEEP_INTERVAL
        for tracked in list(self.stages):
            if self._is_too_old(tracked.flow):
                self._let_go(tracked, "undeliverable for too long")
            if tracked.flow.id in self.stages:
                self._forget_if_told(tracked)
                self.awaiting.ask_again(tracked)

    def _is_too_old(self, flow: Flow) -> bool:
        # How long ago an earlier boot was, only the wall clock says: it may be wrong until it has been set.
        since_us = max(flow.last_us, self._own_clock.booted_us())
        return (self._own_clock.now_us() - since_us) / 1e6 > self._give_up_after
