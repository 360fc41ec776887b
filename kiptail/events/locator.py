"""A flow's two addresses at its time → the :class:`Endpoint` at each end (pure, given ownership and names)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from kiptail.events.endpoint import Endpoint, Kind, When
from kiptail.flows.flow import Flow
from kiptail.pods.index import Owners
from kiptail.pods.ownership import Owned, PodRef

__all__ = ["Locator", "Machine", "NameOf"]

#: Of pods that share a node's port, the namespaces are named if there are no more.
_MOST_NAMESPACES = 3


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
        if not awaited and self._owners.claimed(address, when.at_us).pods:
            claimed = self._claimed(address, when)
            if claimed is not None:
                return claimed
            # While no changes of pods arrive it is not certain of any address that no status has it.
            awaited = not self._owners.current()
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
        if found is None:
            found = self.locate(endpoint.address, when, patient=patient)
            if found is not None and found.open:
                # It may have been found by its annotation, and whether that counts has to be asked for again.
                claimed = self._owners.claimed(endpoint.address, when.at_us).pods
                found = endpoint if endpoint.pods[0][:3] in [pod[:3] for pod in claimed] else found
        return found

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
        return here and dst.kind is Kind.POD and self._owners.ports.probed(dst.address, port)

    def with_port(self, found: Endpoint, flow: Flow, end: str, before: Endpoint | None = None) -> Endpoint:
        """Who is at an end, with what is known of the flow's port, if it is that end's.

        ``before``: who was found there, when perhaps more was known of the same pod.
        """
        key, ports = flow.key, self._owners.ports
        if key.port is None or end != key.service_end:
            return found
        uid = found.pods[0].uid if found.kind is Kind.POD else ""
        name = used = ""
        if uid or found.name.startswith("service "):
            name = ports.called(found.address, uid, key.protocol, key.port)
        elif found.name.startswith("node/"):
            node = found.name.removeprefix("node/")
            used = _in_words(ports.users(node, found.address, key.protocol, key.port, flow.opened_us))
        if not (name or used) and before is not None and (found.name, found.pods) == (before.name, before.pods):
            name, used = before.port_name, before.host_port_of
        return found._replace(port_name=name, host_port_of=used)

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

    def _claimed(self, address: str, when: When) -> Endpoint | None:
        """Who had the address by an annotation, where that counts."""
        times = (when.at_us,) if when.mixed_us is None else (when.at_us, when.mixed_us)
        if not all(self._owners.claimable(address, at_us) for at_us in times):
            return None
        return self._owned(address, when, self._owners.claimed)

    def _own_name(self, address: str, when: When) -> str:
        """What to call this machine, if it is at the address."""
        machine = self._machine
        if machine is None or not (machine.has(address) or (when.here and machine.logs_alone())):
            return ""
        return f"node/{machine.name}"


def _in_words(pods: Sequence[PodRef]) -> str:
    """One pod by its name, several by their namespaces, if those are few."""
    if len(pods) == 1:
        return f"{pods[0].namespace}/{pods[0].name}"
    namespaces = sorted({pod.namespace for pod in pods})
    if not namespaces or len(namespaces) > _MOST_NAMESPACES:
        return "pods of several namespaces" if namespaces else ""
    *others, last = namespaces
    return f"pods of {', '.join(others)} and {last}" if others else f"pods of {last}"
