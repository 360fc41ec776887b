"""What a pod object says of its addresses, as a :class:`~kiptail.pods.pod.Pod` (pure).

Source of the fields: the Kubernetes type core/v1 Pod.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, KeysView, Mapping, Sequence
from datetime import datetime
from typing import Any

from kiptail.addresses import canonical
from kiptail.kube.fields import elements, mapping, mappings
from kiptail.kube.object_names import is_label_value, is_name, is_namespace, is_uid
from kiptail.pods.host_ports import host_ports
from kiptail.pods.network_status import NETWORK_STATUS, further_addresses
from kiptail.pods.opt_out import opt_out
from kiptail.pods.pod import Pod, PodRef
from kiptail.pods.shape import misfit
from kiptail.pods.traits import SharedTraits
from kiptail.pods.workload import workload_of

__all__ = ["reduce_pod", "timestamp_us"]

#: CNI plugins write a pod's addresses here, and blank it when they take them back while the object still shows them.
#: But so may whoever may change the pod: :mod:`kiptail.pods.given_back` says when that counts.
RELEASE_ANNOTATIONS = ("cni.projectcalico.org/podIP", "vpc.amazonaws.com/pod-ips")

#: A static pod's mirror: ``kubectl describe`` asks for Events by this annotation instead of the UID.
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"

#: Characters of an annotation that are looked at: more than a pod's addresses need.
_MAX_ANNOTATION = 512

#: A pod, or a node, has one or two; more are not read.
MAX_ADDRESSES = 8

#: Later times, from the year 2255 on, are none.
LATEST_US = 1 << 53

#: Ports of probes that are kept of a pod.
MAX_PROBES = 64


def timestamp_us(text: object) -> int | None:
    """A Kubernetes ``metav1.Time`` as µs since the epoch; None when it is absent or no time.

    Container runtimes say year 1 or 1970 for "unknown": no time either.
    """
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
        us = round(moment.timestamp() * 1_000_000) if moment.tzinfo else 0
    except (ValueError, OverflowError):
        return None
    return us if 0 < us < LATEST_US else None


def reduce_pod(
    obj: Mapping[str, Any], *, label: str | None = None, node: str = "", traits: SharedTraits | None = None
) -> Pod | None:
    """The :class:`Pod` of a pod object as the API server sends it; None when it is no pod, or a field has no such type.

    ``label`` is the key of the label whose value is kept; ``node`` the node of whose pods the probes are kept. With
    ``traits`` is kept what NetworkPolicies look at. Strings that many pods share are interned: an index of a whole
    cluster holds 20,000 of these.
    """
    if misfit(obj):
        return None
    metadata, spec, status = (mapping(obj.get(part)) for part in ("metadata", "spec", "status"))
    key, namespace, name = metadata.get("uid"), metadata.get("namespace"), metadata.get("name")
    if not (is_uid(key) and is_namespace(namespace) and is_name(name)):
        return None
    node_name = spec.get("nodeName")
    annotations = mapping(metadata.get("annotations"))
    value = mapping(metadata.get("labels")).get(label) if label else ""
    ready, lost = _sandbox(status)
    start = timestamp_us(status.get("startTime"))
    finished = status.get("phase") in ("Succeeded", "Failed")
    until = None
    asked = max(_deletion_asked(metadata), default=None)
    states = [mapping(entry.get("state")) for entry in _container_statuses(status)]
    if finished:
        until = _finished_at(status, states) or ready or start or 0
    addresses = () if spec.get("hostNetwork") is True else _addresses(status, "podIPs", "podIP")
    shown, blank = _annotated(annotations, addresses)
    return Pod(
        key=key,
        ref=PodRef(
            sys.intern(namespace),
            name,
            _mirrored(annotations) or key,
            sys.intern(value) if is_label_value(value) else "",
            _workload(obj),
        ),
        addresses=addresses,
        ready_us=ready,
        start_us=start,
        until_us=until,
        released=False,
        node=sys.intern(node_name) if is_name(node_name) else "",
        host_addresses=tuple(map(sys.intern, _addresses(status, "hostIPs", "hostIP"))),
        leaving=metadata.get("deletionTimestamp") is not None,
        lost_us=lost if addresses else None,
        running_us=_running_since(status, "state"),
        ran_us=_running_since(status, "lastState"),
        stopped_us=_stopped_at(states),
        asked_us=asked,
        grace_us=_seconds(spec.get("terminationGracePeriodSeconds")) * 1_000_000,
        claiming=not (addresses or finished or spec.get("hostNetwork") is True) and start is not None,
        probes=_probe_ports(spec) if node and spec.get("nodeName") == node else (),
        shown=shown,
        blank=blank,
        runs=any("running" in state for state in states),
        alive_us=max([ready or start or 0, *_container_times(states), asked or 0]) if blank else 0,
        host_ports=host_ports(spec),
        claims=further_addresses(annotations.get(NETWORK_STATUS), addresses) if addresses else (),
        traits=traits.of(obj) if traits is not None and addresses else None,
        opt_out=opt_out(annotations),
    )


def _workload(obj: Mapping[str, Any]) -> str:
    """What made the pod; interned but for that of a bare pod, which no other has."""
    workload = workload_of(obj)
    return workload if workload.startswith("pod/") else sys.intern(workload)


def _mirrored(annotations: Mapping[str, Any]) -> str:
    """The UID that the mirror of a static pod stands for, or "".

    Whoever creates a pod can claim that it is one. Its Events then have the UID that ``kubectl describe`` asks for all
    the same, and its own name and namespace: nobody else sees them.
    """
    uid = annotations.get(MIRROR_ANNOTATION)
    return uid if is_uid(uid) else ""


def _annotated(annotations: Mapping[str, Any], addresses: tuple[str, ...]) -> tuple[int, int]:
    """:attr:`Pod.shown` and :attr:`Pod.blank`; the values are as ``10.0.0.1/32`` or ``10.0.0.1,fd00::1``."""
    shown = blank = 0
    for bit, annotation in enumerate(RELEASE_ANNOTATIONS):
        value = annotations.get(annotation)
        if value == "":
            blank |= 1 << bit
        elif isinstance(value, str) and len(value) <= _MAX_ANNOTATION:
            texts = (part.strip().partition("/")[0] for part in value.split(","))
            shown |= (not _canonical(texts).isdisjoint(addresses)) << bit
    return shown, blank


def _addresses(status: Mapping[str, Any], plural: str, single: str) -> tuple[str, ...]:
    """Canonical addresses of ``podIPs``/``podIP`` or ``hostIPs``/``hostIP``; older servers send only the latter."""
    entries = elements(status.get(plural))[:MAX_ADDRESSES]
    return tuple(_canonical([*(entry.get("ip") for entry in mappings(entries)), status.get(single)]))


def _canonical(texts: Iterable[object]) -> KeysView[str]:
    """Those that are addresses, each once and in their order."""
    addresses = (canonical(text) for text in texts if isinstance(text, str))
    return dict.fromkeys(address for address in addresses if address is not None).keys()


def _times(values: Iterable[object]) -> list[int]:
    return [us for us in map(timestamp_us, values) if us is not None]


def _sandbox(status: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """When the pod's sandbox got its network, and since when it has none (any more): as far as the object says so.

    After a node's reboot the same UID and startTime can have another address; this condition then is the truth.
    """
    for condition in mappings(status.get("conditions")):
        if condition.get("type") == "PodReadyToStartContainers":
            changed_us = timestamp_us(condition.get("lastTransitionTime"))
            match condition.get("status"):
                case "True":
                    return changed_us, None
                case "False":
                    return None, changed_us
    return None, None


def _container_statuses(status: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Of init containers (sidecars are among them), ephemeral ones and the others."""
    for field in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        yield from mappings(status.get(field))


