"""The delivery thread: committed flows in, Events out. What it does is the recorder's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from kiptail.events.awaiting import PATIENCE
from kiptail.events.endpoint import Endpoint
from kiptail.events.event import EventRecord
from kiptail.events.progress import Progress
from kiptail.events.recorder import Recorder
from kiptail.flows.flow import Flow

__all__ = ["Poster"]

#: So long a request that is under way on a stop is waited for, in seconds.
REQUEST_PATIENCE = 2.0
#: So long a run that ends with the journal waits for what NetworkPolicies say, in seconds.
DRAIN_EXPLAINING = 10.0
#: So long a journal that takes nothing is tried for the last records of all, in seconds.
RECORDS_PATIENCE = 1.0


@dataclass(slots=True)
class _Inbox:
    """What other threads have said and the poster has not taken in yet."""

    flows: dict[int, Flow] = field(default_factory=dict)
    #: Addresses of which something else is known than before.
    addresses: set[str] = field(default_factory=set)
    #: The index or a name has an answer that was waited for.
    answered: bool = False
    #: The cluster has other names than before.
    renamed: bool = False

    def __bool__(self) -> bool:
        return bool(self.flows or self.addresses or self.answered or self.renamed)


class Poster:
    """Runs the recorder in a thread of its own."""

    def __init__(self, recorder: Recorder, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._recorder, self._clock = recorder, clock
        self._wakeup = threading.Condition()
        self._inbox = _Inbox()
        self._finish_by: float | None = None
        self._drain = False
        self._stop_draining: Callable[[], bool] = lambda: False
        self._thread = threading.Thread(target=self._run, name="poster", daemon=True)

    @property
    def progress(self) -> Progress:
        """How delivery goes."""
        return self._recorder.progress

    # -- called from other threads --------------------------------------------------------------------------

    def restore(self, flow: Flow, endpoints: Mapping[str, Endpoint], records: Iterable[EventRecord]) -> None:
        """Take up a stored flow; before :meth:`start`."""
        self._recorder.restore(flow, endpoints, records)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def offer(self, flows: Iterable[Flow]) -> None:
        """Flows that were committed, as copies that nobody changes any more."""
        with self._wakeup:
            self._inbox.flows.update((flow.id, flow) for flow in flows)
            self._wakeup.notify()

    def reattribute(self, addresses: Iterable[str]) -> None:
        """Something else is known of these addresses than before: who was found there may be wrong."""
        with self._wakeup:
            self._inbox.addresses.update(addresses)
            self._wakeup.notify()

    def rename(self) -> None:
        """The cluster has other names than before."""
        with self._wakeup:
            self._inbox.renamed = True
            self._wakeup.notify()

    def settle(self, settled_us: int) -> None:
        """No change of hands before this time (µs since the epoch) will turn up any more."""
        self._recorder.settled_us = settled_us

    def wake(self) -> None:
        """The index or a name has an answer."""
        with self._wakeup:
            self._inbox.answered = True
            self._wakeup.notify()

    def finish(
        self,
        timeout: float,
        *,
        drain: bool = False,
        stop: Callable[[], bool] = lambda: False,
        abort: Callable[[], None] | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> int:
        """Send the last counts and stop, within ``timeout`` seconds; returns how many Events are left unsent.

        ``drain``: the journal is read to its end and that was all; failures are tried again until the time is up
        or ``stop`` says so. Otherwise a request that gets no answer is broken off by ``abort``. ``meanwhile`` is
        called again and again: what it offers is still taken.
        """
        self._stop_draining = stop
        with self._wakeup:
            self._finish_by = self._clock() + timeout
            self._drain = drain
            self._wakeup.notify()
        give_up_at = self._clock() + timeout + 15
        while self._thread.is_alive() and self._clock() < give_up_at:
            self._thread.join(0.05)
            meanwhile()
            begun = self._recorder.delivery.sender.busy_since
            hangs = begun is not None and self._clock() - begun > REQUEST_PATIENCE
            if abort is not None and hangs and (not drain or stop()):
                abort()
                abort = None
        return len(self._recorder.delivery.pending()) + len(self._recorder.awaiting)

    # -- the thread -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._wakeup:
                while not self._inbox and self._finish_by is None:
                    pause = self._recorder.pause()
                    if pause <= 0:
                        break
                    self._wakeup.wait(pause)
                finishing = self._finish_by is not None
            self._take_in()
            if finishing:
                self._finish()
                self._recorder.delivery.notes.write()
                return
            self._recorder.step()

    def _take_in(self) -> None:
        """Take note of what other threads have said."""
        with self._wakeup:
            inbox, self._inbox = self._inbox, _Inbox()
        if inbox.addresses:
            self._recorder.awaiting.reattribute(inbox.addresses)  # first: a flow that is posted and ended is dropped
        if inbox.renamed:
            self._recorder.rename_strangers()
        if inbox.answered:
            self._recorder.awaiting.look_again()
            self._recorder.explaining.look_again()
        for flow in inbox.flows.values():
            self._recorder.arrive(flow)
        self._recorder.arrived()

    def _finish(self) -> None:
        """Send every last count, until the time is up or, unless draining, the server is away."""
        recorder, delivery = self._recorder, self._recorder.delivery
        if self._drain:
            self._await_owners()
        self._take_in()
        recorder.attribute_waiting(final=True, leave=not self._drain)
        explained_by = self._clock() + DRAIN_EXPLAINING
        while self._drain and len(recorder.explaining) and self._may_go_on() and self._clock() < explained_by:
            self._take_in()
            recorder.attribute_waiting(final=True)
            time.sleep(0.02)
        recorder.journaling.write_all(RECORDS_PATIENCE)
        if delivery.sender.unreachable and not self._drain:
            return  # the next start goes on with what is stored
        delivery.last_round(retry=self._drain)
        recorder.node_events.last_round(retry=self._drain)
        while self._may_go_on() and (due := _first(delivery.due, recorder.node_events.due)) is not None:
            pause = due - self._clock()
            if pause > 0:
                time.sleep(min(pause, 0.05))
            else:
                recorder.send_next()

    def _await_owners(self) -> None:
        """Give those who may be found at the ends of flows the time that they have in a run that goes on."""
        awaiting = self._recorder.awaiting
        while self._may_go_on() and not awaiting.attributor.ready():
            time.sleep(0.02)
        patient_until = self._clock() + PATIENCE
        while (
            self._may_go_on()
            and len(awaiting)
            and (self._clock() < patient_until or not awaiting.attributor.current() or awaiting.uncut())
        ):
            self._take_in()
            self._recorder.attribute_waiting()
            if len(awaiting):
                time.sleep(0.02)

    def _may_go_on(self) -> bool:
        return self._finish_by is not None and self._clock() < self._finish_by and not self._stop_draining()


def _first(*dues: float | None) -> float | None:
    return min((due for due in dues if due is not None), default=None)
