"""The pods of this node by a watch, those at the other ends of flows by look-ups: what costs the API server least."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from kiptail.clock.own import OwnClock
from kiptail.pods.dual_stack import Sweep, SweepApi
from kiptail.pods.listwatch import PodApi, dated_by
from kiptail.pods.lookups import LookupApi, Lookups
from kiptail.pods.ownership import Hands, Interval, Owned, Pod, hands_of, owned
from kiptail.pods.ranges import PodRanges
from kiptail.pods.reflector import AddressNames, PodWatch
from kiptail.pods.remote import RemotePods
from kiptail.pods.stats import IndexStats

__all__ = ["IndexApi", "NodeIndex"]

log = logging.getLogger(__name__)


class IndexApi(PodApi, LookupApi, SweepApi, Protocol):
    """What is asked of the API server."""


class NodeIndex:
    """Who owned an address, for the addresses that this node's drops are about."""

    def __init__(
        self,
        api: IndexApi,
        *,
        node: str,
        label: str | None,
        ranges: PodRanges,
        names: AddressNames,
        on_change: Callable[[set[str]], None],
        on_ready: Callable[[], None],
        on_found: Callable[[Iterable[str]], None],
        how_to_grant: Callable[[], str],
        unhurried: bool = False,
        observe: Callable[[str], None] = lambda reason: None,
        clock: OwnClock | None = None,
    ) -> None:
        """``node`` is this node's name.

        The callbacks run in the index's threads. ``on_change`` gets the addresses of which more, or something else, is
        known than before; ``on_found`` those that need not be waited for any longer.
        ``how_to_grant``: what gives the right to look up pods of other nodes, asked when it is missing.
        ``unhurried``: nobody waits for Events at present, so that all look-ups are worth waiting for.
        ``clock`` is what drops' times are told by.
        """
        self._clock = clock or OwnClock()
        self._unhurried = unhurried
        self._node, self._ranges, self._names = node, ranges, names
        self._on_change, self._on_found = on_change, on_found
        self._watch = PodWatch(
            api,
            field_selector=f"spec.nodeName={node}",
            label=label,
            node=node,
            ranges=ranges,
            on_change=self._local_change,
            on_ready=on_ready,
            observe=observe,
            clock=self._clock,
        )
        self._lookups = Lookups(
            api,
            label=label,
            found=self._looked_up,
            on_answer=on_found,
            how_to_grant=how_to_grant,
            clock=self._clock,
        )
        self._sweep = Sweep(api, label=label, found=self._swept, on_answer=on_found, clock=self._clock)
        #: For what look-ups found.
        self._lock = threading.Lock()
        self._remote = RemotePods()

    # -- the run --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to list and watch."""
        self._watch.start()

    def stop(self, timeout: float = 2.0) -> None:
        """End the threads; requests under way are not waited for any longer than ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        for end in (self._watch.stop, self._lookups.close, self._sweep.close):
            end(max(0.0, deadline - time.monotonic()))

    @property
    def trouble(self) -> str:
        """Why the node's pods are not followed at present, or ""."""
        return self._watch.trouble

    def __len__(self) -> int:
        return len(self._watch)

    def stats(self) -> IndexStats:
        """For the metrics."""
        with self._lock:
            remote = len(self._remote)
        return IndexStats(
            pods=len(self._watch),
            remote_pods=remote,
            age_s=self._watch.age(),
            refused=self._watch.refused + self._lookups.refused + self._sweep.refused,
            lookups=dict(self._lookups.results),
            pending=self._lookups.pending + self._sweep.pending,
            sweeps=self._sweep.sweeps,
            sweep_pods=self._sweep.pods,
            sweep_s=self._sweep.seconds,
        )

    # -- memory ---------------------------------------------------------------------------------------------

    def restore(self, intervals: Iterable[tuple[str, Interval]], *, seen_us: int) -> None:
        """As :meth:`kiptail.pods.ownership.Ownership.restore`; before :meth:`start`."""
        self._watch.restore(intervals, seen_us=seen_us)

    def take_local(self) -> dict[str, tuple[Interval, ...]]:
        """As :meth:`kiptail.pods.ownership.Ownership.take_local`."""
        return self._watch.take_local()

    def forget(self, before_us: int) -> None:
        """As :meth:`kiptail.pods.ownership.Ownership.forget`, for all that is known."""
        self._watch.forget(before_us)
        with self._lock:
            self._remote.forget(before_us)

    # -- who owned an address -------------------------------------------------------------------------------

    def ready(self) -> bool:
        """The node's pods were listed once."""
        return self._watch.ready()

    def current(self) -> bool:
        """News of the node's pods arrives at present, and nothing else is worth waiting for."""
        return self._watch.current() and not (self._unhurried and self._lookups.pending)

    def has_node(self, name: str) -> bool:
        """Some pod runs on this node."""
        return self._watch.has_node(name)

    def fresh_us(self) -> int:
        """As :meth:`kiptail.pods.reflector.PodWatch.fresh_us`."""
        return self._watch.fresh_us()

    def owned(self, address: str, at_us: int) -> Owned:
        """The pods that may have owned ``address`` at ``at_us``, as far as is known: see :meth:`awaits`."""
        if self._lookups.knows(address, at_us) or self._sweep.knows(address, at_us):
            return self.recorded(address, at_us)
        return self._watch.owned(address, at_us)

    def recorded(self, address: str, at_us: int) -> Owned:
        """As :meth:`owned`, by all that was ever found, however long ago."""
        return owned(self._intervals(address), at_us)

    def contested(self, address: str, at_us: int) -> bool:
        """As :meth:`kiptail.pods.reflector.PodWatch.contested`."""
        return self._watch.contested(address, at_us)

    def hands(self, address: str) -> Hands:
        """When the address changed hands, or may have."""
        return hands_of(self._intervals(address))

    def dates(self, address: str, uid: str) -> bool:
        """It is known when the pod with this UID had the address."""
        return any(interval.ref.uid == uid for interval in self._intervals(address))

    def probed(self, address: str, port: int) -> bool:
        """As :meth:`kiptail.pods.reflector.PodWatch.probed`."""
        return self._watch.probed(address, port)

    def name(self, address: str) -> str:
        """What the cluster calls an address that is no pod's, or ""."""
        with self._lock:
            node = self._remote.node(address)
        node = node or self._watch.node(address)
        return f"node/{node}" if node else self._names.name(address)

    def awaits(self, address: str, at_us: int) -> bool:
        """An owner of the address at that time may still turn out; asks for it where it has to be asked for."""
        if not self._names.settled():
            return True
        if not self._ranges.could_be_pod(address) or self._names.no_pod(address):
            return False
        return self._asked(address, at_us) or self._watch.expects(at_us)

    def _intervals(self, address: str) -> tuple[Interval, ...]:
        local = self._watch.intervals(address)
        with self._lock:
            return (*local, *self._remote.intervals(address))

    def _asked(self, address: str, at_us: int) -> bool:
        if not self._ranges.is_second(address):
            return self._lookups.ask(address, at_us)
        if self._lookups.knows(address, at_us) or self._sweep.knows(address, at_us) or self._lookups.forbidden():
            return False
        if self._sweep.awaits(address):
            return True
        with self._lock:
            first = self._remote.first_address(address)
        # By its first address, if it still is the same pod's; else all pods have to be read.
        return (bool(first) and self._lookups.ask(first, at_us)) or self._sweep.ask(address, at_us)

    # -- called from the threads ----------------------------------------------------------------------------

    def _others(self, pods: Iterable[Pod]) -> list[Pod]:
        """The pods of other nodes."""
        return [dated_by(self._clock, pod, node=self._node) for pod in pods if pod.node != self._node]

    def _local_change(self, addresses: set[str]) -> None:
        for address in addresses:
            self._lookups.forget(address)
        self._names.note_pods(addresses)
        self._on_change(addresses)

    def _looked_up(self, address: str, pods: list[Pod], asked_us: int) -> frozenset[str]:
        # The node's own are the watch's business, which sees them end.
        others = self._others(pods)
        for pod in pods:
            self._ranges.note_pods(pod.addresses)
        with self._lock:
            changed = self._remote.found(address, others, now_us=asked_us)
            self._remote.expire(now_us=asked_us)
        if changed:
            self._on_change(changed)
        found = frozenset(other for pod in others if pod.until_us is None for other in pod.addresses)
        self._names.note_pods(found)
        return found

    def _swept(self, pods: list[Pod], awaited: frozenset[str]) -> None:
        others = self._others(pods)
        wanted = [pod for pod in others if not awaited.isdisjoint(pod.addresses)]
        with self._lock:
            for pod in others:
                self._remote.note_seconds(pod)
            changed = self._remote.learned(wanted, now_us=self._clock.now_us())
        self._names.note_pods([address for pod in wanted for address in pod.addresses])
        if changed:
            self._on_change(changed)
