"""Who owned an IP address at a time (pure).

A pod object is reduced to a :class:`Pod` as it arrives; :class:`Ownership` keeps intervals of ownership per
address. Source of the fields: the Kubernetes type core/v1 Pod.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from datetime import datetime
from ipaddress import ip_address
from typing import Any, NamedTuple

__all__ = ["Handover", "Ownership", "Pod", "PodRef", "reduce_pod", "timestamp_us"]

#: Clocks of kubelet, API server and kernel agree to about this; within it of a change of hands nobody is sure.
SLACK_US = 2_000_000

#: CNI plugins blank these when they give a pod's address back, while the pod object still shows it.
RELEASE_ANNOTATIONS = ("cni.projectcalico.org/podIP", "vpc.amazonaws.com/pod-ips")

#: A static pod's mirror: ``kubectl describe`` asks for Events by this annotation instead of the UID.
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"


class PodRef(NamedTuple):
    """A pod as an Event names it."""

    namespace: str
    name: str
    #: The UID that ``involvedObject.uid`` has to hold.
    uid: str
    #: The value of the label that ``--pod-identifier-label`` chose, or "".
    label: str = ""


class Pod(NamedTuple):
    """What ownership needs of a pod object."""

    #: ``metadata.uid``: what the watch knows the object by.
    key: str
    ref: PodRef
    addresses: tuple[str, ...]
    #: When its sandbox, and with it the network, was ready, µs since the epoch; None = the object does not say.
    ready_us: int | None
    #: When the kubelet accepted it, which is before it had addresses; None = not yet.
    start_us: int | None
    #: When it stopped using them; None = it still does.
    until_us: int | None
    #: It gave them back, whatever the object still shows.
    released: bool
    node: str
    #: The addresses of the node it runs on.
    host_addresses: tuple[str, ...]


class Interval(NamedTuple):
    """``ref`` owned an address from ``since_us`` until ``until_us`` (None: it still does)."""

    key: str
    ref: PodRef
    since_us: int
    until_us: int | None
    #: Nobody saw the end: it was at ``until_us`` or before, and before anybody else had the address.
    unseen_end: bool = False


class Handover(NamedTuple):
    """An address got an owner, another owner, or none."""

    address: str
    at_us: int


def timestamp_us(text: object) -> int | None:
    """A Kubernetes ``metav1.Time`` as µs since the epoch; None when it is absent or no time."""
    if not isinstance(text, str):
        return None
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1_000_000)
    except (ValueError, OverflowError):
        return None


def reduce_pod(obj: Mapping[str, Any], *, label: str | None = None) -> Pod | None:
    """The :class:`Pod` of a pod object as the API server sends it; None when it is no pod.

    ``label`` is the key of the label whose value is kept.
    """
    metadata = _mapping(obj.get("metadata"))
    spec = _mapping(obj.get("spec"))
    status = _mapping(obj.get("status"))
    key, namespace, name = metadata.get("uid"), metadata.get("namespace"), metadata.get("name")
    if not (isinstance(key, str) and isinstance(namespace, str) and isinstance(name, str)):
        return None
    annotations = _mapping(metadata.get("annotations"))
    mirror = annotations.get(MIRROR_ANNOTATION)
    value = _mapping(metadata.get("labels")).get(label) if label else None
    finished = status.get("phase") in ("Succeeded", "Failed")
    ready, start = _ready_at(status), timestamp_us(status.get("startTime"))
    since = ready or start or 0
    released = any(annotations.get(a) == "" for a in RELEASE_ANNOTATIONS)
    until = _finished_at(status) if finished else None
    if finished and until is None:
        # Evicted before a container ran: its last condition is the nearest that the object tells.
        until = max(_times(status, "conditions", "lastTransitionTime"), default=since)
    if released and until is None:
        until = timestamp_us(metadata.get("deletionTimestamp")) or since
    return Pod(
        key=key,
        ref=PodRef(namespace, name, mirror or key, value if isinstance(value, str) else ""),
        addresses=() if spec.get("hostNetwork") is True else _addresses(status, "podIPs", "podIP"),
        ready_us=ready,
        start_us=start,
        until_us=until,
        released=released,
        node=str(spec.get("nodeName") or ""),
        host_addresses=_addresses(status, "hostIPs", "hostIP"),
    )


class Ownership:
    """Intervals of ownership of every address, and the nodes' own addresses.

    ``gone`` keeps the intervals of pods that are no more, by address; whoever builds the index decides how long
    (a cache with a time to live). Times are µs since the epoch; ``now_us`` is when the news arrived.
    """

    def __init__(self, *, gone: MutableMapping[str, tuple[Interval, ...]] | None = None) -> None:
        self._pods: dict[str, Pod] = {}
        self._by_address: dict[str, tuple[Interval, ...]] = {}
        self._gone = {} if gone is None else gone
        self._nodes: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._pods)

    def replace(self, pods: Iterable[Pod], *, now_us: int) -> list[Handover]:
        """Take over a complete list of the pods there are: those it lacks are gone, since when nobody knows."""
        listed = {pod.key: pod for pod in pods}
        gone: dict[str, int] = {}
        came: dict[str, int] = {}
        for key in [key for key in self._pods if key not in listed]:
            gone |= dict(self._remove(key, now_us, unseen=True))
        for pod in listed.values():
            for address, at_us in self.put(pod, now_us=now_us, live=False):
                came[address] = max(at_us, came.get(address, 0))
        # Who came dates the change better than the list that lacks who went.
        return [Handover(address, at_us) for address, at_us in (gone | came).items()]

    def put(self, pod: Pod, *, now_us: int, live: bool) -> list[Handover]:
        """A pod was added or changed; ``live`` when a watch saw it happen, so that ``now_us`` dates it."""
        for address in pod.host_addresses:
            self._nodes[address] = pod.node
        before = self._pods.get(pod.key)
        self._pods[pod.key] = pod
        if before is not None and before._replace(ref=pod.ref) == pod:
            if before.ref != pod.ref:
                self._rename(pod)
            return []
        handovers: list[Handover] = []
        for address in before.addresses if before else ():
            if address not in pod.addresses:
                handovers += self._close(address, pod.key, now_us)  # the same pod, with another address
        for address in pod.addresses:
            handovers += self._claim(address, pod, now_us, live)
        return handovers

    def remove(self, key: str, *, now_us: int) -> list[Handover]:
        """The pod with this ``metadata.uid`` is gone."""
        return self._remove(key, now_us, unseen=False)

    def owners(self, address: str, at_us: int) -> tuple[PodRef, ...]:
        """The pods that may have owned ``address`` at ``at_us``: none, the owner, or several (ambiguous)."""
        found: dict[str, PodRef] = {}
        for interval in (*self._gone.get(address, ()), *self._by_address.get(address, ())):
            if interval.since_us - SLACK_US <= at_us and (
                interval.until_us is None or at_us <= interval.until_us + SLACK_US
            ):
                found[interval.key] = interval.ref
        return tuple(found.values())

    def node(self, address: str) -> str:
        """The name of the node whose own address this is, or ""."""
        return self._nodes.get(address, "")

    def has_node(self, name: str) -> bool:
        """Some pod runs on this node."""
        return any(pod.node == name for pod in self._pods.values())

    def _remove(self, key: str, now_us: int, *, unseen: bool) -> list[Handover]:
        pod = self._pods.pop(key, None)
        handovers: list[Handover] = []
        for address in pod.addresses if pod else ():
            handovers += self._close(address, key, now_us, unseen=unseen)
        return handovers

    def _claim(self, address: str, pod: Pod, now_us: int, live: bool) -> list[Handover]:
        mine = next((i for i in self._by_address.get(address, ()) if i.key == pod.key), None)
        others = tuple(i for i in self._by_address.get(address, ()) if i.key != pod.key)
        if mine is not None:
            since = mine.since_us
        elif pod.ready_us is not None:
            since = min(now_us, pod.ready_us)
        elif live and (others or address in self._gone):
            # Not startTime: until its sandbox was ready, the other pod may still have had the address.
            since = now_us
        else:
            since = min(now_us, pod.start_us or 0)
        until = pod.until_us
        if until is not None and live and pod.released and mine is not None and mine.until_us is None:
            until = now_us  # the annotation was blanked before our eyes
        if until is not None:
            until = max(min(until, now_us), since)
        self._by_address[address] = (*others, Interval(pod.key, pod.ref, since, until))
        if mine is None:
            self._trim_gone(address, since)
            return [Handover(address, since if until is None else until)]
        if until is not None and mine.until_us is None:
            return [Handover(address, until)]
        return []

    def _trim_gone(self, address: str, since_us: int) -> None:
        """Whoever left without being seen had left when the next one came."""
        gone = self._gone.get(address)
        if gone is not None and any(i.unseen_end for i in gone):
            self._gone[address] = tuple(
                i._replace(until_us=max(i.since_us, min(i.until_us or 0, since_us))) if i.unseen_end else i
                for i in gone
            )

    def _close(self, address: str, key: str, now_us: int, *, unseen: bool = False) -> list[Handover]:
        intervals = self._by_address.get(address, ())
        mine = next((i for i in intervals if i.key == key), None)
        others = tuple(i for i in intervals if i is not mine)
        if others:
            self._by_address[address] = others
        else:
            self._by_address.pop(address, None)
        if mine is None:
            return []
        ended = mine
        if mine.until_us is None:
            ended = mine._replace(until_us=max(now_us, mine.since_us), unseen_end=unseen)
        # Bounded: an address that changes hands all the time keeps its latest few owners.
        self._gone[address] = (*self._gone.get(address, ())[-7:], ended)
        return [Handover(address, now_us)] if mine.until_us is None else []

    def _rename(self, pod: Pod) -> None:
        for address in pod.addresses:
            self._by_address[address] = tuple(
                i._replace(ref=pod.ref) if i.key == pod.key else i for i in self._by_address[address]
            )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _addresses(status: Mapping[str, Any], plural: str, single: str) -> tuple[str, ...]:
    """Canonical addresses of ``podIPs``/``podIP`` or ``hostIPs``/``hostIP``; older servers send only the latter."""
    entries = status.get(plural)
    texts = [_mapping(e).get("ip") for e in entries] if isinstance(entries, list) else []
    addresses = []
    for text in [*texts, status.get(single)]:
        try:
            addresses.append(str(ip_address(str(text))))
        except ValueError:
            continue
    return tuple(dict.fromkeys(addresses))


def _times(status: Mapping[str, Any], field: str, key: str) -> list[int]:
    entries = status.get(field)
    times = [timestamp_us(_mapping(e).get(key)) for e in entries] if isinstance(entries, list) else []
    return [t for t in times if t is not None]


def _ready_at(status: Mapping[str, Any]) -> int | None:
    """When the pod's sandbox got its network.

    After a node's reboot the same UID and startTime can have another address; this condition then is the truth.
    While it is False, its transition tells when the sandbox went, not when it came.
    """
    conditions = status.get("conditions")
    for condition in conditions if isinstance(conditions, list) else ():
        entry = _mapping(condition)
        if entry.get("type") == "PodReadyToStartContainers" and entry.get("status") == "True":
            return timestamp_us(entry.get("lastTransitionTime"))
    return None


def _finished_at(status: Mapping[str, Any]) -> int | None:
    """When the last container of a finished pod ended."""
    finished = []
    for field in ("containerStatuses", "initContainerStatuses"):
        entries = status.get(field)
        for entry in entries if isinstance(entries, list) else ():
            terminated = _mapping(_mapping(_mapping(entry).get("state")).get("terminated"))
            at_us = timestamp_us(terminated.get("finishedAt"))
            if at_us is not None:
                finished.append(at_us)
    return max(finished, default=None)
