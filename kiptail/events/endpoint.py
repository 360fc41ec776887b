"""A flow's two addresses at its time → the :class:`Endpoint` at each end (pure, given ownership and names)."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple, Protocol

from kiptail.pods.ownership import Owned, PodRef

__all__ = ["RECEIVED", "SENT", "Endpoint", "Kind", "Locator", "Machine", "Owners", "When", "direction_at", "known_as"]

#: What the pod at an end did with the packets, in the words of metrics, records and annotations.
SENT, RECEIVED = "sent", "received"


class Kind(StrEnum):
    """What is known of one end of a flow."""

    POD = "pod"
    NOBODY = "nobody"
    AMBIGUOUS = "ambiguous"


class Endpoint(NamedTuple):
    """One end of a flow, as far as it can be said."""

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
    #: Perhaps it was somebody of whom nobody knows.
    stranger: bool = False
    #: It is this machine, whose kubelet probes the other end on the flow's port.
    probes: bool = False


def direction_at(end: str) -> str:
    """What whoever is at this end, ``src`` or ``dst``, did with the packets."""
    return SENT if end == "src" else RECEIVED


def known_as(endpoint: Endpoint) -> tuple[str, str]:
    """What it is, and its name, "" where it has none but its address, in the words of records and annotations."""
    match endpoint.kind:
        case Kind.POD:
            return "pod", f"{endpoint.pods[0].namespace}/{endpoint.pods[0].name}"
        case Kind.AMBIGUOUS:
            return "ambiguous", " or ".join(f"{pod.namespace}/{pod.name}" for pod in endpoint.pods)
    # As the index names them; what the DNS says of an address has neither a slash nor a blank.
    for kind, mark in (("node", "node/"), ("service", "service ")):
        if endpoint.name.startswith(mark):
            return kind, endpoint.name.removeprefix(mark)
    return ("dns", endpoint.name) if endpoint.name else ("address", "")


class When(NamedTuple):
    """The time, in µs since the epoch, that an address is asked about, and what the flow's lines say of it."""

    at_us: int
    #: Later drops may be of another owner's time, and nobody can tell which are: the last one's time.
    mixed_us: int | None = None
    #: By the lines' interfaces, this machine itself is at this end.
    here: bool = False


class Owners(Protocol):
    """What is asked of ownership."""

    def ready(self) -> bool:
        """All pods are known; before, everybody may be a stranger."""

    def current(self) -> bool:
        """Changes of pods arrive at present."""

    def owned(self, address: str, at_us: int) -> Owned:
        """The pods that may have owned the address then, as far as is known."""

    def recorded(self, address: str, at_us: int) -> Owned:
        """The same, by all that was ever found of the address, however long ago."""

    def contested(self, address: str, at_us: int) -> bool:
        """Somebody else than the likely owner may soon turn out to have had the address then."""

    def dates(self, address: str, uid: str) -> bool:
        """It is known when the pod with this UID had the address."""

    def awaits(self, address: str, at_us: int) -> bool:
        """An owner of the address at that time may still turn out; has it looked up, where that helps."""

    def name(self, address: str) -> str:
        """What the cluster calls an address that is no pod's: ``node/NAME``, ``service NAMESPACE/NAME``, or ""."""

    def probed(self, address: str, port: int) -> bool:
        """A pod of this node with this address is probed on this port."""


class Machine(Protocol):
    """What is asked of the machine that wrote the log."""

    @property
    def name(self) -> str:
        """The node's name."""

    def has(self, address: str) -> bool:
        """The address is its own."""

    def logs_alone(self) -> bool:
        """Lines that say ``IN=`` or ``OUT=`` are about the machine itself, not about some network namespace of it."""


#: A name for an address that is no pod's: the name, "" when it has none, None while the answer is awaited.
NameOf = Callable[[str], str | None]


