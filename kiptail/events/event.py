"""Wording and body of an Event (pure). Source: the Kubernetes type core/v1 Event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from kiptail.clock.dates import kubernetes_time
from kiptail.events.endpoint import Endpoint, Kind
from kiptail.flows.flow import Flow, FlowKey, Spread
from kiptail.netfilter.protocols import icmp_name, protocol_name
from kiptail.pods.ownership import PodRef
from kiptail.text import one_line

__all__ = [
    "CHANGING",
    "LIMITED",
    "STEPS",
    "VERBS",
    "WITHDRAWN",
    "EventRecord",
    "EventStyle",
    "event_body",
    "event_name",
    "is_limited",
    "message",
]

#: Longest text of an Event, in bytes: what the API server takes when ``eventTime`` is set, and plenty.
MESSAGE_LIMIT = 1024

#: The fields of an Event that differ between two writes of it: what a patch sends, null for one that is gone.
CHANGING = ("count", "firstTimestamp", "lastTimestamp", "message", "related")

#: An object's name has at most 253 characters; 17 are for the dot and the 16 hexadecimal digits.
POD_NAME_LIMIT = 236

#: Of a policy's name no more is shown, in characters: the longest that Kubernetes takes for one.
POLICY_LIMIT = 253

#: What a folded Event says of the number of its peers and ports; :class:`~kiptail.flows.flow.Distinct` counts no
#: further.
STEPS = (20, 50, 100, 200, 500, 1_000, 2_000, 5_000)

#: The end of the text of an Event whose packets turned out to be another pod's, or of one that nobody can tell.
WITHDRAWN = ": counted for another pod since"

#: The end of the text about a drop from the own node on a port that the pod's probes use.
PROBES = " (the kubelet's probes use this port)"

#: The end of the text about packets that a rule logs only some of.
LIMITED = "; the rule logs at a limited rate, so there may have been more packets"

#: What became of a packet, by its verdict.
VERBS = {"drop": "dropped", "reject": "rejected"}


@dataclass(frozen=True, slots=True)
class EventStyle:
    """How this installation's Events look."""

    reason: str
    component: str
    node_name: str
    #: ``name_with_namespace``, ``namespace``, ``name``, ``label`` or ``workload``: what a pod is called in the text.
    pod_identifier: str
    #: The prefixes, by their flows' names for them, of rules that log at a limited rate.
    limited: frozenset[str] = frozenset()


# More than 12 attributes: one for each column of its row in the state, and four that are not stored.
@dataclass(slots=True)
class EventRecord:
    """The Event at one end of a flow, and what the API server has of it."""

    flow_id: int
    #: ``src`` or ``dst``.
    end: str
    pod: PodRef
    #: ``metadata.name``, stored before the first send.
    name: str
    message: str
    #: The count of the last successful write; 0 = never written.
    sent_count: int = 0
    sent_message: str = ""
    #: When the last successful write was, in steady time, µs since the epoch.
    sent_at_us: int = 0
    #: Successful writes so far: how quickly the next one follows.
    writes: int = 0
    #: How often the Event had to be created anew because the API server no longer had it.
    rounds: int = 0
    #: Why it is no longer sent, or "".
    given_up: str = ""
    #: Its packets turned out to be another pod's: it counts none of them any more.
    withdrawn: bool = False
    #: A write of it was begun: the API server may have it.
    tried: bool = False
    #: What the last flow record in the journal said, "" = there is none, and with which count: events.flow_record.
    recorded: str = ""
    recorded_count: int = 0
    #: Of how many other pods of its workload the text says that they fare alike, and since when, in steady time.
    also: int = 0
    also_us: int = 0
    #: An earlier run may have recorded something else than it noted.
    recorded_unnoted: bool = False
    #: Why its pod is to have no Event of it: a filter's reason, or that its owner opted out; "" = it is to have one.
    #: What the API server has already stays as it is.
    muted: str = ""
    #: Nothing else is kept of it either: no flow records, no place in the metrics by namespace.
    ignored: bool = False

    @property
    def key(self) -> tuple[int, str, str]:
        """What no other Event has."""
        return (self.flow_id, self.end, self.pod.uid)

    @property
    def namespace(self) -> str:
        """Where it is written."""
        return self.pod.namespace

    @property
    def tells_of_another(self) -> bool:
        """The API server has it as withdrawn, and it is not."""
        return not self.withdrawn and self.sent_message.endswith(WITHDRAWN)

    def counts(self, count: int) -> int:
        """How many of the flow's ``count`` drops it tells."""
        return 0 if self.withdrawn else count

    def is_pending(self, count: int) -> bool:
        """The API server does not have all that there is to tell yet."""
        if self.muted and not self.withdrawn:
            return False
        if self.withdrawn and (self.recorded or self.muted) and not self.tried:
            return False  # it was kept for the journal alone, or nobody was to hear of it
        return not self.given_up and (self.counts(count) != self.sent_count or self.message != self.sent_message)


def event_name(flow: Flow, end: str, pod: PodRef, node_name: str) -> str:
    """``metadata.name`` of the Event: the same flow of the same node has the same name wherever it is made."""
    digest = blake2b(flow.key.identity(node_name, flow.stamp, end, pod.uid), digest_size=8).hexdigest()
    return f"{pod.name[:POD_NAME_LIMIT].rstrip('.-')}.{digest}"


