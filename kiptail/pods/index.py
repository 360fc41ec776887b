"""What a pod index is to the rest of kiptail, whether a cluster is followed or a file was read (no code)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kiptail.pods.local import LocalPods
from kiptail.pods.opt_out import OptOuts
from kiptail.pods.ownership import Hands, Owned
from kiptail.pods.pod import Pod, PodRef
from kiptail.pods.stats import IndexStats

__all__ = ["Owners", "PodDetails", "PodIndex", "PodOwners", "PodPorts"]


class PodPorts(Protocol):
    """What is known of ports. Any thread may ask."""

    def probed(self, address: str, port: int) -> bool:
        """A pod of this node with this address is probed on this port."""

    def called(self, address: str, uid: str, protocol: str, port: int) -> str:
        """What the pod with this UID, or without one the Service, at the address calls a port; "" = nothing."""

    def users(self, node: str, address: str, protocol: str, port: int, at_us: int) -> tuple[PodRef, ...]:
        """The pods that have this port of a node's address for themselves (``hostPort``), and had it then."""


class Owners(Protocol):
    """The answers: who owned an address at a time, in µs since the epoch. Any thread may ask."""

    @property
    def ports(self) -> PodPorts:
        """What is known of ports."""

    def ready(self) -> bool:
        """All pods are known; before, everybody may be a stranger."""

    def current(self) -> bool:
        """Changes of pods arrive at present, and nothing else is worth waiting for."""

    def owned(self, address: str, at_us: int) -> Owned:
        """The pods that may have owned the address then, as far as is known."""

    def recorded(self, address: str, at_us: int) -> Owned:
        """The same, by all that was ever found of the address, however long ago."""

    def claimed(self, address: str, at_us: int) -> Owned:
        """The pods that may have had the address then by their annotations, which anybody may write who may a pod."""

    def claimable(self, address: str, at_us: int) -> bool:
        """It is certain that the address was nobody's by any pod's status then, and it is one that pods can have."""

    def contested(self, address: str, at_us: int) -> bool:
        """Somebody else than the likely owner may soon turn out to have had the address then."""

    def dates(self, address: str, uid: str) -> bool:
        """It is known when the pod with this UID had the address."""

    def name(self, address: str) -> str:
        """What the cluster calls an address that is no pod's: ``node/NAME``, ``service NAMESPACE/NAME``, or ""."""

    def awaits(self, address: str, at_us: int) -> bool:
        """An owner of the address at that time may still turn out; has it looked up, where that helps."""


class PodOwners(Owners, Protocol):
    """These, and what else is known of pods. Any thread may ask."""

    @property
    def opt_outs(self) -> Sequence[OptOuts]:
        """Whose owners opted out of Events, by whoever knows some."""

    def hands(self, address: str) -> Hands:
        """When the address changed hands, or may have."""

    def pod(self, address: str, uid: str) -> Pod | None:
        """The pod with the UID that Events name, as it is now, if it had the address and is not gone."""


class PodDetails(Protocol):
    """What NetworkPolicies look at of the pods and addresses at the ends of flows. Any thread may ask."""

    def pod(self, address: str, uid: str) -> Pod | None:
        """The pod with the UID that Events name, as it is now, if it had the address and is not gone."""

    def outside(self, address: str, at_us: int) -> bool:
        """The address was surely no pod's at ``at_us``."""


class PodIndex(Protocol):
    """What keeps the answers, and how far it has got."""

    @property
    def owners(self) -> PodOwners:
        """Who owned an address."""

    @property
    def details(self) -> PodDetails | None:
        """What NetworkPolicies look at; None where it is not kept."""

    @property
    def local(self) -> LocalPods | None:
        """The copy of the pods that are watched, which is kept across restarts; None where none is."""

    @property
    def trouble(self) -> str:
        """Why it is not kept current at present, or ""."""

    def start(self) -> None:
        """Begin to follow pods."""

    def stop(self, timeout: float = 2.0) -> None:
        """End the threads; requests under way are not waited for any longer than ``timeout`` seconds."""

    def ready(self) -> bool:
        """As :meth:`PodOwners.ready`."""

    def fresh_us(self) -> int:
        """Up to when all that happened is known, µs since the epoch, as far as the watch does not lag."""

    def has_node(self, name: str) -> bool:
        """Some pod runs on this node."""

    def forget(self, before_us: int) -> None:
        """No drop from before ``before_us`` will be asked about any more."""

    def stats(self) -> IndexStats:
        """For the metrics."""
