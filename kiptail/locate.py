"""A flow's two addresses at its time → the :class:`Endpoint` at each end (pure, given ownership and names)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import NamedTuple, Protocol

from kiptail.ownership import PodRef

__all__ = ["Endpoint", "Kind", "Locator", "Owners"]

Network = IPv4Network | IPv6Network


class Kind(StrEnum):
    """What is known of one end of a flow."""

    POD = "pod"
    NOBODY = "nobody"
    AMBIGUOUS = "ambiguous"


class Endpoint(NamedTuple):
    """One end of a flow: decided once, at the time of its first drop."""

    kind: Kind
    address: str
    #: The owner, or everyone who may have been.
    pods: tuple[PodRef, ...] = ()
    #: What to call an end that is no pod: ``node/NAME`` or a DNS name; "" = just the address.
    name: str = ""
    #: A name may still come.
    unnamed: bool = False


class Owners(Protocol):
    """What is asked of ownership."""

    def ready(self) -> bool:
        """All pods are known; before, nobody can be told from a stranger."""

    def current(self) -> bool:
        """News of pods arrives at present."""

    def final(self) -> bool:
        """No news of pods will ever come."""

    def owners(self, address: str, at_us: int) -> tuple[PodRef, ...]:
        """The pods that may have owned the address then."""

    def node(self, address: str) -> str:
        """The node with this address, or ""."""


#: A name for an address that is no pod's: the name, "" when it has none, None while the answer is awaited.
NameOf = Callable[[str], str | None]


class Locator:
    """Decides who is at an address."""

    def __init__(self, owners: Owners, name_of: NameOf, pod_networks: Sequence[Network] = ()) -> None:
        self._owners = owners
        self._name_of = name_of
        self._pod_networks = tuple(pod_networks)

    def ready(self) -> bool:
        """:meth:`locate` can be asked."""
        return self._owners.ready()

    def current(self) -> bool:
        """What cannot be said yet will be soon; when not, it is worth waiting longer."""
        return self._owners.current()

    def locate(self, address: str, at_us: int, *, patient: bool) -> Endpoint | None:
        """Who was at ``address`` at ``at_us``; None while that cannot be said yet.

        ``patient``: news of a pod that has just started may still be under way, so that an address that could
        be a pod's is not nobody's yet, and a name is waited for.
        """
        pods = self._owners.owners(address, at_us)
        if len(pods) == 1:
            return Endpoint(Kind.POD, address, pods)
        if pods:
            return Endpoint(Kind.AMBIGUOUS, address, pods)
        node = self._owners.node(address)
        if node:
            return Endpoint(Kind.NOBODY, address, name=f"node/{node}")
        if patient and not self._owners.final() and self._could_be_pod(address):
            return None
        name = self._name_of(address)
        return Endpoint(Kind.NOBODY, address, name=name or "", unnamed=name is None)

    def named(self, endpoint: Endpoint) -> Endpoint:
        """``endpoint`` with the name that has come meanwhile, if one has."""
        name = self._name_of(endpoint.address)
        return endpoint if name is None else endpoint._replace(name=name, unnamed=False)

    def _could_be_pod(self, address: str) -> bool:
        ip = ip_address(address)
        if self._pod_networks:
            return any(ip in network for network in self._pod_networks)
        if ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
            return False
        # RFC 1918, ULA, 100.64.0.0/10, which some clouds give to pods, and any IPv6 address: they are not scarce.
        return ip.version == 6 or not ip.is_global
