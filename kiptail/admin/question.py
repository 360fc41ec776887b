"""What ``kiptail explain`` is asked, and which ends of a connection that is."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from typing import TypeAlias

from kiptail.addresses import canonical
from kiptail.config.values import quoted
from kiptail.errors import SettingsError
from kiptail.kube.object_names import is_name, is_namespace
from kiptail.policies.cluster import Objects
from kiptail.policies.ends import Connection, End, Outside, shown
from kiptail.policies.policy import PROTOCOLS, Address
from kiptail.policies.selector import listed

__all__ = ["PodName", "Question", "connection_of", "question_of"]

_PORT = re.compile(r"([0-9]{1,5})(?:/([A-Za-z]+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class PodName:
    """A pod, as it was named."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


Named: TypeAlias = PodName | Address


@dataclass(frozen=True, slots=True)
class Question:
    """May the one connect to the other?"""

    source: Named
    destination: Named
    #: Both None: traffic without ports.
    protocol: str | None
    port: int | None

    def namespaces(self) -> list[str]:
        """Of the pods that are named."""
        return [end.namespace for end in (self.source, self.destination) if isinstance(end, PodName)]

    def addresses(self) -> list[Address]:
        """The ends that are addresses."""
        return [end for end in (self.source, self.destination) if not isinstance(end, PodName)]


def question_of(source: str, destination: str, port: str | None) -> Question:
    """The question in three words of a command line. Raises SettingsError."""
    protocol, number = (None, None) if port is None else _port(port)
    return Question(_end("SOURCE", source), _end("DESTINATION", destination), protocol, number)


def connection_of(question: Question, objects: Objects, where: str) -> tuple[Connection, list[str]]:
    """The ends among the objects, and notes about them. Raises SettingsError for a pod that is not ``where``."""
    notes: list[str] = []
    source = _found("SOURCE", question.source, objects, where, notes)
    destination = _found("DESTINATION", question.destination, objects, where, notes)
    return Connection(source, destination, question.protocol, question.port), notes


def _end(which: str, text: str) -> Named:
    if address := canonical(text):
        return ipaddress.ip_address(address)
    namespace, slash, name = text.partition("/")
    if slash and is_namespace(namespace) and is_name(name):
        return PodName(namespace, name)
    raise SettingsError(f"{which}: {quoted(text)} is neither NAMESPACE/POD nor an address")


def _port(text: str) -> tuple[str, int]:
    found = _PORT.fullmatch(text)
    protocol = (found[2] or "TCP").upper() if found else ""
    if found is None or protocol not in PROTOCOLS or not 0 < int(found[1]) < 1 << 16:
        raise SettingsError(f"PORT: {quoted(text)} is no port: write 8080, 53/UDP or 3868/SCTP, or none for ICMP")
    return protocol, int(found[1])


def _found(which: str, named: Named, objects: Objects, where: str, notes: list[str]) -> End:
    if isinstance(named, PodName):
        pod = objects.pods.get(str(named))
        if pod is None:
            raise SettingsError(f"{which}: there is no pod {named} in {where}")
        return pod
    owners = sorted(objects.pods_at(named), key=lambda pod: (pod.leaving, pod.ref))
    if not owners:
        return Outside(named)
    if len(owners) > 1:
        others = listed(pod.ref for pod in owners[1:])
        notes.append(f"{shown(named)} is taken for {owners[0].ref}; other pods show it as well: {others}")
    # By address, the family is the address's.
    return replace(owners[0], addresses=(named,))
