"""Who is told, when, how often, and until when it is tried: the state of delivery, of one thread.

Flows come in by :meth:`Dispatcher.arrive`, and :meth:`Dispatcher.step` does the next thing that is due: find out
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
from kiptail.events.attribution import Locate, Outbox, Placer, Tracked
from kiptail.events.delivery import EventSink
from kiptail.events.endpoint import Endpoint, Kind
from kiptail.events.event import EventRecord, EventStyle, event_body
from kiptail.events.schedule import FIRST_UPDATES, Agenda
from kiptail.events.second_chance import SecondChances
from kiptail.events.tally import Tally
from kiptail.events.writer import MAX_ROUNDS, Again, GivenUp, Sender, Sent
from kiptail.flows.flow import Flow, FlowKey
from kiptail.pods.ownership import NEVER

__all__ = ["PATIENCE", "Dispatcher", "Progress"]

log = logging.getLogger(__name__)

#: So long a flow's Events wait for a name, or for news of a pod that has just started, in seconds …
PATIENCE = 2.0
#: … and so long while no such news can arrive.
PATIENCE_WHILE_BLIND = 60.0
#: How often flows that wait are looked at again, in seconds.
_PLACE_INTERVAL = 0.1
#: How often flows that cannot be told are looked for, in seconds.
_SWEEP_INTERVAL = 60.0
#: What became of a write is stored after so many seconds: many in one transaction, if there are many.
_NOTE_INTERVAL = 0.25


@dataclass(slots=True)
class Progress:
    """How delivery goes, for status and metrics."""

    #: Events that were never written.
    untold: int = 0
    #: Flows whose ends are not decided yet.
    unplaced: int = 0
    #: Flows that ended and wait to be told.
    ended: int = 0
    #: Drops that nobody could be blamed for, as either of several pods may have had an address; it only grows.
    ambiguous: int = 0
    #: Decisions that were taken back; it only grows.
    reattributed: int = 0
    #: Why requests do not succeed at present, or "".
    trouble: str = ""


class Dispatcher:
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
        self._clock, self._own_clock, self._uncut = clock, own_clock or OwnClock(), uncut
        self._tally = Tally() if tally is None else tally
        self._placer = Placer(locate, outbox, style, remember=remember, sent_before=self._sent_before)
        self._agenda = Agenda(repeat_interval, first_updates)
        self._chances = SecondChances(clock)
        self.sender = Sender(sink, paced=paced, observe=observe, clock=clock)

        self._tracked: dict[int, Tracked] = {}
        self._unplaced: dict[int, Tracked] = {}
        #: Placed, but a name may still come.
        self._unnamed: dict[int, Tracked] = {}
        #: Not looked at yet.
        self._fresh: list[Tracked] = []
        #: Those that have ended, in that order.
        self._ended: dict[int, Tracked] = {}
        #: Those that have ended and are delivered, but may still be cut or be somebody else's.
        self._resting: dict[int, Tracked] = {}
        #: Drops that were taken from a flow after they had been tallied, by its key, until that comes which has them.
        self._moved: Counter[FlowKey] = Counter()
        self._place_at = self._place_not_before = 0.0
        self._sweep_at = clock() + _SWEEP_INTERVAL
        #: When notes are written; None without any.
        self._note_at: float | None = None
        #: No change of hands before this time (µs since the epoch) will turn up any more.
        self.settled_us = NEVER
        self.progress = Progress()

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
        if tracked.placed:
            tracked.tallied = flow.count  # by an earlier run
            tracked.ambiguous = flow.count
        if flow.last_us >= self.settled_us and tracked.doubt(None, self._clock()):
            self._unplaced[flow.id] = tracked
        self._track(tracked)

    def arrive(self, flow: Flow) -> None:
        """A flow that was committed, as a copy that nobody changes any more."""
        tracked = self._tracked.get(flow.id)
        if tracked is None:
            tracked = Tracked(flow, self._clock())
            tracked.tallied = min(self._moved[flow.key], flow.count) if self._moved else 0
            self._moved[flow.key] -= tracked.tallied
        else:
            before, tracked.flow = tracked.flow, flow
            if tracked.tallied > flow.count:
                self._moved[flow.key] += tracked.tallied - flow.count
                tracked.tallied = flow.count
            if _told_of(flow) != _told_of(before):
                self._refresh(tracked)
            elif flow.spread is not None:
                self._placer.reword(tracked)
        self._track(tracked)

    def arrived(self) -> None:
        """All flows of a commit have come."""
        self._moved.clear()

    def doubt(self, addresses: set[str]) -> None:
        """Something else is known of these addresses than before: who was found there may be wrong."""
        for tracked in list(self._tracked.values()):
            if tracked.doubt(addresses, self._clock()):
                self._unplaced[tracked.flow.id] = tracked
                self.look_again()

    def rename_strangers(self) -> None:
        """The cluster has other names than before: addresses that are told of may have one now."""
        for tracked in list(self._tracked.values()):
            try:
                if self._placer.rename_strangers(tracked):
                    self._plan(tracked)
            except StateError:
                return  # what is not renamed now is still true

    def look_again(self) -> None:
        """The index or a name has news."""
        self._place_at = 0.0

    def pause(self) -> float:
        """Seconds until there is something to do."""
        if self._fresh:
            return 0.0
        at = self._sweep_at
        if self._unplaced or (self._unnamed and self._place_at == 0):
            at = min(at, self._next_look())
        if self._agenda.due is not None and not self._hold:
            at = min(at, max(self._agenda.due, self.sender.paused_until))
        if self._note_at is not None:
            at = min(at, self._note_at)
        return at - self._clock()

    def step(self) -> None:
        """Do what is due, and write one Event at most."""
        self.place_waiting()
        if not self._hold:
            self._send_next()
        if self._note_at is not None and self._clock() >= self._note_at:
            self.write_notes()
        self._sweep()

    # -- placing --------------------------------------------------------------------------------------------

    def unplaced(self) -> int:
        """How many flows wait for somebody to be found at their ends."""
        return len(self._unplaced)

    def uncut(self) -> bool:
        """Some of those have still to be cut."""
        return any(map(self._is_uncut, self._unplaced.values()))

    def _is_uncut(self, tracked: Tracked) -> bool:
        return any(self._uncut(tracked.address(side)) for side in tracked.sides)

    def index_ready(self) -> bool:
        """It can be said who is at a flow's ends."""
        return self._placer.ready()

    def _refresh(self, tracked: Tracked) -> None:
        """A flow has changed in another way than by a count."""
        tracked.doubt(None, self._clock())
        try:
            self._placer.refresh(tracked)
        except StateError:
            log.debug("flow %d will be looked at again", tracked.flow.id)
        self._unplaced[tracked.flow.id] = tracked
        self.look_again()

    def index_current(self) -> bool:
        """What cannot be said yet will be soon; when not, it is worth waiting longer."""
        return self._placer.current()

    def _track(self, tracked: Tracked) -> None:
        flow = tracked.flow
        self._tracked[flow.id] = tracked
        self._count(tracked)
        if not tracked.placed and flow.id not in self._unplaced:
            self._unplaced[flow.id] = tracked
            self._fresh.append(tracked)
        if flow.ended and flow.id not in self._resting:
            self._ended[flow.id] = tracked
        self._plan(tracked)
        self._forget_if_told(tracked)
        if len(self._ended) > self._most_ended:
            self._let_go(next(iter(self._ended.values())), "too many flows wait to be told")
        self.progress.ended = len(self._ended)

    def place_waiting(self, *, final: bool = False, leave: bool = False) -> None:
        """Look who is at the ends of flows, if it is time; ``final``: nobody will be found later.

        ``leave``: except by the next start, to which what would be a guess now is left.
        """
        now = self._clock()
        if final or now >= self._next_look():
            for tracked in list(self._unnamed.values()):
                try:
                    named = self._placer.rename(tracked)
                except StateError:
                    break
                if named:
                    del self._unnamed[tracked.flow.id]
                self._plan(tracked)
            looked_at = list(self._unplaced.values())
            self._place_at = now + _PLACE_INTERVAL
        else:
            looked_at = self._fresh
        self._fresh = []
        if looked_at and self._placer.ready():
            self._place(looked_at, now, final=final, leave=leave)
            # A crowd of strangers must not cost more than a tenth of the time.
            self._place_not_before = now + 10 * (self._clock() - now)
        self.progress.unplaced = len(self._unplaced)

    def _place(self, looked_at: Iterable[Tracked], now: float, *, final: bool, leave: bool) -> None:
        patience = PATIENCE if self._placer.current() else PATIENCE_WHILE_BLIND
        for tracked in looked_at:
            if leave and self._placer.contested(tracked):
                continue
            if self._is_uncut(tracked):
                continue  # it may be several flows
            known, before = tracked.placed, tracked.ends
            try:
                placed = self._placer.place(tracked, patient=not final and now - tracked.since < patience)
            except StateError:
                self._place_at = now + 1.0  # nothing uncommitted is sent; the journal loop says why
                return
            if known and any(end.pods != before[side].pods for side, end in tracked.ends.items()):
                self.progress.reattributed += 1
            self._plan(tracked)
            if placed:
                self._count(tracked)
                self._unplaced.pop(tracked.flow.id, None)
                if any(end.unnamed for end in tracked.ends.values()):
                    self._unnamed[tracked.flow.id] = tracked
                self._forget_if_told(tracked)

    def _sent_before(self, address: str, at_us: int) -> bool:
        """Somebody of whom nobody knows sent from the address before."""
        return any(
            tracked.address("src") == address
            and tracked.flow.opened_us < at_us
            and self._placer.unowned(tracked, "src")
            for tracked in self._tracked.values()
        )

    def _count(self, tracked: Tracked) -> None:
        """Tally what has come since the last time, once it is known whose it is."""
        flow = tracked.flow
        if tracked.placed and flow.count > tracked.tallied:
            self._tally.add(flow, tracked.ends, flow.count - tracked.tallied)
            tracked.tallied = flow.count
        if not tracked.placed:
            return
        if flow.count > tracked.ambiguous and any(tracked.ends[side].kind is Kind.AMBIGUOUS for side in flow.sides):
            self.progress.ambiguous += flow.count - tracked.ambiguous
            tracked.ambiguous = flow.count

    def _next_look(self) -> float:
        """When those that wait are looked at again."""
        return max(self._place_at, self._place_not_before)

    def _plan(self, tracked: Tracked) -> None:
        """Put those of a flow's Events on the agenda that have something to tell."""
        count = tracked.flow.count
        for record in tracked.records.values():
            # An Event that keeps being deleted is created once more for each chance that it gets.
            if record.given_up and self._chances.due(record.key, count):
                record.given_up = ""
                record.rounds = min(record.rounds, MAX_ROUNDS - 1)
            if record.has_news(count):
                self._plan_one(record, tracked.flow)
        self.progress.untold = self._agenda.untold

    def _plan_one(self, record: EventRecord, flow: Flow) -> None:
        wrong = record.counts(flow.count) < record.sent_count or record.tells_of_another
        now, now_us = self._clock(), self._own_clock.now_us()
        self._agenda.plan(record, now=now, now_us=now_us, last=flow.ended or wrong)

    # -- sending --------------------------------------------------------------------------------------------

    def news(self) -> list[tuple[Tracked, EventRecord]]:
        """Events with something to tell, those that were dropped first in front."""
        return [
            (tracked, record)
            for _, tracked in sorted(self._tracked.items())
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
        self.progress.trouble = self.sender.trouble
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
        if self._agenda.due is None or self._agenda.due > now:
            return
        wait = self.sender.wait()
        if wait > 0:
            self.sender.paused_until = now + wait
            return
        taken = self._agenda.take(now)
        tracked = self._tracked.get(taken[1][0]) if taken is not None else None
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
            self._agenda.again(key, at, told=record.writes > 0, behind=not again.unreachable)
        self.progress.untold = self._agenda.untold

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
        self._ended.pop(flow.id, None)
        self.progress.ended = len(self._ended)
        self._resting[flow.id] = tracked
        if len(self._resting) > self._most_ended:
            self._forget(next(iter(self._resting)))

    def _forget(self, flow_id: int) -> None:
        try:
            self._outbox.forget([flow_id])
        except StateError:
            return  # the sweep tries again
        tracked = self._tracked.get(flow_id)
        for record in tracked.records.values() if tracked is not None else ():
            self._chances.forget(record.key)
        for register in (self._tracked, self._unplaced, self._unnamed, self._ended, self._resting):
            register.pop(flow_id, None)
        self.progress.ended = len(self._ended)

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
        for flow_id, tracked in list(self._tracked.items()):
            if self._is_too_old(tracked.flow):
                self._let_go(tracked, "undeliverable for too long")
            if flow_id in self._tracked:
                self._forget_if_told(tracked)
                if tracked.ask_again():
                    self._unplaced[flow_id] = tracked

    def _is_too_old(self, flow: Flow) -> bool:
        # How long ago an earlier boot was, only the wall clock says: it may be wrong until it has been set.
        since_us = max(flow.last_us, self._own_clock.booted_us())
        return (self._own_clock.now_us() - since_us) / 1e6 > self._give_up_after


def _told_of(flow: Flow) -> tuple[object, ...]:
    """What decides whose a flow is and who is told; its count does not, unless there is none."""
    return (flow.sides, flow.opened_us, flow.mixed, not flow.count)
