"""The local copy of the pods that are watched: one thread writes it, any may ask."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import NamedTuple

from kiptail.clock.own import OwnClock
from kiptail.pods.claims import Claims
from kiptail.pods.freshness import Freshness
from kiptail.pods.host_ports import HostPorts
from kiptail.pods.ownership import Interval, Ownership, Pod
from kiptail.pods.tenancy import owned

__all__ = ["Learned", "LocalPods"]


class Learned(NamedTuple):
    """What a change brought that was not known."""

    #: The addresses of which more, or something else, is known than before.
    addresses: set[str]
    #: The same of addresses that pods' annotations tell of.
    claims: set[str]
    #: Some address turned out to be a node's.
    nodes: bool


class LocalPods:
    """:class:`Ownership` of the pods that are watched, behind a lock, and how fresh that is."""

    def __init__(self, *, node: str, clock: OwnClock) -> None:
        """``node``: this machine's; ``clock`` is what drops' times are reckoned by."""
        self._clock = clock
        self._lock = threading.Lock()
        self._ownership = Ownership(node=node)
        #: Whose owners opted out of Events.
        self.opt_outs = self._ownership.opt_outs
        #: What their annotations say of further addresses.
        self.claims = Claims(node=node)
        #: Which ports of nodes are theirs.
        self.host_ports = HostPorts()
        #: Whether news arrives, and up to when all is known.
        self.freshness = Freshness(clock)

    def __len__(self) -> int:
        with self._lock:
            return len(self._ownership)

    # -- changes, by the thread that follows pods -----------------------------------------------------------

    def replace(self, pods: Iterable[Pod]) -> Learned:
        """These are all pods there are."""
        pods = list(pods)
        with self._lock:
            nodes = self._tell_of_nodes(pods)
            seen_us, now_us = self.freshness.watched_us(), self._clock.now_us()
            known = {pod.key for pod in pods if pod.claims and self._knows(pod)}
            changed = self._ownership.replace(pods, now_us=now_us, seen_us=seen_us)
        self.host_ports.replace(pods)
        return Learned(changed, self.claims.replace(pods, now_us=now_us, seen_us=seen_us, known=known), nodes)

    def change(self, pod: Pod | None, gone: str, *, live: bool) -> Learned:
        """A pod as it is now or was last, and the UID of one that is gone, or ""; ``live`` as :meth:`Ownership.put`."""
        now_us = self._clock.now_us()
        changed: set[str] = set()
        claims: set[str] = set()
        nodes = known = False
        with self._lock:
            if pod is not None:
                nodes = self._tell_of_nodes((pod,))
                known = bool(pod.claims) and self._knows(pod)
                changed |= self._ownership.put(pod, now_us=now_us, live=live)
            if gone:
                changed |= self._ownership.remove(gone, now_us=now_us, live=live)
        if pod is not None:
            self.host_ports.put(pod)
            claims |= self.claims.put(pod, now_us=now_us, live=live, known=known)
        if gone:
            self.host_ports.remove(gone)
            claims |= self.claims.remove(gone, now_us=now_us, live=live)
        return Learned(changed, claims, nodes)

    def _tell_of_nodes(self, pods: Iterable[Pod]) -> bool:
        """Whether these pods tell of nodes' addresses that were not known, with the lock held and before they are."""
        return any(self._ownership.node(a) != pod.node for pod in pods for a in pod.host_addresses)

    def _knows(self, pod: Pod) -> bool:
        """Whether this pod had one of its addresses before, with the lock held."""
        return any(each.key == pod.key for address in pod.addresses for each in self._ownership.pods_at(address))

    # -- questions ------------------------------------------------------------------------------------------

    def intervals(self, address: str) -> tuple[Interval, ...]:
        """As :meth:`IntervalRegister.intervals`."""
        with self._lock:
            return self._ownership.register.intervals(address)

    def contested(self, address: str, at_us: int) -> bool:
        """Another one than the likely owner may turn out to have had an address then: it is worth waiting."""
        if not self.freshness.current():
            return True
        if not self.freshness.expects(at_us):
            return False
        with self._lock:
            return (
                self._ownership.claimed(at_us)
                or len(owned(self._ownership.register.intervals(address), at_us).pods) > 1
            )

    def probed(self, address: str, port: int) -> bool:
        """A pod of this node that has the address now is probed on this port."""
        with self._lock:
            return any(port in pod.probes for pod in self._ownership.pods_at(address))

    def pods_at(self, address: str) -> list[Pod]:
        """As :meth:`Ownership.pods_at`."""
        with self._lock:
            return self._ownership.pods_at(address)

    def node(self, address: str) -> str:
        """As :meth:`Ownership.node`."""
        with self._lock:
            return self._ownership.node(address)

    def has_node(self, name: str) -> bool:
        """As :meth:`Ownership.has_node`."""
        with self._lock:
            return self._ownership.has_node(name)

    # -- memory ---------------------------------------------------------------------------------------------

    def restore(self, intervals: Iterable[tuple[str, Interval]], *, seen_us: int) -> None:
        """As :meth:`Ownership.restore`; before pods are followed."""
        self.freshness.restored(seen_us)
        with self._lock:
            self._ownership.restore(intervals, seen_us=seen_us)

    def take_local(self) -> dict[str, tuple[Interval, ...]]:
        """As :meth:`IntervalRegister.take_local`."""
        with self._lock:
            return self._ownership.register.take_local()

    def forget(self, before_us: int) -> None:
        """As :meth:`IntervalRegister.forget`."""
        with self._lock:
            self._ownership.register.forget(before_us)
        self.claims.forget(before_us)
