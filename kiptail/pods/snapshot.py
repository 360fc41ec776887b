"""Pods from a list: what an offline dry run, and a report, ask instead of following a cluster.

Nodes and Services in it give names.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from kiptail import inputfile
from kiptail.errors import SettingsError
from kiptail.kube.object_names import is_name, is_namespace, is_uid
from kiptail.pods.address_names import LONGEST_PORT_NAME, AddressNames, note_node, note_service
from kiptail.pods.claims import Claims
from kiptail.pods.host_ports import HostPorts
from kiptail.pods.ownership import NEVER, Hands, Owned, Ownership, hands_of
from kiptail.pods.pod import Pod, PodRef
from kiptail.pods.pod_object import reduce_pod
from kiptail.pods.shape import misfit
from kiptail.pods.stats import IndexStats
from kiptail.pods.tenancy import owned
from kiptail.pods.traits import NamedPort, SharedTraits, name_of_port
from kiptail.text import one_line

__all__ = ["Also", "Collector", "Snapshot", "SnapshotIndex", "load_snapshot"]

log = logging.getLogger(__name__)

#: 20,000 pods have 300 MB.
MOST_BYTES = 1 << 30
REMEDY = "make it with `kubectl get pods -A -o json > FILE`"


class Snapshot(NamedTuple):
    """What a list says."""

    pods: list[Pod]
    #: Names of addresses that are no pods', as :attr:`AddressNames.names`.
    names: Mapping[str, str]
    #: The named ports of Services, by address.
    ports: Mapping[str, tuple[NamedPort, ...]] = MappingProxyType({})
    #: What made each pod, as :attr:`PodRef.workload`, by namespace and name.
    workloads: Mapping[tuple[str, str], str] = MappingProxyType({})


class SnapshotPorts:
    """What pods that do not change say of ports: :class:`kiptail.pods.index.PodPorts`."""

    def __init__(self, ownership: Ownership, claims: Claims, snapshot: Snapshot, wall_us: Callable[[int], int]) -> None:
        """``wall_us`` as for :class:`SnapshotOwners`."""
        self._ownership, self._claims, self._wall_us = ownership, claims, wall_us
        self._services = snapshot.ports
        self._hosts = HostPorts()
        self._hosts.replace(snapshot.pods)

    def probed(self, address: str, port: int) -> bool:
        """A pod that has the address is probed on this port: nobody asks, for the node is not known."""
        return False

    def called(self, address: str, uid: str, protocol: str, port: int) -> str:
        """As :meth:`kiptail.pods.index.PodPorts.called`."""
        if not uid:
            return name_of_port(self._services.get(address, ()), protocol, port, longest=LONGEST_PORT_NAME)
        pods = (pod for pod in self._ownership.pods_at(address) if pod.ref.uid == uid)
        pod = next(pods, None) or self._claims.pod(address, uid)
        return name_of_port(pod.traits.ports, protocol, port) if pod is not None and pod.traits is not None else ""

    def users(self, node: str, address: str, protocol: str, port: int, at_us: int) -> tuple[PodRef, ...]:
        """As :meth:`HostPorts.users`."""
        return self._hosts.users(node, address, protocol, port, self._wall_us(at_us))


class SnapshotOwners:
    """The answers of pods that do not change: :class:`kiptail.pods.index.PodOwners`."""

    def __init__(self, ownership: Ownership, claims: Claims, snapshot: Snapshot, wall_us: Callable[[int], int]) -> None:
        """``wall_us`` makes times of the wall clock, as the pods' are, of those that are asked for."""
        self._ownership, self._claims = ownership, claims
        self._names = snapshot.names
        #: What is known of ports.
        self.ports = SnapshotPorts(ownership, claims, snapshot, wall_us)
        self._wall_us = wall_us
        #: Whose owners opted out of Events.
        self.opt_outs = (ownership.opt_outs,)

    def ready(self) -> bool:
        """A snapshot is complete."""
        return True

    def current(self) -> bool:
        """There is no news to wait for."""
        return True

    def owned(self, address: str, at_us: int) -> Owned:
        """As :meth:`Ownership.owned`."""
        return self._ownership.owned(address, self._wall_us(at_us))

    def recorded(self, address: str, at_us: int) -> Owned:
        """As :meth:`Ownership.owned`."""
        return self.owned(address, at_us)

    def claimed(self, address: str, at_us: int) -> Owned:
        """As :meth:`kiptail.pods.index.PodOwners.claimed`."""
        return owned(self._claims.intervals(address), self._wall_us(at_us))

    def claimable(self, address: str, at_us: int) -> bool:
        """It is no listed pod's by its status."""
        return not self._ownership.register.intervals(address)

    def contested(self, address: str, at_us: int) -> bool:
        """A snapshot does not change."""
        return False

    def hands(self, address: str) -> Hands:
        """When the address changed hands, or may have."""
        return hands_of(self._ownership.register.intervals(address) or self._claims.intervals(address))

    def dates(self, address: str, uid: str) -> bool:
        """It is known when the pod with this UID had the address."""
        known = (*self._ownership.register.intervals(address), *self._claims.intervals(address))
        return any(interval.ref.uid == uid for interval in known)

    def name(self, address: str) -> str:
        """``node/NAME``, ``service NAMESPACE/NAME``, or ""."""
        node = self._ownership.node(address)
        return f"node/{node}" if node else self._names.get(address, "")

    def awaits(self, address: str, at_us: int) -> bool:
        """A snapshot does not change."""
        return False

    def pod(self, address: str, uid: str) -> Pod | None:
        """The pod with this UID, if it had the address."""
        return next((pod for pod in self._ownership.pods_at(address) if pod.ref.uid == uid), None)


