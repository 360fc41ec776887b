"""A pod object, reduced to what ownership of its addresses needs (pure).

Source of the fields: the Kubernetes type core/v1 Pod.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from ipaddress import ip_address
from typing import Any, NamedTuple

__all__ = ["Pod", "PodRef", "reduce_pod", "timestamp_us"]

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
    """What ownership needs of a pod object. Times are µs since the epoch."""

    #: ``metadata.uid``: what the watch knows the object by.
    key: str
    ref: PodRef
    addresses: tuple[str, ...]
    #: When its sandbox, and with it the network, was ready; None = the object does not say.
    ready_us: int | None
    #: When the kubelet accepted it, which is before it had addresses; None = not yet.
    start_us: int | None
    #: When it stopped using them; None = it still does. Of one that ``released`` them, the last sign of it.
    until_us: int | None
    #: The CNI plugin took them back, at ``until_us`` or later, though the pod has not finished.
    released: bool
    node: str
    #: The addresses of the node it runs on.
    host_addresses: tuple[str, ...]
    #: It is being deleted, or its sandbox is gone: its addresses may be another's, and only that one shows since when.
    leaving: bool = False


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
    return us if us > 0 else None


def reduce_pod(obj: Mapping[str, Any], *, label: str | None = None) -> Pod | None:
    """The :class:`Pod` of a pod object as the API server sends it; None when it is no pod.

    ``label`` is the key of the label whose value is kept. Strings that many pods share are interned: an index of a
    whole cluster holds 20,000 of these.
    """
    metadata, spec, status = (_mapping(obj.get(part)) for part in ("metadata", "spec", "status"))
    key, namespace, name = metadata.get("uid"), metadata.get("namespace"), metadata.get("name")
    if not (isinstance(key, str) and isinstance(namespace, str) and isinstance(name, str)):
        return None
    annotations = _mapping(metadata.get("annotations"))
    ready, not_ready = _sandbox(status)
    start = timestamp_us(status.get("startTime"))
    finished = status.get("phase") in ("Succeeded", "Failed")
    released = not finished and any(annotations.get(a) == "" for a in RELEASE_ANNOTATIONS)
    until = None
    if finished:
        until = _finished_at(status) or ready or start or 0
    elif released:
        until = max([ready or start or 0, *_container_times(status), *_deletion_asked(metadata)])
    return Pod(
        key=key,
        ref=PodRef(
            sys.intern(namespace),
            name,
            _text(annotations.get(MIRROR_ANNOTATION)) or key,
            _shared(_mapping(metadata.get("labels")).get(label) if label else ""),
        ),
        addresses=() if spec.get("hostNetwork") is True else _addresses(status, "podIPs", "podIP"),
        ready_us=ready,
        start_us=start,
        until_us=until,
        released=released,
        node=_shared(spec.get("nodeName")),
        host_addresses=tuple(map(sys.intern, _addresses(status, "hostIPs", "hostIP"))),
        leaving=metadata.get("deletionTimestamp") is not None or not_ready,
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> Iterator[Mapping[str, Any]]:
    return map(_mapping, value if isinstance(value, list) else ())


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _shared(value: object) -> str:
    return sys.intern(_text(value))


def _addresses(status: Mapping[str, Any], plural: str, single: str) -> tuple[str, ...]:
    """Canonical addresses of ``podIPs``/``podIP`` or ``hostIPs``/``hostIP``; older servers send only the latter."""
    addresses = []
    for text in [*(entry.get("ip") for entry in _mappings(status.get(plural))), status.get(single)]:
        try:
            addresses.append(str(ip_address(str(text))))
        except ValueError:
            continue
    return tuple(dict.fromkeys(addresses))


def _times(values: Iterable[object]) -> list[int]:
    return [us for us in map(timestamp_us, values) if us is not None]


def _sandbox(status: Mapping[str, Any]) -> tuple[int | None, bool]:
    """When the pod's sandbox got its network, if the object says so; and whether it says that there is none (any more).

    After a node's reboot the same UID and startTime can have another address; this condition then is the truth.
    While it is False, its transition tells when the sandbox went, not when it came.
    """
    for condition in _mappings(status.get("conditions")):
        if condition.get("type") == "PodReadyToStartContainers":
            if condition.get("status") == "True":
                return timestamp_us(condition.get("lastTransitionTime")), False
            return None, condition.get("status") == "False"
    return None, False


def _containers(status: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The state of each container: init containers (sidecars are among them), ephemeral ones and the others."""
    for field in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        for entry in _mappings(status.get(field)):
            yield _mapping(entry.get("state"))


def _container_times(status: Mapping[str, Any]) -> list[int]:
    states = list(_containers(status))
    running = [_mapping(state.get("running")).get("startedAt") for state in states]
    return _times([*running, *(_mapping(state.get("terminated")).get("finishedAt") for state in states)])


def _finished_at(status: Mapping[str, Any]) -> int | None:
    """When the last container of a finished pod ended; None when nothing tells.

    A pod that was evicted or whose node was lost is Failed while its containers are shown as they were, and for one
    that the runtime forgot there is no time: the pod's last condition is then the nearest that the object tells.
    """
    states = list(_containers(status))
    ends = _times(_mapping(state.get("terminated")).get("finishedAt") for state in states)
    begun = [state for state in states if "waiting" not in state]
    if not ends or len(ends) < len(begun):
        ends += _times(condition.get("lastTransitionTime") for condition in _mappings(status.get("conditions")))
    return max(ends, default=None)


def _deletion_asked(metadata: Mapping[str, Any]) -> list[int]:
    """When it was asked to go; ``deletionTimestamp`` is when its grace is over, which is in the future at first."""
    grace = metadata.get("deletionGracePeriodSeconds")
    seconds = grace if isinstance(grace, int) else 0
    return [us - seconds * 1_000_000 for us in _times([metadata.get("deletionTimestamp")])]
