"""A flow's two addresses at its time → the :class:`Endpoint` at each end (pure, given ownership and names)."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple, Protocol

from kiptail.ownership import PodRef

__all__ = ["Endpoint", "Kind", "Locator", "Owners"]


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
    #: What to call an end that is no pod: ``node/NAME``, ``service NAMESPACE/NAME``, a DNS name; "" = its address.
    name: str = ""
    #: A name may still come.
    unnamed: bool = False
    #: Nobody was found so far, but an owner may still turn out.
    open: bool = False


class Owners(Protocol):
    """What is asked of ownership."""

    def ready(self) -> bool:
        """All pods are known; before, nobody can be told from a stranger."""

    def current(self) -> bool:
        """News of pods arrives at present."""

    def owners(self, address: str, at_us: int) -> tuple[PodRef, ...]:
        """The pods that may have owned the address then, as far as is known."""

    def awaits(self, address: str, at_us: int) -> bool:
        """An owner of the address at that time may still turn out; has it looked up, where that helps."""

    def name(self, address: str) -> str:
        """What the cluster calls an address that is no pod's: ``node/NAME``, ``service NAMESPACE/NAME``, or ""."""


#: A name for an address that is no pod's: the name, "" when it has none, None while the answer is awaited.
NameOf = Callable[[str], str | None]


class Locator:
    """Decides who is at an address."""

    def __init__(self, owners: Owners, name_of: NameOf) -> None:
        self._owners = owners
        self._name_of = name_of

    def ready(self) -> bool:
        """:meth:`locate` can be asked."""
        return self._owners.ready()

    def current(self) -> bool:
        """What cannot be said yet will be soon; when not, it is worth waiting longer."""
        return self._owners.current()

    def locate(self, address: str, at_us: int, *, patient: bool) -> Endpoint | None:
        """Who was at ``address`` at ``at_us``; None while that cannot be said yet.

        ``patient``: an address that may turn out to be a pod's is not nobody's yet, and a name is waited for.
        """
        pods = self._owners.owners(address, at_us)
        if len(pods) == 1:
            return Endpoint(Kind.POD, address, pods)
        if pods:
            return Endpoint(Kind.AMBIGUOUS, address, pods)
        name = self._owners.name(address)
        if name:
            return Endpoint(Kind.NOBODY, address, name=name)
        # Asked also when nobody waits any longer: what turns out later is told then.
        awaited = self._owners.awaits(address, at_us)
        if awaited and patient:
            return None
        told = self._name_of(address)
        return Endpoint(Kind.NOBODY, address, name=told or "", unnamed=told is None, open=awaited)

    def named(self, endpoint: Endpoint) -> Endpoint:
        """``endpoint`` with the name that has come meanwhile, if one has."""
        name = self._name_of(endpoint.address)
        return endpoint if name is None else endpoint._replace(name=name, unnamed=False)