class Locator:
    """Decides who is at an address."""

    def __init__(self, owners: Owners, name_of: NameOf, machine: Machine | None = None) -> None:
        """``machine`` is None where the log is not this machine's, or nobody knows whose."""
        self._owners, self._name_of, self._machine = owners, name_of, machine

    def ready(self) -> bool:
        """:meth:`locate` can be asked."""
        return self._owners.ready()

    def current(self) -> bool:
        """What cannot be said yet will be soon; when not, it is worth waiting longer."""
        return self._owners.current()

    def locate(self, address: str, when: When, *, patient: bool) -> Endpoint | None:
        """Who was at ``address``; None while that cannot be said yet.

        ``patient``: an address that may turn out to be a pod's, or another pod's, is not decided yet, and a name is
        waited for.
        """
        if patient and self.contested(address, when):
            return None
        found = self._owned(address, when, self._owners.owned)
        if found is not None:
            return found
        # What the cluster says first: a Service's address can be an address of each node as well.
        name = self._owners.name(address) or self._own_name(address, when)
        if name:
            return Endpoint(Kind.NOBODY, address, name=name)
        # Asked also when nobody waits any longer: what turns out later is posted then.
        awaited = self._owners.awaits(address, when.at_us)
        if awaited and patient:
            return None
        called = self._name_of(address)
        return Endpoint(Kind.NOBODY, address, name=called or "", unnamed=called is None, open=awaited)

    def locate_again(self, endpoint: Endpoint, when: When, *, patient: bool) -> Endpoint | None:
        """Who was at the address of ``end``, which was decided before; None while that cannot be said yet.

        That a pod was found is held to until it is known when that pod had the address: what was found out to know
        it may have been forgotten since.
        """
        if endpoint.kind is not Kind.POD:
            return self.locate(endpoint.address, when, patient=patient)
        if not self._owners.dates(endpoint.address, endpoint.pods[0].uid):
            return endpoint
        if patient and self.contested(endpoint.address, when):
            return None
        found = self._owned(endpoint.address, when, self._owners.recorded)
        return found if found is not None else self.locate(endpoint.address, when, patient=patient)

    def contested(self, address: str, when: When) -> bool:
        """Somebody is known to have been there, but later changes may tell that it was somebody else."""
        found = self._owners.owned(address, when.at_us)
        return bool(found.pods) and not found.sure and self._owners.contested(address, when.at_us)

    def unowned(self, address: str, at_us: int) -> bool:
        """No pod is known to have had the address then."""
        return not self._owners.recorded(address, at_us).pods

    def named(self, endpoint: Endpoint) -> Endpoint:
        """``endpoint`` with the name that has come meanwhile, if one has."""
        name = self._name_of(endpoint.address)
        return endpoint if name is None else endpoint._replace(name=name, unnamed=False)

    def cluster_name(self, address: str) -> str:
        """As :meth:`Owners.name`."""
        return self._owners.name(address)

    def probes(self, src: Endpoint, dst: Endpoint, port: int) -> bool:
        """The kubelet's probes go from ``src`` to ``dst`` on this port."""
        here = self._machine is not None and src.name == f"node/{self._machine.name}"
        return here and dst.kind is Kind.POD and self._owners.probed(dst.address, port)

    def _owned(self, address: str, when: When, ask: Callable[[str, int], Owned]) -> Endpoint | None:
        found = ask(address, when.at_us)
        if when.mixed_us is not None:
            later = ask(address, when.mixed_us)
            if later.pods != found.pods:
                return Endpoint(Kind.AMBIGUOUS, address, tuple(dict.fromkeys((*found.pods, *later.pods))))
        if not found.pods:
            return None
        kind = Kind.POD if len(found.pods) == 1 else Kind.AMBIGUOUS
        return Endpoint(kind, address, found.pods, stranger=found.stranger)

    def _own_name(self, address: str, when: When) -> str:
        """What to call this machine, if it is at the address."""
        machine = self._machine
        if machine is None or not (machine.has(address) or (when.here and machine.logs_alone())):
            return ""
        return f"node/{machine.name}"
