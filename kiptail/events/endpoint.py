"""Who is at an end of a flow: an :class:`Endpoint` (pure)."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from kiptail.pods.ownership import PodRef

__all__ = ["RECEIVED", "SENT", "Endpoint", "Kind", "When", "direction_at", "known_as", "workload_at"]

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
    #: What the pod or Service here calls the flow's port, if it is one of theirs and has a name.
    port_name: str = ""
    #: Whose that port of a node is, in words: ``team-b/web-0``, ``pods of team-a and team-b``; "" = not known.
    host_port_of: str = ""


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


def workload_at(endpoint: Endpoint | None) -> str:
    """The workload of whoever is there, as ``deploy/web`` of its namespace; "" for nobody, and for pods of several."""
    found = {(pod.namespace, pod.workload) for pod in endpoint.pods} if endpoint is not None else set()
    return found.pop()[1] if len(found) == 1 else ""


class When(NamedTuple):
    """The time, in µs since the epoch, that an address is asked about, and what the flow's lines say of it."""

    at_us: int
    #: Later drops may be of another owner's time, and nobody can tell which are: the last one's time.
    mixed_us: int | None = None
    #: By the lines' interfaces, this machine itself is at this end.
    here: bool = False
