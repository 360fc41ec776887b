"""Pods' lives as a kubelet tells them to the API server: the same states in the same order as in tests/handover.

All times are cut to whole seconds, as a kubelet's are.
"""

from __future__ import annotations

import time
from typing import Any

from tests.apiserver import ApiServer
from tests.support.pods import pod
from tests.support.scene import NODE_NAME

__all__ = ["NAMESPACE", "Kubelet"]

NAMESPACE = "team-a"
#: The grace period of a pod that does not say otherwise, in seconds.
GRACE_S = 30
#: What was long ago began so many seconds ago.
LONG_S = 600


class Kubelet:
    """That of the node ``NODE_NAME``. Each method writes one change of a pod; ``at`` (seconds) dates it, if not now.

    Several servers are told the same of a pod.
    """

    def __init__(self, *servers: ApiServer) -> None:
        self._servers = servers

    def run(self, name: str, address: str, *, at: float | None = None, grace_s: int = GRACE_S) -> None:
        """A pod from its beginning until it runs; long ago, unless told otherwise."""
        began = time.time() - LONG_S if at is None else at
        self.accept(name, at=began, grace_s=grace_s)
        self.make_sandbox(name, at=began)
        self.show(name, address, at=began)

    def accept(self, name: str, *, at: float | None = None, grace_s: int = GRACE_S) -> None:
        """It was bound to the node, and its sandbox is being made."""
        new = pod(name, namespace=NAMESPACE, node=NODE_NAME, phase="Pending", start=_text(at))
        new["spec"]["terminationGracePeriodSeconds"] = grace_s
        new["status"] |= {
            "conditions": [_sandbox(ready=False, at=at)],
            "containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "ContainerCreating"}}}],
        }
        del new["status"]["podIPs"]
        for server in self._servers:
            server.pods.put(new)

    def make_sandbox(self, name: str, *, at: float | None = None) -> None:
        """The CNI plugin has given it an address, which the object does not show yet."""
        self._change(name, conditions=[_sandbox(ready=True, at=at)])

    def show(self, name: str, address: str, *, at: float | None = None) -> None:
        """Its container runs, and the object shows its address."""
        self._change(
            name,
            phase="Running",
            podIP=address,
            podIPs=[{"ip": address}],
            containerStatuses=[{"name": "c", "state": {"running": {"startedAt": _text(at)}}}],
        )

    def ask_to_end(self, name: str) -> None:
        """It was deleted, and its container is told to end."""
        for server in self._servers:
            server.terminate(name, namespace=NAMESPACE, grace=GRACE_S)

    def finish(self, name: str, *, at: float | None = None) -> None:
        """Its container has ended, and the CNI plugin has taken the address back, which the object still shows."""
        self._change(
            name,
            phase="Succeeded",
            conditions=[_sandbox(ready=False, at=at)],
            containerStatuses=[{"name": "c", "state": {"terminated": {"exitCode": 0, "finishedAt": _text(at)}}}],
        )

    def delete(self, name: str) -> None:
        """The object of a finished pod is gone."""
        for server in self._servers:
            server.pods.delete(name, namespace=NAMESPACE)

    def delete_by_force(self, name: str) -> None:
        """``kubectl delete --force --grace-period=0``: the object is gone, and nothing tells when the container is."""
        for server in self._servers:
            server.terminate(name, namespace=NAMESPACE, grace=0)

    def _change(self, name: str, **status: Any) -> None:
        for server in self._servers:
            known = server.pods.get(name, namespace=NAMESPACE)
            assert known is not None
            server.pods.put({**known, "status": {**known["status"], **status}})


def _text(at: float | None) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def _sandbox(*, ready: bool, at: float | None) -> dict[str, str]:
    return {"type": "PodReadyToStartContainers", "status": str(ready), "lastTransitionTime": _text(at)}
