"""Committed flows in, Events out: the state of one run's delivery, of one thread.

Flows come in by :meth:`Recorder.arrive`, and :meth:`Recorder.step` does the next thing that is due: find out who is
at their ends, write one Event, drop flows that are done with. Whatever there is to post is in the store, so an outage
or a crash delays Events and loses none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from kiptail.clock.own import OwnClock
from kiptail.errors import StateError
from kiptail.events.attribution import Attributor, Explain, Locate, Outbox, unexplained
from kiptail.events.awaiting import Awaiting
from kiptail.events.counting import Counting
from kiptail.events.delivery import Delivery, Notes
from kiptail.events.endpoint import Endpoint
from kiptail.events.event import EventRecord, EventStyle
from kiptail.events.explaining import Explaining
from kiptail.events.journaling import Journaling, RecordSink
from kiptail.events.muting import Muting
from kiptail.events.node_events import NodeBook, NodeEvents
from kiptail.events.progress import Progress
from kiptail.events.schedule import FIRST_UPDATES, Schedule
from kiptail.events.sorting import Sorting
from kiptail.events.stages import Stage, Stages, Tracked
from kiptail.events.tally import Tally
from kiptail.events.turns import Turns
from kiptail.events.why import reasons_of
from kiptail.events.wording import Wording
from kiptail.events.writer import EventSink, Sender
from kiptail.flows.flow import Flow
from kiptail.pods.ownership import NEVER

__all__ = ["Recorder"]

#: How often flows that cannot be posted are looked for, in seconds.
_EXPIRY_INTERVAL = 60.0


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
        explain: Explain = unexplained,
        clock: Callable[[], float] = time.monotonic,
        own_clock: OwnClock | None = None,
        records: RecordSink | None = None,
        node_book: NodeBook | None = None,
        anew: bool = False,
        muting: Muting | None = None,
    ) -> None:
        """``repeat_interval`` and ``give_up_after`` are in seconds; ``hold``: :meth:`step` sends nothing.

        ``most_ended`` bounds three numbers of flows: those that have ended and wait to be posted, those that rested and
        wait to be posted anew (of both, the oldest are given up), and those that rest (the oldest are dropped).
        ``remember`` stores what is known of pods, before a decision that hangs on it. ``uncut`` tells whether flows of
        an address have still to be cut by what is known of it. ``explain`` tells what to say of NetworkPolicies.
        ``own_clock`` is what flows' times are reckoned by. ``records`` takes flow records; without it there are none.
        ``node_book`` keeps Events of the Node; likewise. ``anew``: what an earlier run counted is counted once more.
        ``muting`` tells which Events are left out.
        """
        self._outbox, self._most_ended, self._clock = outbox, most_ended, clock
        self.stages = Stages()
        own_clock = own_clock or OwnClock()
        notes = Notes(outbox, clock)
        muting = muting or Muting()
        wording = Wording(style, self.stages, repeat_interval=repeat_interval)
        attributor = Attributor(locate, outbox, wording, self.stages, remember=remember, explain=explain, muting=muting)
        self.awaiting = Awaiting(attributor, self.stages, clock=clock, uncut=uncut)
        self.explaining = Explaining(attributor, clock=clock)
        self._sorting = Sorting(muting, Counting(Tally() if tally is None else tally), notes)
        sender = Sender(sink, paced=paced, observe=observe, clock=clock)
        self.delivery = Delivery(
            self.stages,
            sender,
            Turns(Schedule(repeat_interval, first_updates), sender, hold=hold, clock=clock),
            notes,
            wording=wording,
            give_up_after=give_up_after,
            observe=observe,
            clock=clock,
            own_clock=own_clock,
            mute=self._sorting.mute,
        )
        self.journaling = Journaling(
            records, self.stages, notes, style=style, repeat_interval=repeat_interval, clock=clock, own_clock=own_clock
        )
        self.node_events = NodeEvents(
            node_book,
            sender,
            Turns(Schedule(repeat_interval, first_updates), sender, hold=hold, clock=clock),
            style=style,
            anew=anew,
            clock=clock,
            own_clock=own_clock,
        )
        self._expire_at = clock() + _EXPIRY_INTERVAL
        #: No change of hands before this time (µs since the epoch) will turn up any more.
        self.settled_us = NEVER

    @property
    def progress(self) -> Progress:
        """How delivery goes; may be asked for by other threads."""
        return Progress(
            unposted=self.delivery.unposted,
            unattributed=len(self.awaiting),
            ended=self.stages.count(Stage.ENDED),
            ambiguous=self._sorting.counting.ambiguous,
            reattributed=self.awaiting.reattributed,
            trouble=self.delivery.sender.trouble,
            records=self.journaling.counts,
            muted=dict(self._sorting.counting.muted),
        )

    # -- what comes in --------------------------------------------------------------------------------------

    def restore(self, flow: Flow, endpoints: Mapping[str, Endpoint], records: Iterable[EventRecord]) -> None:
        """Take up a stored flow, a copy as for :meth:`arrive`."""
        stored = {(record.end, record.pod.uid): record for record in records}
        tracked = Tracked(flow, self._clock(), dict(endpoints), stored, why=reasons_of(stored.values()))
        self.delivery.restore(tracked)
        self.journaling.restore(tracked)
        self.awaiting.attributor.wording.restore(tracked)
        self._sorting.counting.restored(tracked)
        if flow.last_us >= self.settled_us:
            self.awaiting.reopen(tracked)
        self._track(tracked)

    def arrive(self, flow: Flow) -> None:
        """A flow that was committed, as a copy that nobody changes any more."""
        tracked = self.stages.get(flow.id)
        if tracked is None:
            tracked = Tracked(flow, self._clock())
            self._sorting.counting.arrived(tracked)
        else:
            before, tracked.flow = tracked.flow, flow
            self._sorting.counting.changed(tracked)
            self.awaiting.changed(tracked, before)
        self._track(tracked)

    def arrived(self) -> None:
        """All flows of a commit have come."""
        self._sorting.counting.all_arrived()

    def rename_strangers(self) -> None:
        """The cluster has other names than before: addresses in Events' texts may have one now."""
        for tracked in self.awaiting.names.rename_strangers():
            self.delivery.plan(tracked)

    def _track(self, tracked: Tracked) -> None:
        self.stages.track(tracked)
        self._sorting.count(tracked)
        self.node_events.plan(tracked)
        self.awaiting.add(tracked)
        self.delivery.plan(tracked)
        self.journaling.plan(tracked)
        self._retire(tracked)
        for stage in (Stage.ENDED, Stage.REOPENED):
            if self.stages.count(stage) > self._most_ended:
                self._give_up(self.stages.first(stage), "too many flows wait to be posted")

    # -- what is done ---------------------------------------------------------------------------------------

    def pause(self) -> float:
        """Seconds until there is something to do."""
        parts = (self.awaiting, self.explaining, self.delivery, self.delivery.notes, self.journaling, self.node_events)
        dues = (self._expire_at, *(part.due for part in parts))
        return min(due for due in dues if due is not None) - self._clock()

    def step(self) -> None:
        """Do what is due, and write one Event at most."""
        self.attribute_waiting()
        for written in self.journaling.write_due():
            self._retire(written)
        self.send_next()
        self.delivery.notes.write_if_due()
        self._expire()

    def attribute_waiting(self, *, final: bool = False, leave: bool = False) -> None:
        """Look who is at the ends of flows, if it is time; ``final``: nobody will be found later.

        ``leave``: except by the next start, to which what would be a guess now is left.
        """
        for tracked in self._sorting.answered(self.stages):
            self.delivery.plan(tracked)
        for looked in self.awaiting.look(final=final, leave=leave):
            if looked.decided:
                self.explaining.begin(looked.tracked)
                self._sorting.count(looked.tracked)
            self.delivery.plan(looked.tracked)
            self.journaling.plan(looked.tracked)
            if looked.decided:
                self.node_events.plan(looked.tracked)
                self._retire(looked.tracked)
        for tracked in self.explaining.look():
            self._sorting.count(tracked)
            self.delivery.plan(tracked)

    def send_next(self) -> None:
        """Write the Event that is due, if any is, and the Node's that is."""
        settled = self.delivery.send_next()
        if settled is not None:
            self._retire(settled)
        for flow_id in self.node_events.step():
            released = self.stages.get(flow_id)
            if released is not None:
                self._retire(released)

    # -- what is over ---------------------------------------------------------------------------------------

    def _retire(self, tracked: Tracked) -> None:
        """Let a flow that has ended and is posted rest, or drop it where nothing can concern it any more."""
        if not tracked.is_done() or self.journaling.holds(tracked) or self.node_events.holds(tracked):
            return
        if tracked.flow.last_us < self.settled_us:
            self._drop(tracked)
            return
        self.stages.rest(tracked)
        # In the last round nothing comes in, and the next start may still learn something of those that rest.
        if self.stages.count(Stage.RESTING) > self._most_ended and not self.delivery.turns.ending:
            self._drop(self.stages.first(Stage.RESTING))

    def _drop(self, tracked: Tracked) -> None:
        flow_id = tracked.flow.id
        try:
            self._outbox.forget([flow_id])
        except StateError:
            return  # the sweep tries again
        self._sorting.counting.count(tracked)
        self.delivery.forget(tracked)
        self.awaiting.attributor.wording.alike.forget(flow_id)
        self.journaling.give_up(tracked)
        self.stages.drop(flow_id)
        self.awaiting.drop(flow_id)
        self.explaining.drop(flow_id)
        self.node_events.forget(flow_id)

    def _give_up(self, tracked: Tracked, reason: str) -> None:
        """Give up all that a flow's Events, and its records once it has ended, have still to say."""
        if tracked.is_pending():
            self.delivery.give_up(tracked, reason)
        if tracked.flow.ended:
            self.journaling.give_up(tracked)
        self._retire(tracked)
        if tracked.flow.ended and not tracked.settled:
            self.delivery.observe("create", "given_up")
            self._drop(tracked)

    def _expire(self) -> None:
        """Give up what cannot be posted any more, also of what never comes to its turn while the cluster is away."""
        now = self._clock()
        if now < self._expire_at:
            return
        self._expire_at = now + _EXPIRY_INTERVAL
        for tracked in list(self.stages):
            if self.delivery.is_too_old(tracked.flow):
                self._give_up(tracked, "undeliverable for too long")
            if tracked.flow.id in self.stages:
                self._retire(tracked)
                self.awaiting.ask_again(tracked)
        self.node_events.expire(self.delivery.give_up_after)
