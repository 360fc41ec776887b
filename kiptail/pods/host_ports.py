"""Ports of nodes that pods have for themselves: which pods these are (pure but for a lock).

Packets to such a port of a node's address go to the pod, and a line may show either address.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kiptail.addresses import canonical
from kiptail.kube.fields import mappings
from kiptail.pods.pod import HostPort, Pod, PodRef

__all__ = ["HostPorts", "host_ports"]

_PROTOCOLS = ("TCP", "UDP", "SCTP")
#: Host ports that are kept of a pod, and entries that are looked at for them.
_MOST_KEPT, _MOST_READ = 64, 1_000
_ANY = ("", "0.0.0.0", "::")  # noqa: S104 - nothing is bound here


def host_ports(spec: Mapping[str, Any]) -> tuple[HostPort, ...]:
    """Those of a pod's containers, by ``hostPort``; what is not as it should be is not looked at."""
    return tuple(dict.fromkeys(_read(spec)))[:_MOST_KEPT]


def _read(spec: Mapping[str, Any]) -> Iterator[HostPort]:
    left = _MOST_READ
    for container in mappings(spec.get("containers")):
        for port in mappings(container.get("ports")):
            left -= 1
            number, protocol, given = port.get("hostPort"), port.get("protocol") or "TCP", port.get("hostIP") or ""
            if left < 0 or type(number) is not int or not 0 < number < 1 << 16 or protocol not in _PROTOCOLS:
                continue
            address = canonical(given) if isinstance(given, str) and given not in _ANY else given
            if isinstance(address, str):
                yield HostPort(protocol, number, "" if address in _ANY else address)


class HostPorts:
    """Who has which port of a node; one thread writes it, any may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: The pods with host ports by their node, and by their ``metadata.uid``.
        self._by_node: dict[str, dict[str, Pod]] = {}
        self._nodes: dict[str, str] = {}

    def replace(self, pods: Iterable[Pod]) -> None:
        """These are all pods there are."""
        with self._lock:
            self._by_node, self._nodes = {}, {}
            for pod in pods:
                self._put(pod)

    def put(self, pod: Pod) -> None:
        """A pod was added or changed."""
        if pod.host_ports:
            with self._lock:
                self._put(pod)

    def remove(self, key: str) -> None:
        """The pod with this ``metadata.uid`` is gone."""
        with self._lock:
            self._remove(key)

    def users(self, node: str, address: str, protocol: str, number: int, at_us: int) -> tuple[PodRef, ...]:
        """The pods that have this port of a node's address, had it at ``at_us`` already, and are not over."""
        with self._lock:
            found = [
                pod
                for pod in self._by_node.get(node, {}).values()
                if any(port[:2] == (protocol, number) and port.address in ("", address) for port in pod.host_ports)
            ]
        return tuple(pod.ref for pod in found if pod.start_us is not None and pod.start_us <= at_us)

    def _put(self, pod: Pod) -> None:
        """With the lock held."""
        if not pod.host_ports or not pod.node:
            return
        if pod.until_us is not None or pod.leaving:
            self._remove(pod.key)
            return
        self._nodes[pod.key] = pod.node
        self._by_node.setdefault(pod.node, {})[pod.key] = pod

    def _remove(self, key: str) -> None:
        """With the lock held."""
        node = self._nodes.pop(key, None)
        if node is not None:
            del self._by_node[node][key]
            if not self._by_node[node]:
                del self._by_node[node]
