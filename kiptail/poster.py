"""Delivery of committed flows as Events: who is told, when, how often, and until when it is tried.

One thread, one request at a time: an Event is never in flight twice, and the flows that were dropped first are
told first. Whatever it has to tell is in the store, so an outage or a crash delays Events and loses none.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kiptail.agenda import FIRST_UPDATES, Agenda
from kiptail.delivery import EventSink
from kiptail.errors import StateError
from kiptail.event import EventRecord, EventStyle, event_body
from kiptail.ledger import Flow
from kiptail.placing import Locate, Outbox, Placer, Tracked
from kiptail.sending import Again, GivenUp, Sender, Sent

__all__ = ["Poster", "Progress"]

log = logging.getLogger(__name__)

#: So long a flow's Events wait for a name, or for news of a pod that has just started, in seconds …
PATIENCE = 2.0
#: … and so long while no such news can arrive.
PATIENCE_WHILE_BLIND = 60.0
#: So long a request that is under way on a stop is waited for, in seconds.
REQUEST_PATIENCE = 2.0
#: How often flows that wait are looked at again, in seconds.
_PLACE_INTERVAL = 0.1
#: How often flows that cannot be told are looked for, in seconds.
_SWEEP_INTERVAL = 60.0


@dataclass(slots=True)
class Progress:
    """How delivery goes, for status and metrics; written by the poster's thread only."""

    #: Events that were never written.
    untold: int = 0
    #: Flows whose ends are not decided yet.
    unplaced: int = 0
    #: Why requests do not succeed at present, or "".
    trouble: str = ""