def _container_times(states: Iterable[Mapping[str, Any]]) -> list[int]:
    running = [mapping(state.get("running")).get("startedAt") for state in states]
    return _times([*running, *(mapping(state.get("terminated")).get("finishedAt") for state in states)])


def _running_since(status: Mapping[str, Any], which: str) -> int | None:
    """The earliest start of the containers' latest runs (``state``), or of the runs before those (``lastState``)."""
    states = [mapping(entry.get(which)) for entry in _container_statuses(status)]
    runs = [mapping(state.get(run)) for state in states for run in ("running", "terminated")]
    return min(_times(run.get("startedAt") for run in runs), default=None)


def _stopped_at(states: Sequence[Mapping[str, Any]]) -> int | None:
    """When the last container ended, if the object tells that of each that had begun."""
    begun = [state for state in states if "waiting" not in state]
    ends = _times(mapping(state.get("terminated")).get("finishedAt") for state in begun)
    return max(ends) if begun and len(ends) == len(begun) else None


def _finished_at(status: Mapping[str, Any], states: Sequence[Mapping[str, Any]]) -> int | None:
    """When the last container of a finished pod ended; None when nothing tells.

    A pod that was evicted or whose node was lost is Failed while its containers are shown as they were, and for one
    that the runtime forgot there is no time: the pod's last condition is then the nearest that the object tells.
    """
    stopped = _stopped_at(states)
    if stopped is not None:
        return stopped
    ends = _times(mapping(state.get("terminated")).get("finishedAt") for state in states)
    ends += _times(condition.get("lastTransitionTime") for condition in mappings(status.get("conditions")))
    return max(ends, default=None)


def _deletion_asked(metadata: Mapping[str, Any]) -> list[int]:
    """When it was asked to go; ``deletionTimestamp`` is when its grace is over, which is in the future at first."""
    seconds = _seconds(metadata.get("deletionGracePeriodSeconds"))
    return [us - seconds * 1_000_000 for us in _times([metadata.get("deletionTimestamp")])]


def _seconds(value: object) -> int:
    """A duration in seconds, between 0 and a day: nothing here has to wait longer."""
    return min(max(0, value), 86_400) if type(value) is int else 0


def _probe_ports(spec: Mapping[str, Any]) -> tuple[int, ...]:
    """The ports of its containers' probes, those given by the name of a container's port included."""
    ports: list[int] = []
    for field in ("containers", "initContainers"):
        for container in mappings(spec.get(field)):
            named = {entry.get("name"): entry.get("containerPort") for entry in _named_ports(container)}
            for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
                for action in ("httpGet", "tcpSocket", "grpc"):
                    port = mapping(mapping(container.get(probe)).get(action)).get("port")
                    number = named.get(port) if isinstance(port, str) else port
                    if type(number) is int and 0 < number < 65_536:
                        ports.append(number)
    return tuple(sorted(set(ports))[:MAX_PROBES])


def _named_ports(container: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (entry for entry in mappings(container.get("ports")) if isinstance(entry.get("name"), str))
