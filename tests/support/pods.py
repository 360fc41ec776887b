"""Pod objects as tests need them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["NoNames", "pod"]


class NoNames:
    """A cluster without nodes and Services."""

    def settled(self) -> bool:
        return True

    def name(self, address: str) -> str:
        return ""

    def port_name(self, address: str, protocol: str, port: int) -> str:
        return ""

    def no_pod(self, address: str) -> bool:
        return False

    def note_pods(self, addresses: Iterable[str]) -> None:
        pass


def pod(
    name: str,
    *addresses: str,
    namespace: str = "team-a",
    node: str = "worker-3",
    phase: str = "Running",
    host_network: bool = False,
    host: str = "198.51.100.3",
    start: str = "2026-01-01T00:00:00Z",
    **metadata: Any,
) -> dict[str, Any]:
    """A core/v1 Pod that runs, unless told otherwise; ``metadata`` is added to its own."""
    status: dict[str, Any] = {
        "phase": phase,
        "hostIP": host,
        "hostIPs": [{"ip": host}],
        "startTime": start,
        "podIPs": [{"ip": address} for address in addresses],
    }
    if addresses:
        status["podIP"] = addresses[0]
    spec: dict[str, Any] = {"nodeName": node, "containers": [{"name": "c", "image": "x"}]}
    if host_network:
        spec["hostNetwork"] = True
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": spec,
        "status": status,
    }
