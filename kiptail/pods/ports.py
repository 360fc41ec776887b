"""What is known of the ports of pods, Services and nodes that are followed."""

from __future__ import annotations

from typing import Protocol

from kiptail.pods.local import LocalPods
from kiptail.pods.other_nodes import OtherPods
from kiptail.pods.pod import Pod, PodRef
from kiptail.pods.traits import name_of_port

__all__ = ["LivePorts", "ServicePorts", "pod_at"]


class ServicePorts(Protocol):
    """What Services call their ports."""

    def port_name(self, address: str, protocol: str, port: int) -> str:
        """What the Service with this address calls a port, or ""."""


class LivePorts:
    """The answers of a cluster that is followed: :class:`kiptail.pods.index.PodPorts`."""

    def __init__(self, local: LocalPods, others: OtherPods, services: ServicePorts) -> None:
        self._local, self._others, self._services = local, others, services

    def probed(self, address: str, port: int) -> bool:
        """As :meth:`LocalPods.probed`."""
        return self._local.probed(address, port)

    def called(self, address: str, uid: str, protocol: str, port: int) -> str:
        """As :meth:`kiptail.pods.index.PodPorts.called`."""
        if not uid:
            return self._services.port_name(address, protocol, port)
        pod = pod_at(self._local, self._others, address, uid) or self._local.claims.pod(address, uid)
        return name_of_port(pod.traits.ports, protocol, port) if pod is not None and pod.traits is not None else ""

    def users(self, node: str, address: str, protocol: str, port: int, at_us: int) -> tuple[PodRef, ...]:
        """As :meth:`kiptail.pods.host_ports.HostPorts.users`, of pods that are watched."""
        return self._local.host_ports.users(node, address, protocol, port, at_us)


def pod_at(local: LocalPods, others: OtherPods, address: str, uid: str) -> Pod | None:
    """The pod with the UID that Events name, as it is now, if it had the address and is not gone."""
    pods = (*local.pods_at(address), *others.pods_at(address))
    return next((pod for pod in pods if pod.ref.uid == uid), None)