class SnapshotIndex:
    """Pods that do not change: :class:`kiptail.pods.index.PodIndex`."""

    #: Nothing is watched.
    local = None
    #: What policies look at is not kept: there is no cluster to ask for policies.
    details = None
    #: There is nothing that could fail.
    trouble = ""

    def __init__(self, snapshot: Snapshot, *, now_us: int, wall_us: Callable[[int], int] = int) -> None:
        """``wall_us`` makes times of the wall clock, as the pods' are, of those that are asked for."""
        self._ownership = Ownership()
        self._ownership.replace(snapshot.pods, now_us=now_us, seen_us=now_us)
        self._claims = Claims()
        self._claims.replace(snapshot.pods, now_us=now_us, seen_us=now_us)
        #: The answers.
        self.owners = SnapshotOwners(self._ownership, self._claims, snapshot, wall_us)

    def start(self) -> None:
        """There is nothing to follow."""

    def stop(self, timeout: float = 2.0) -> None:
        """There are no threads."""

    def ready(self) -> bool:
        """A snapshot is complete."""
        return True

    def fresh_us(self) -> int:
        """All there is is known."""
        return NEVER

    def has_node(self, name: str) -> bool:
        """Some pod runs on this node."""
        return self._ownership.has_node(name)

    def forget(self, before_us: int) -> None:
        """The file stays as it is."""

    def stats(self) -> IndexStats:
        """For the metrics."""
        return IndexStats(pods=len(self._ownership), malformed=self._claims.malformed)


#: Also shown each object, with what it is when it does not say so itself; whether that is of another kind than a
#: snapshot is made of, and of use all the same.
Also = Callable[[dict[str, Any], str], bool]


def load_snapshot(path: Path, *, label: str | None, labelled: bool = False, also: Also | None = None) -> Snapshot:
    """What ``kubectl get pods -A -o json`` wrote, also with nodes and Services in it; raises SettingsError.

    ``label`` is as :func:`reduce_pod` takes it; ``labelled``: all labels of pods are kept.
    """
    shown = f"--pods: {one_line(str(path))}"
    try:
        document = json.loads(inputfile.read(path, MOST_BYTES))
    except OSError as error:
        raise SettingsError(f"{shown} cannot be read: {error.strerror}; {REMEDY}") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{shown} is no JSON; {REMEDY}") from error
    kind = _text(document, "kind")
    items = document.get("items") if isinstance(document, dict) else None
    if kind == "Pod":  # of `kubectl get pod NAME -o json`
        items = [document]
    if not isinstance(items, list):
        raise SettingsError(f"{shown} holds no list of pods; {REMEDY}")
    collector = Collector(label=label, labelled=labelled, also=also)
    return _reduced(items, shown, kind=kind.removesuffix("List") or "Pod", collector=collector)


def _reduced(items: list[Any], shown: str, *, kind: str, collector: Collector) -> Snapshot:
    """``kind`` is that of items that have none themselves, as in a list that came from the API server directly."""
    for item in items:
        collector.add(item, kind)
    refused = collector.refused
    if refused:
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(refused.items()))
        log.warning("%s: %d of %d items are not used: %s", shown, refused.total(), len(items), why)
    snapshot = collector.snapshot()
    if not snapshot.pods:
        log.warning("%s holds no pod: every address is a stranger's", shown)
    return snapshot


class Collector:
    """Makes a snapshot of objects, one by one."""

    def __init__(self, *, label: str | None = None, labelled: bool = False, also: Also | None = None) -> None:
        """``label`` is as :func:`reduce_pod` takes it; ``labelled``: all labels of pods are kept."""
        self._label, self._also = label, also
        self._traits = SharedTraits(labels=labelled)
        self._pods: list[Pod] = []
        self._workloads: dict[tuple[str, str], str] = {}
        self._services = AddressNames()
        self._nodes = AddressNames()
        #: How many objects were not used, by why; each a short text that quotes nothing of them.
        self.refused: Counter[str] = Counter()

    def add(self, item: object, kind: str) -> None:
        """Note an object; ``kind`` is what it is when it does not say so itself."""
        if not isinstance(item, dict):
            self.refused["no object"] += 1
            return
        useful = self._also is not None and self._also(item, kind)
        match _text(item, "kind") or kind:
            case "Pod":
                self._add_pod(item)
            case "Node":
                note_node(item, self._nodes)
            case "Service":
                note_service(item, self._services)
            case _ if not useful:
                self.refused["of another kind"] += 1

    def snapshot(self) -> Snapshot:
        """All that was noted."""
        # Nodes last: a load balancer may have Services use their addresses.
        names = self._services.names | self._nodes.names
        return Snapshot(self._pods, names, ports=self._services.ports, workloads=self._workloads)

    def _add_pod(self, item: dict[str, Any]) -> None:
        pod = reduce_pod(item, label=self._label, traits=self._traits)
        if pod is None:
            self.refused[_why_no_pod(item)] += 1
            return
        self._pods.append(pod)
        self._workloads[pod.ref.namespace, pod.ref.name] = pod.ref.workload


def _why_no_pod(item: dict[str, Any]) -> str:
    """A short text that quotes nothing of the item."""
    if field := misfit(item):
        return f"with a {field} of the wrong type"
    metadata = item.get("metadata") or {}
    if not metadata.get("uid"):
        return "without metadata.uid"
    usable = {
        "uid": is_uid(metadata["uid"]),
        "namespace": is_namespace(metadata.get("namespace")),
        "name": is_name(metadata.get("name")),
    }
    return f"without a usable metadata.{next(field for field, good in usable.items() if not good)}"


def _text(document: object, key: str) -> str:
    value = document.get(key) if isinstance(document, dict) else None
    return value if isinstance(value, str) else ""