class Poster:
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
        first_updates: Sequence[float] = FIRST_UPDATES,
        hold: bool = False,
        paced: bool = True,
        observe: Callable[[str, str], None] = lambda operation, result: None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """``repeat_interval`` and ``give_up_after`` are in seconds; ``hold`` sends nothing before :meth:`finish`."""
        self._outbox, self._style, self._give_up_after = outbox, style, give_up_after
        self._hold, self._observe = hold, observe
        self._clock, self._wall = clock, wall_clock
        self._placer = Placer(locate, outbox, style)
        self._agenda = Agenda(repeat_interval, first_updates)
        self._sender = Sender(sink, paced=paced, observe=observe, clock=clock)

        self._tracked: dict[int, Tracked] = {}
        self._unplaced: dict[int, Tracked] = {}
        #: Placed, but a name may still come.
        self._unnamed: dict[int, Tracked] = {}
        #: Not looked at yet.
        self._fresh: list[Tracked] = []
        self._place_at = self._place_not_before = 0.0
        self._sweep_at = clock() + _SWEEP_INTERVAL
        self.progress = Progress()

        self._wakeup = threading.Condition()
        self._inbox: dict[int, Flow] = {}
        self._claimed: set[str] = set()
        self._finish_by: float | None = None
        self._drain = False
        self._stop_draining: Callable[[], bool] = lambda: False
        self._thread = threading.Thread(target=self._run, name="poster", daemon=True)

    # -- called from other threads --------------------------------------------------------------------------

    def restore(self, flow: Flow, states: dict[str, str], records: Iterable[EventRecord]) -> None:
        """Take up a stored flow, a copy as for :meth:`offer`; before :meth:`start`."""
        self._track(Tracked.restored(flow, self._clock(), states, records))

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def offer(self, flows: Iterable[Flow]) -> None:
        """Flows that were committed, as copies that nobody changes any more."""
        with self._wakeup:
            self._inbox.update((flow.id, flow) for flow in flows)
            self._wakeup.notify()

    def reconsider(self, addresses: Iterable[str]) -> None:
        """These addresses got an owner: where nobody was found, it may have been this one all along."""
        with self._wakeup:
            self._claimed.update(addresses)
            self._wakeup.notify()

    def wake(self) -> None:
        """The index or a name has news."""
        with self._wakeup:
            self._place_at = 0.0
            self._wakeup.notify()

    def finish(
        self,
        timeout: float,
        *,
        drain: bool = False,
        stop: Callable[[], bool] = lambda: False,
        abort: Callable[[], None] | None = None,
    ) -> int:
        """Send the last counts and stop, within ``timeout`` seconds; returns how many Events are left unsent.

        ``drain``: the journal is read to its end and that was all; failures are tried again until the time is up
        or ``stop`` says so. Otherwise a request that gets no answer is broken off by ``abort``.
        """
        self._stop_draining = stop
        with self._wakeup:
            self._finish_by = self._clock() + timeout
            self._drain = drain
            self._wakeup.notify()
        give_up_at = self._clock() + timeout + 15
        while self._thread.is_alive() and self._clock() < give_up_at:
            self._thread.join(0.05)
            begun = self._sender.busy_since
            hangs = begun is not None and self._clock() - begun > REQUEST_PATIENCE
            if abort is not None and hangs and (not drain or stop()):
                abort()
                abort = None
        return len(self._news()) + len(self._unplaced)

    # -- the thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._wakeup:
                while not (self._inbox or self._claimed or self._finish_by is not None):
                    pause = self._pause()
                    if pause <= 0:
                        break
                    self._wakeup.wait(pause)
                arrived, self._inbox = self._inbox, {}
                claimed, self._claimed = self._claimed, set()
                finishing = self._finish_by is not None
            if claimed:
                self._doubt(claimed)  # first: a flow that is told and ended is forgotten
            for flow in arrived.values():
                self._arrive(flow)
            if finishing:
                self._finish()
                return
            self._place_waiting()
            if not self._hold:
                self._send_next()
            self._sweep()

    def _pause(self) -> float:
        """Seconds until there is something to do."""
        now = self._clock()
        at = self._sweep_at
        if self._fresh:
            return 0.0
        if self._unplaced or (self._unnamed and self._place_at == 0):
            at = min(at, self._next_look())
        if self._agenda.due is not None and not self._hold:
            at = min(at, max(self._agenda.due, self._sender.paused_until))
        return at - now

    def _arrive(self, flow: Flow) -> None:
        tracked = self._tracked.get(flow.id)
        if tracked is None:
            tracked = Tracked(flow, self._clock())
        else:
            tracked.flow = flow
        self._track(tracked)

    def _track(self, tracked: Tracked) -> None:
        self._tracked[tracked.flow.id] = tracked
        if not tracked.placed and tracked.flow.id not in self._unplaced:
            self._unplaced[tracked.flow.id] = tracked
            self._fresh.append(tracked)
        self._plan(tracked)
        self._forget_if_told(tracked)

    def _doubt(self, addresses: set[str]) -> None:
        for tracked in list(self._tracked.values()):
            if tracked.forget_strangers(addresses):
                self._unplaced[tracked.flow.id] = tracked
                self._place_at = 0.0

    # -- placing --------------------------------------------------------------------------------------------

    def _place_waiting(self, *, final: bool = False) -> None:
        now = self._clock()
        if final or now >= self._next_look():
            for tracked in list(self._unnamed.values()):
                if self._placer.rename(tracked):
                    del self._unnamed[tracked.flow.id]
                self._plan(tracked)
            looked_at = list(self._unplaced.values())
            self._place_at = now + _PLACE_INTERVAL
        else:
            looked_at = self._fresh
        self._fresh = []
        if looked_at and self._placer.ready():
            self._place(looked_at, now, final=final)
            # A crowd of strangers must not cost more than a tenth of the time.
            self._place_not_before = now + 10 * (self._clock() - now)
        self.progress.unplaced = len(self._unplaced)

    def _place(self, looked_at: Iterable[Tracked], now: float, *, final: bool) -> None:
        patience = PATIENCE if self._placer.current() else PATIENCE_WHILE_BLIND
        for tracked in looked_at:
            try:
                placed = self._placer.place(tracked, patient=not final and now - tracked.since < patience)
            except StateError:
                self._place_at = now + 1.0  # nothing uncommitted is sent; the journal loop says why
                return
            self._plan(tracked)
            if placed:
                self._unplaced.pop(tracked.flow.id, None)
                if any(end.unnamed for end in tracked.ends.values()):
                    self._unnamed[tracked.flow.id] = tracked
                self._forget_if_told(tracked)

    def _next_look(self) -> float:
        """When those that wait are looked at again."""
        return max(self._place_at, self._place_not_before)

    def _plan(self, tracked: Tracked) -> None:
        """Put those of a flow's Events on the agenda that have something to tell."""
        for record in tracked.records.values():
            if record.has_news(tracked.flow.count):
                self._agenda.plan(record, now=self._clock(), wall_us=self._wall_us())
        self.progress.untold = self._agenda.untold

    # -- sending --------------------------------------------------------------------------------------------

    def _send_next(self) -> None:
        """Write the Event that is due, if any is."""
        now = self._clock()
        if self._agenda.due is None or self._agenda.due > now:
            return
        wait = self._sender.wait()
        if wait > 0:
            self._sender.paused_until = now + wait
            return
        taken = self._agenda.take(now)
        tracked = self._tracked.get(taken[1][0]) if taken is not None else None
        if taken is None or tracked is None:
            return
        due, key = taken
        record = tracked.records[key[1]]
        again = self._send(tracked, record)
        if again is not None:
            # In its old place when the server was away: what was dropped first is told first.
            at = due if again.unreachable else now + again.after
            self._agenda.again(key, at, told=record.writes > 0, behind=not again.unreachable)
        self.progress.untold = self._agenda.untold

    def _send(self, tracked: Tracked, record: EventRecord) -> Again | None:
        """Write one Event; None when that is settled."""
        flow = tracked.flow
        if not record.has_news(flow.count):
            return None
        if self._is_too_old(flow):
            self._give_up(tracked, record, "undeliverable for too long", logging.WARNING)
            return None
        text = record.message
        result = self._sender.send(event_body(record, flow, self._style, tracked.peer_pod(record.end)), record)
        self.progress.trouble = self._sender.trouble
        match result:
            case Again():
                return result
            case GivenUp():
                level = logging.INFO if result.expected else logging.WARNING
                self._give_up(tracked, record, result.reason, level)
            case Sent():
                record.sent_count, record.sent_message, record.sent_at_us = flow.count, text, self._wall_us()
                record.writes += 1
                self._save(record)
                self._plan(tracked)
                self._forget_if_told(tracked)
        return None

    def _give_up(self, tracked: Tracked, record: EventRecord, reason: str, level: int) -> None:
        record.given_up = reason
        self._observe("update" if record.sent_count else "create", "given_up")
        pod = record.pod
        log.log(level, "giving up Event %s of %s/%s: %s", record.name, pod.namespace, pod.name, reason)
        self._save(record)
        self._forget_if_told(tracked)

    def _save(self, record: EventRecord) -> None:
        try:
            self._outbox.save_record(record)
        except StateError as error:
            # The Event holds an absolute count: should this be forgotten, it is written once more.
            log.debug("delivery of Event %s is not noted: %s", record.name, error)

    # -- letting go -----------------------------------------------------------------------------------------

    def _forget_if_told(self, tracked: Tracked) -> None:
        flow_id = tracked.flow.id
        if tracked.flow.ended and flow_id not in self._unplaced and not tracked.has_news():
            self._forget(flow_id)

    def _forget(self, flow_id: int) -> None:
        try:
            self._outbox.forget([flow_id])
        except StateError:
            return  # the sweep tries again
        for register in (self._tracked, self._unplaced, self._unnamed):
            register.pop(flow_id, None)

    def _sweep(self) -> None:
        """Let go of what cannot be told any more, also of what never comes to its turn while the cluster is away."""
        now = self._clock()
        if now < self._sweep_at:
            return
        self._sweep_at = now + _SWEEP_INTERVAL
        for tracked in list(self._tracked.values()):
            if self._is_too_old(tracked.flow):
                for record in tracked.records.values():
                    if record.has_news(tracked.flow.count):
                        self._give_up(tracked, record, "undeliverable for too long", logging.WARNING)
                if tracked.flow.ended and tracked.flow.id in self._unplaced:
                    self._observe("create", "given_up")
                    self._forget(tracked.flow.id)
                    continue
            self._forget_if_told(tracked)

    def _is_too_old(self, flow: Flow) -> bool:
        return self._wall() - flow.last_us / 1e6 > self._give_up_after

    def _wall_us(self) -> int:
        return round(self._wall() * 1e6)

    # -- the end --------------------------------------------------------------------------------------------

    def _news(self) -> list[tuple[Tracked, EventRecord]]:
        """Events with something to tell, those that were dropped first in front."""
        return [
            (tracked, record)
            for _, tracked in sorted(self._tracked.items())
            for record in tracked.records.values()
            if record.has_news(tracked.flow.count)
        ]

    def _finish(self) -> None:
        """Send every last count, until the time is up or, unless draining, the server is away."""
        while self._drain and self._may_go_on() and not self._placer.ready():
            time.sleep(0.02)
        patient_until = self._clock() + PATIENCE
        while (
            self._drain
            and self._may_go_on()
            and self._unplaced
            and (self._clock() < patient_until or not self._placer.current())
        ):
            self._place_waiting()
            time.sleep(0.02)
        self._place_waiting(final=True)
        if self._sender.unreachable and not self._drain:
            return  # the next start goes on with what is stored
        waiting = [(0.0, turn, tracked, record) for turn, (tracked, record) in enumerate(self._news())]
        while waiting and self._may_go_on():
            at, turn, tracked, record = waiting[0]
            wait = at - self._clock()
            if wait <= 0:
                wait = self._sender.wait()
            if wait > 0:
                time.sleep(min(wait, 0.05))
                continue
            again = self._send(tracked, record)
            if again is None or not self._drain:
                heapq.heappop(waiting)
                if again is not None and again.unreachable:
                    return  # the next start goes on with what is stored
            elif not again.unreachable:
                heapq.heapreplace(waiting, (self._clock() + again.after, turn, tracked, record))

    def _may_go_on(self) -> bool:
        return self._finish_by is not None and self._clock() < self._finish_by and not self._stop_draining()
