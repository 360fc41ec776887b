"""Delivery of committed flows as Events: who is told, when, how often, and until when it is tried.

One thread, one request at a time: an Event is never in flight twice, and the flows that were dropped first are
told first. Whatever it has to tell is in the store, so an outage or a crash delays Events and loses none.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kiptail.delivery import EventSink, Outcome, Result, deliver
from kiptail.errors import StateError
from kiptail.event import EventRecord, EventStyle, event_body
from kiptail.ledger import Flow
from kiptail.pacing import Backoff, Schedule, TokenBucket
from kiptail.placing import Locate, Outbox, Placer, Tracked

__all__ = ["Poster", "Progress"]

log = logging.getLogger(__name__)

#: An Event's first updates follow the previous write after so many seconds, so that a first look at it shows a
#: true count; later ones follow after the repeat interval.
FIRST_UPDATES = (2.0, 8.0, 32.0)

#: So long a flow's Events wait for a name, or for news of a pod that has just started, in seconds.
PATIENCE = 2.0
#: How often flows that wait are looked at again, in seconds.
_PLACE_INTERVAL = 0.1

#: Back-off between tries while the API server does not take a request, in seconds; doubles up to the cap.
BACKOFF_FIRST, BACKOFF_CAP = 0.2, 5.0
#: An Event that somebody else wrote at the same moment is written again after so many seconds.
CONFLICT_RETRY = 1.0
#: A missing right is tried again after so many seconds.
FORBIDDEN_RETRY = 60.0
#: The longest that a server's Retry-After is believed, in seconds.
RETRY_AFTER_CAP = 60.0

#: An Event that the API server no longer has is created anew at most so often.
MAX_ROUNDS = 3


@dataclass(slots=True)
class Progress:
    """How delivery goes, for status and metrics; written by the poster's thread only."""

    #: Events with something that the API server does not have yet and that is due.
    waiting: int = 0
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
        self._sink, self._outbox, self._style = sink, outbox, style
        self._placer = Placer(locate, outbox, style)
        self._repeat_interval, self._give_up_after = repeat_interval, give_up_after
        self._first_updates = tuple(first_updates)
        self._hold, self._observe = hold, observe
        self._clock, self._wall = clock, wall_clock
        self._bucket = TokenBucket(50, 100, clock=clock) if paced else None

        self._tracked: dict[int, Tracked] = {}
        self._unplaced: dict[int, Tracked] = {}
        #: Events with news, by flow and side.
        self._schedule: Schedule[tuple[int, str]] = Schedule()
        self._place_at = 0.0
        self._paused_until = 0.0
        self._backoff = Backoff(BACKOFF_FIRST, BACKOFF_CAP)
        self.progress = Progress()

        self._wakeup = threading.Condition()
        self._inbox: list[Flow] = []
        self._finish_by: float | None = None
        self._drain = False
        self._stop_draining: Callable[[], bool] = lambda: False
        self._thread = threading.Thread(target=self._run, name="poster", daemon=True)

    # -- called from other threads --------------------------------------------------------------------------

    def restore(self, flow: Flow, states: dict[str, str], records: Iterable[EventRecord]) -> None:
        """Take up a stored flow; before :meth:`start`."""
        self._track(Tracked.restored(flow, self._clock(), states, records))

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def offer(self, flows: Iterable[Flow]) -> None:
        """Flows that were committed, as copies that nobody changes any more."""
        with self._wakeup:
            self._inbox.extend(flows)
            self._wakeup.notify()

    def wake(self) -> None:
        """The index or a name has news."""
        with self._wakeup:
            self._place_at = 0.0
            self._wakeup.notify()

    def finish(self, timeout: float, *, drain: bool = False, stop: Callable[[], bool] = lambda: False) -> int:
        """Send the last counts and stop, within ``timeout`` seconds; returns how many Events are left unsent.

        ``drain``: the journal is read to its end and that was all; failures are tried again until the time is up
        or ``stop`` says so.
        """
        self._stop_draining = stop
        with self._wakeup:
            self._finish_by = self._clock() + timeout
            self._drain = drain
            self._wakeup.notify()
        self._thread.join(timeout + 15)  # one request may be under way
        return sum(
            record.has_news(tracked.flow.count)
            for tracked in list(self._tracked.values())
            for record in tracked.records.values()
        ) + len(self._unplaced)

    # -- the thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._wakeup:
                while not self._inbox and self._finish_by is None and (pause := self._pause()) > 0:
                    self._wakeup.wait(pause)
                arrived, self._inbox = self._inbox, []
                finishing = self._finish_by is not None
            for flow in arrived:
                self._arrive(flow)
            if finishing:
                self._finish()
                return
            self._place_waiting()
            if not self._hold:
                self._send_next()

    def _pause(self) -> float:
        """Seconds until there is something to do."""
        now = self._clock()
        pause = 60.0
        if self._unplaced:
            pause = min(pause, max(self._place_at - now, 0.0))
        if self._schedule.due is not None and not self._hold:
            pause = min(pause, max(self._schedule.due, self._paused_until) - now)
        return pause

    def _arrive(self, flow: Flow) -> None:
        tracked = self._tracked.get(flow.id)
        if tracked is None:
            tracked = Tracked(flow, self._clock())
        else:
            tracked.flow = flow
        self._track(tracked)

    def _track(self, tracked: Tracked) -> None:
        self._tracked[tracked.flow.id] = tracked
        if not tracked.placed:
            self._unplaced[tracked.flow.id] = tracked
            self._place_at = 0.0
        self._schedule_news(tracked)
        self._forget_if_told(tracked)

    # -- placing --------------------------------------------------------------------------------------------

    def _place_waiting(self, *, final: bool = False) -> None:
        now = self._clock()
        if not self._unplaced or (now < self._place_at and not final):
            return
        self._place_at = now + _PLACE_INTERVAL
        if self._placer.ready():
            for tracked in list(self._unplaced.values()):
                patient = not final and now - tracked.since < PATIENCE
                try:
                    placed = self._placer.place(tracked, patient=patient)
                except StateError:
                    self._place_at = now + 1.0  # nothing uncommitted is sent; the journal loop says why
                    break
                self._schedule_news(tracked)
                if placed:
                    del self._unplaced[tracked.flow.id]
                    self._forget_if_told(tracked)
        self.progress.unplaced = len(self._unplaced)

    def _schedule_news(self, tracked: Tracked) -> None:
        """Schedule those of a flow's Events that have something to tell."""
        for side, record in tracked.records.items():
            key = (tracked.flow.id, side)
            if key not in self._schedule and record.has_news(tracked.flow.count):
                due = self._clock()
                if record.writes:
                    due += max(0.0, self._interval(record.writes) - (self._wall() - record.sent_at_us / 1e6))
                self._schedule.add(key, due)
        self.progress.waiting = len(self._schedule)

    def _interval(self, writes: int) -> float:
        if writes <= len(self._first_updates):
            return min(self._first_updates[writes - 1], self._repeat_interval)
        return self._repeat_interval

    # -- sending --------------------------------------------------------------------------------------------

    def _send_next(self) -> None:
        """Send the Event that is due longest, if any is."""
        now = self._clock()
        if self._schedule.due is None or now < max(self._schedule.due, self._paused_until):
            return
        if self._bucket is not None and (delay := self._bucket.delay()) > 0:
            self._paused_until = now + delay
            return
        due, (flow_id, side) = self._schedule.pop()
        tracked = self._tracked.get(flow_id)
        if tracked is not None:
            retry = self._send(tracked, tracked.records[side])
            if retry is not None:
                self._schedule.add((flow_id, side), due if retry == 0 else now + retry)
        self.progress.waiting = len(self._schedule)

    def _send(self, tracked: Tracked, record: EventRecord) -> float | None:
        """Write one Event; None when that is settled, else after how many seconds to try it again.

        0.0 means: in its old place, for it was not this Event that failed but the server.
        """
        flow = tracked.flow
        if not record.has_news(flow.count):
            return None
        if self._wall() - flow.last_us / 1e6 > self._give_up_after:
            self._give_up(record, "undeliverable for too long")
            self._forget_if_told(tracked)
            return None
        self._placer.refresh_text(tracked, record)
        event = event_body(record, flow, self._style, tracked.peer_pod(record.end))
        outcome = deliver(self._sink, event, known=record.sent_count > 0, may_recreate=record.rounds < MAX_ROUNDS)
        self._observe(outcome.operation, outcome.result)
        record.rounds += outcome.recreated
        if outcome.result is not Result.OK:
            return self._failed(outcome, tracked, record)
        self._recovered()
        record.sent_count, record.sent_message = flow.count, record.message
        record.sent_at_us = round(self._wall() * 1e6)
        record.writes += 1
        self._save(record)
        self._schedule_news(tracked)
        self._forget_if_told(tracked)
        return None

    def _failed(self, outcome: Outcome, tracked: Tracked, record: EventRecord) -> float | None:
        where = f"to {outcome.operation} an Event in namespace {record.pod.namespace}"
        match outcome.result:
            case Result.SERVER_FAILS:
                pause = self._backoff.pause()
                if outcome.error is not None and outcome.error.retry_after is not None:
                    pause = max(pause, min(outcome.error.retry_after, RETRY_AFTER_CAP))
                self._paused_until = self._clock() + pause
                self._in_trouble(f"trying again {where}: {outcome.error}")
                return 0.0
            case Result.CONFLICT:
                return CONFLICT_RETRY
            case Result.FORBIDDEN:
                self._in_trouble(f"not allowed {where}, trying again every {FORBIDDEN_RETRY:.0f} s: {outcome.error}")
                return FORBIDDEN_RETRY
        self._give_up(record, str(outcome.error), quiet=outcome.result is Result.GONE)
        self._forget_if_told(tracked)
        return None

    def _give_up(self, record: EventRecord, reason: str, *, quiet: bool = False) -> None:
        record.given_up = reason
        self._observe("update" if record.sent_count else "create", "given_up")
        log.log(
            logging.INFO if quiet else logging.WARNING,
            "giving up Event %s of %s/%s: %s", record.name, record.pod.namespace, record.pod.name, reason,
        )  # fmt: skip
        self._save(record)

    def _save(self, record: EventRecord) -> None:
        try:
            self._outbox.save_record(record)
        except StateError as error:
            # The Event holds an absolute count: should this be forgotten, it is written once more.
            log.debug("delivery of Event %s is not noted: %s", record.name, error)

    def _forget_if_told(self, tracked: Tracked) -> None:
        if tracked.flow.ended and tracked.flow.id not in self._unplaced and not tracked.has_news():
            try:
                self._outbox.forget([tracked.flow.id])
            except StateError:
                return  # the next start finds it told and ended, and forgets it then
            self._tracked.pop(tracked.flow.id, None)

    def _in_trouble(self, text: str) -> None:
        if not self.progress.trouble:
            log.warning("%s", text)
        self.progress.trouble = text

    def _recovered(self) -> None:
        self._backoff.reset()
        if self.progress.trouble:
            log.info("the API server takes Events again")
            self.progress.trouble = ""

    # -- the end --------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Send every last count, until the time is up or, unless draining, the server fails."""
        while self._drain and not self._placer.ready() and self._may_go_on():
            time.sleep(0.02)
        self._place_waiting(final=True)
        left = [(t, r) for t in sorted(self._tracked.values(), key=lambda t: t.flow.id) for r in t.records.values()]
        for tracked, record in left:
            while self._may_go_on():
                wait = max(self._paused_until - self._clock(), self._bucket.delay() if self._bucket else 0.0)
                if wait > 0:
                    time.sleep(min(wait, 0.05))
                    continue
                retry = self._send(tracked, record)
                if retry is None:
                    break
                if retry == 0 and not self._drain:
                    return  # the server fails; the next start goes on with what is stored
                if retry >= FORBIDDEN_RETRY or not self._drain:
                    break
                self._paused_until = max(self._paused_until, self._clock() + retry)

    def _may_go_on(self) -> bool:
        return self._finish_by is not None and self._clock() < self._finish_by and not self._stop_draining()
