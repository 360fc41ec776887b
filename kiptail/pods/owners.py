"""Who owned an address, by the pods that are watched and those that were found when they were asked for."""

from __future__ import annotations

from typing import Protocol

from kiptail.pods.local import LocalPods
from kiptail.pods.other_nodes import NotePods, OtherPods
from kiptail.pods.ownership import Hands, Interval, Owned, hands_of
from kiptail.pods.pod import Pod
from kiptail.pods.ports import LivePorts, ServicePorts, pod_at
from kiptail.pods.ranges import PodRanges
from kiptail.pods.tenancy import owned

__all__ = ["LiveOwners", "NonPodNames"]


class NonPodNames(NotePods, ServicePorts, Protocol):
    """What the cluster calls addresses that are no pods'."""

    def settled(self) -> bool:
        """They are known, or will not be soon."""

    def name(self, address: str) -> str:
        """``node/NAME``, ``service NAMESPACE/NAME``, or ""."""

    def no_pod(self, address: str) -> bool:
        """It is in a range that Services have."""


class LiveOwners:
    """The answers of a cluster that is followed: :class:`kiptail.pods.index.PodOwners`."""

    def __init__(
        self, local: LocalPods, others: OtherPods, *, ranges: PodRanges, names: NonPodNames, unhurried: bool
    ) -> None:
        """``unhurried``: nobody waits for Events at present, so that all look-ups are worth waiting for."""
        self._local = local
        self._others = others
        self._ranges = ranges
        self._names = names
        self._unhurried = unhurried
        #: Whose owners opted out of Events: of the pods that are watched, and of the others.
        self.opt_outs = (local.opt_outs, others.opt_outs)
        #: What is known of ports.
        self.ports = LivePorts(local, others, names)

    def ready(self) -> bool:
        """The pods that are watched were listed once."""
        return self._local.freshness.ready()

    def current(self) -> bool:
        """News of pods arrives at present, and nothing else is worth waiting for."""
        return self._local.freshness.current() and not (self._unhurried and self._others.pending())

    def owned(self, address: str, at_us: int) -> Owned:
        """The pods that may have owned ``address`` at ``at_us``, as far as is known: see :meth:`awaits`."""
        if self._others.knows(address, at_us):
            return self.recorded(address, at_us)
        return owned(self._local.intervals(address), at_us)

    def recorded(self, address: str, at_us: int) -> Owned:
        """As :meth:`owned`, by all that was ever found, however long ago."""
        return owned(self._intervals(address), at_us)

    def contested(self, address: str, at_us: int) -> bool:
        """As :meth:`LocalPods.contested`."""
        return self._local.contested(address, at_us)

    def hands(self, address: str) -> Hands:
        """When the address changed hands, or may have; annotations count only where no status ever did."""
        return hands_of(self._intervals(address) or self._local.claims.intervals(address))

    def dates(self, address: str, uid: str) -> bool:
        """It is known when the pod with this UID had the address."""
        known = (*self._intervals(address), *self._local.claims.intervals(address))
        return any(interval.ref.uid == uid for interval in known)

    def name(self, address: str) -> str:
        """What the cluster calls an address that is no pod's, or ""."""
        node = self._others.node(address) or self._local.node(address)
        return f"node/{node}" if node else self._names.name(address)

    def awaits(self, address: str, at_us: int) -> bool:
        """An owner of the address at that time may still turn out; asks for it where it has to be asked for."""
        if not self._names.settled():
            return True
        if not self._ranges.could_be_pod(address) or self._names.no_pod(address):
            return False
        return self._others.ask(address, at_us) or self._local.freshness.expects(at_us)

    def claimed(self, address: str, at_us: int) -> Owned:
        """As :meth:`kiptail.pods.index.PodOwners.claimed`."""
        return owned(self._local.claims.intervals(address), at_us)

    def claimable(self, address: str, at_us: int) -> bool:
        """As :meth:`kiptail.pods.index.PodOwners.claimable`."""
        possible = self._ranges.could_be_pod(address) and not self._names.no_pod(address)
        return possible and self.outside(address, at_us)

    def pod(self, address: str, uid: str) -> Pod | None:
        """The pod with the UID that Events name, as it is now, if it had the address and is not gone."""
        return pod_at(self._local, self._others, address, uid)

    def outside(self, address: str, at_us: int) -> bool:
        """The address was surely no pod's at ``at_us``; an address that some pod ever had may have been another's."""
        if not self._ranges.could_be_pod(address) or self._names.no_pod(address):
            return True
        known = self._local.freshness.current() and self._others.rules_out(address, at_us)
        return known and not self._intervals(address)

    def _intervals(self, address: str) -> tuple[Interval, ...]:
        return (*self._local.intervals(address), *self._others.intervals(address))
