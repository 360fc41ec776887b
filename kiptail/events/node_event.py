"""Drops that concern no pod at all: which of them are counted together on the Node, and in which words (pure).

Source: the Kubernetes type core/v1 Event. The kubelet's Events of its Node have the node's name as the UID, too, and
``kubectl describe node`` shows these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from kiptail.clock.dates import kubernetes_time
from kiptail.events.endpoint import RECEIVED, SENT, Kind
from kiptail.events.event import VERBS, WITHDRAWN, EventStyle
from kiptail.events.stages import Tracked
from kiptail.flows.flow import Flow
from kiptail.netfilter.protocols import protocol_name
from kiptail.text import one_line

__all__ = [
    "DIRECTIONS",
    "ELSE",
    "FORWARDED",
    "NAMESPACE",
    "NodeEvent",
    "Subject",
    "node_event_body",
    "node_event_name",
    "node_event_text",
    "subject_of",
]

#: Events of objects that are in no namespace are in this one.
NAMESPACE = "default"
#: The direction of packets that the node was only to pass on.
FORWARDED = "forwarded"
DIRECTIONS = (RECEIVED, SENT, FORWARDED)
#: An object's name has at most 253 characters; 17 are for the dot and the 16 hexadecimal digits.
_NAME_LIMIT = 236
#: Of a prefix no more is shown, in characters: the longest that nftables takes.
_PREFIX_LIMIT = 127
#: The longest name of a protocol, in characters.
_PROTOCOL_LIMIT = 40

_ACTIONS = {RECEIVED: "receiving", SENT: "sending", FORWARDED: "forwarding"}


class Subject(NamedTuple):
    """What the drops of one Event of the Node have in common."""

    verdict: str
    prefix: str
    #: What the node did with the packets.
    direction: str
    reply: bool
    protocol: str
    port: int | None


#: What everything else is counted as, once there are too many.
ELSE = Subject("", "", "", reply=False, protocol="", port=None)


# More than 12 attributes: one for each column of its row in the state, and two that are not stored.
@dataclass(slots=True)
class NodeEvent:
    """An Event of the Node, and what the API server has of it. Times are in steady time, µs since the epoch."""

    id: int
    subject: Subject
    #: ``metadata.name``.
    name: str
    #: When the flow that it began with was opened, and the first and the last drop.
    begun_us: int
    first_us: int
    last_us: int
    count: int = 0
    #: The count of the last successful write; 0 = never written.
    sent_count: int = 0
    sent_at_us: int = 0
    #: Successful writes so far.
    writes: int = 0
    #: How often it had to be created anew because the API server no longer had it.
    rounds: int = 0
    #: Why it is no longer sent, or "".
    given_up: str = ""
    #: A write of it was begun: the API server may have it.
    tried: bool = False
    #: An earlier run may have written another count than it noted.
    unnoted: bool = False

    @property
    def key(self) -> tuple[int, str, str]:
        """What no other Event has."""
        return (self.id, "node", self.name)

    @property
    def namespace(self) -> str:
        """Where it is written."""
        return NAMESPACE

    @property
    def withdrawn(self) -> bool:
        """It is there to say that it counts nothing any more."""
        return self.count == 0

    @property
    def is_pending(self) -> bool:
        """The API server does not have all that there is to tell yet."""
        return not self.given_up and (self.unnoted or self.count != self.sent_count)


def subject_of(tracked: Tracked, node_name: str) -> Subject | None:
    """What the drops of a flow whose ends are decided are counted as on the Node; None where a pod is at an end.

    None also where they are to be left out. So that each drop counts once, it counts with the flow which reports the
    node's end, or the receiver's where the node passes packets on. A folded flow counts at the node's own end only: at
    another, pods may be among its many peers.
    """
    flow, ends = tracked.flow, tracked.endpoints
    if tracked.muted or any(endpoint.kind is not Kind.NOBODY for endpoint in ends.values()):
        return None
    key = flow.key
    own = f"node/{node_name}"
    here = key.here or next((end for end, endpoint in ends.items() if endpoint.name == own), "")
    if (here or "dst") not in flow.ends or (flow.spread is not None and not here):
        return None
    direction = {"src": SENT, "dst": RECEIVED}.get(here, FORWARDED)
    return Subject(key.verdict, key.prefix, direction, key.reply, key.protocol, key.port)


def node_event_name(subject: Subject, flow: Flow, node_name: str) -> str:
    """``metadata.name`` of the Event that begins with this flow: the same wherever it is made."""
    identity = "\x1f".join(map(str, (node_name, *subject, flow.stamp)))
    digest = blake2b(identity.encode(), digest_size=8).hexdigest()
    return f"{node_name[:_NAME_LIMIT].rstrip('.-')}.{digest}"


def node_event_text(subject: Subject) -> str:
    """What the operator reads; nothing in it changes from packet to packet."""
    if subject == ELSE:
        return "Packets dropped or rejected on further ports, or logged with further prefixes"
    what = "replies" if subject.reply else "traffic"
    protocol = one_line(protocol_name(subject.protocol), _PROTOCOL_LIMIT)
    about = f", protocol {protocol}" if protocol else " with many addresses or on many ports"
    if subject.port is not None:
        about = f" {'from' if subject.reply else 'on'} port {subject.port}/{protocol}"
    logged = f', logged as "{one_line(subject.prefix, _PREFIX_LIMIT)}"' if subject.prefix else ""
    concerned = " between addresses that are no pods'" if subject.direction == FORWARDED else ""
    return f"Packets {VERBS[subject.verdict]} when {_ACTIONS[subject.direction]} {what}{concerned}{about}{logged}"


def node_event_body(event: NodeEvent, style: EventStyle, *, wall_us: Callable[[int], int] = int) -> dict[str, Any]:
    """The whole Event as JSON types; ``wall_us`` makes of its times those of the wall clock."""
    node = style.node_name
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": event.name, "namespace": NAMESPACE},
        "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node},
        "reason": style.reason,
        "message": node_event_text(event.subject) + (WITHDRAWN if event.withdrawn else ""),
        "type": "Warning",
        "action": "Drop",
        "source": {"component": style.component, "host": node},
        "reportingComponent": style.component,
        "reportingInstance": node,
        "firstTimestamp": kubernetes_time(wall_us(event.first_us)),
        "lastTimestamp": kubernetes_time(wall_us(event.last_us)),
        "count": event.count,
    }