def message(
    flow: Flow,
    end: str,
    peer: Endpoint,
    style: EventStyle,
    *,
    withdrawn: bool = False,
    why: str = "",
    service: Endpoint | None = None,
    also: tuple[int, str] = (0, ""),
) -> str:
    """What the owner of the pod at ``end`` of the flow reads; nothing in it changes from packet to packet.

    ``withdrawn``: the packets turned out not to be this pod's. ``why``: what is to be said of NetworkPolicies, as
    :func:`kiptail.events.why.reason` says it. ``service``: who is at the end whose port the flow's is.
    ``also``: more than how many other pods' packets fare alike, and those pods' workload.
    """
    key = flow.key
    verb = VERBS[key.verdict]
    what = "a reply" if key.reply else "traffic"
    action = f"sending {what}" if end == "src" else f"receiving {what}"
    preposition = "to" if end == "src" else "from"
    ending = WITHDRAWN if withdrawn else PROBES if peer.probes else ""
    if flow.spread is not None:
        return f"Packets {verb} when {action}{_folded(flow.spread, preposition)}{ending}"
    said = "" if withdrawn else why
    who = f"{_called(peer, style)} ({peer.address})" if _called(peer, style) else peer.address
    port = _said_of_port(service) if service is not None else ""
    limited = LIMITED if not withdrawn and is_limited(flow, style) else ""
    text = f"Packet {verb} when {action} {preposition} {who}{_about(key, port)}{_by(key.policy)}{said}"
    others, workload = also
    if others and not withdrawn:
        whole = _cut(text, f"{ending} (also more than {others:,} other pods of {workload}){limited}")
        if whole.startswith(text):
            return whole  # else there is no room for that
    return _cut(text, ending + limited)


def is_limited(flow: Flow, style: EventStyle) -> bool:
    """There may have been more packets than lines, and the flow's Events say so; those of a folded flow do not."""
    return flow.spread is None and flow.key.prefix in style.limited


def event_body(
    record: EventRecord,
    flow: Flow,
    style: EventStyle,
    peer_pod: PodRef | None,
    *,
    annotations: Mapping[str, str] | None = None,
    wall_us: Callable[[int], int] = int,
) -> dict[str, Any]:
    """The whole Event as JSON types; ``wall_us`` makes of the flow's times those of the wall clock.

    No ``eventTime``: with it, the API server would hold a patch of the count to the rules of events.k8s.io.
    """
    body: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": record.name, "namespace": record.pod.namespace},
        "involvedObject": _reference(record.pod),
        "reason": style.reason,
        "message": record.message,
        "type": "Warning",
        "action": "Drop",
        "source": {"component": style.component, "host": style.node_name},
        "reportingComponent": style.component,
        "reportingInstance": style.node_name,
        "firstTimestamp": kubernetes_time(wall_us(flow.first_us)),
        "lastTimestamp": kubernetes_time(wall_us(flow.last_us)),
        "count": record.counts(flow.count),
    }
    if annotations:
        body["metadata"]["annotations"] = dict(annotations)
    if peer_pod is not None:
        body["related"] = _reference(peer_pod)
    return body


def _reference(pod: PodRef) -> dict[str, str]:
    return {"apiVersion": "v1", "kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid}


def _called(peer: Endpoint, style: EventStyle) -> str:
    if peer.kind is Kind.NOBODY:
        return peer.name
    return " or ".join(dict.fromkeys(_pod_called(pod, style) for pod in peer.pods))


def _pod_called(pod: PodRef, style: EventStyle) -> str:
    match style.pod_identifier:
        case "namespace":
            return pod.namespace
        case "name":
            return pod.name
        case "label" if pod.label:
            return pod.label
        case "workload" if pod.workload:
            return f"{pod.namespace}/{pod.workload}"
    return f"{pod.namespace}/{pod.name}"


def _about(key: FlowKey, port: str) -> str:
    """The service, ICMP message or protocol that the packets were about; ``port``: what is said of a port."""
    if key.icmp_type is not None:
        return f", {key.protocol} {icmp_name(key.protocol, key.icmp_type, key.icmp_code)}"
    if key.port is not None:
        return f" {'from' if key.reply else 'on'} port {key.port}/{key.protocol}{port}"
    return f", protocol {protocol_name(key.protocol)}" if key.protocol else ""


def _said_of_port(service: Endpoint) -> str:
    """What it is called, or whose it is."""
    said = f"a host port of {service.host_port_of}" if service.host_port_of else service.port_name
    return f" ({said})" if said else ""


def _by(policy: str) -> str:
    """The policy that the log line names; what is no name is quoted, so that it does not pass for our own words."""
    if not policy:
        return ""
    several = [one_line(one, POLICY_LIMIT) for one in policy.split(", ")]
    if len(several) > 1 and not any(" " in one or not one for one in several):
        return f", by policies {', '.join(several)}"
    name = one_line(policy, POLICY_LIMIT)
    return f', by policy "{name}"' if " " in name or not name else f", by policy {name}"


def _folded(spread: Spread, preposition: str) -> str:
    """How many peers and ports, in steps that are rarely passed."""
    peers, ports = _step(spread.peers.count), _step(spread.ports.count)
    text = f" {preposition} more than {peers:,} addresses" if peers else ""
    text += f" on more than {ports:,} ports" if ports else ""
    return text or f" {preposition} several addresses or on several ports"


def _step(count: int) -> int:
    """The greatest step that is less than ``count``; 0 when none is."""
    return max((step for step in STEPS if step < count), default=0)


def _cut(text: str, ending: str) -> str:
    """``text`` without control characters, whatever a label or a name said, and its ``ending``, within the limit."""
    clean = text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
    data = clean.encode("utf-8", "replace")
    room = MESSAGE_LIMIT - len(ending.encode())
    if len(data) <= room:
        return clean + ending
    return data[: room - 3].decode("utf-8", "ignore") + "…" + ending
