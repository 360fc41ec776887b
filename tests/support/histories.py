"""Random histories of a node: pods come, get addresses of a range that is too small, and go in every way there is.

What the API server says follows from what truly happened as it does on a real node (tests/handover shows that): times
are cut to whole seconds, and a pod's address is shown after its first packets. The truth is kept beside it.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

__all__ = ["CLIENT", "History", "Packet", "Tenancy", "history"]

#: A pod that is there all the time, and sends to addresses that others have, or had.
CLIENT = "10.0.9.9"
ADDRESSES = ("10.0.0.1", "10.0.0.2")
OUTSIDE = "192.0.2.7"
#: The ports of flows that go on from one owner to the next; all other packets have a port of their own.
SHARED_OUT, SHARED_IN = 9099, 7000
BEGIN = 1_800_000_000.0


@dataclass
class Tenancy:
    """A pod's time with an address, as it truly was; seconds since the epoch."""

    uid: str
    address: str
    #: The network plugin gave it the address, its first container started and its last one ended.
    given: float
    started: float = float("inf")
    ended: float = float("inf")
    #: It was deleted by force; and nobody can say until when it had the address then, but not so long.
    deleted: float = float("inf")
    doubtful: float = 0.0


@dataclass(frozen=True)
class Packet:
    at: float
    src: str
    dst: str
    port: int


@dataclass
class History:
    changes: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)
    tenancies: list[Tenancy] = field(default_factory=list)
    packets: list[Packet] = field(default_factory=list)
    client: dict[str, Any] = field(default_factory=dict)

    @property
    def end(self) -> float:
        return max([BEGIN, *(at for at, *_ in self.changes), *(packet.at for packet in self.packets)])


def _text(at: float) -> str:
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Pod:
    """A pod object as it changes."""

    def __init__(self, name: str, made: float, grace: int) -> None:
        self.uid = f"uid-{name}"
        self.deleted = False
        self.object: dict[str, Any] = {
            "metadata": {"name": name, "namespace": "ns", "uid": self.uid, "creationTimestamp": _text(made)},
            "spec": {"nodeName": "node1", "terminationGracePeriodSeconds": grace},
            "status": {"phase": "Pending", "conditions": []},
        }

    def ready(self, at: float, status: str) -> None:
        condition = {"type": "PodReadyToStartContainers", "status": status, "lastTransitionTime": _text(at)}
        self.object["status"]["conditions"] = [condition]

    def containers(self, **state: Any) -> None:
        before = self.object["status"].get("containerStatuses", [{}])[0].get("state", {})
        self.object["status"]["containerStatuses"] = [{"name": "c", "state": state, "lastState": before}]

    def shown(self) -> dict[str, Any]:
        copy: dict[str, Any] = _copy(self.object)
        return copy


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


class _Node:
    """The kubelet, the network plugin and the API server, one thing after the other."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.history = rng, History()
        self.now = BEGIN
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._free = list(ADDRESSES)
        self._waiting: list[Callable[[], None]] = []
        #: Kubelets differ in what they say of a sandbox.
        self.condition = rng.choice(["early", "early", "late", "never"])

    def after(self, seconds: float, then: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now + seconds, next(self._count), then))

    def run(self, until: float) -> None:
        while self._queue and self._queue[0][0] <= until:
            self.now, _, then = heapq.heappop(self._queue)
            then()

    def say(self, kind: str, pod: _Pod) -> None:
        if not pod.deleted:
            self.history.changes.append((self.now, kind, pod.shown()))
        pod.deleted = pod.deleted or kind == "DELETED"

    # -- a pod's life ---------------------------------------------------------------------------------------

    def create(self, name: str) -> None:
        pod = _Pod(name, self.now, self.rng.choice([0, 1, 2, 4]))
        self.say("ADDED", pod)

        def accept() -> None:
            pod.object["status"]["startTime"] = _text(self.now)
            if self.condition != "never":
                pod.ready(self.now, "False")
            pod.containers(waiting={"reason": "ContainerCreating"})
            self.say("MODIFIED", pod)
            self.after(self.rng.choice([0.02, 0.1, 0.4]), lambda: self.network(pod, again=False))

        self.after(self.rng.uniform(0.005, 0.02), accept)

    def network(self, pod: _Pod, *, again: bool) -> None:
        """The plugin gives it an address, when one is free."""
        if not self._free:
            self._waiting.append(lambda: self.network(pod, again=again))
            return
        address = self._free.pop(0)
        tenancy = Tenancy(pod.uid, address, self.now)
        self.history.tenancies.append(tenancy)

        def ready() -> None:
            pod.ready(self.now, "True")
            self.say("MODIFIED", pod)

        def start() -> None:
            tenancy.started = self.now
            pod.containers(running={"startedAt": _text(self.now)})
            self.after(self.rng.choice([0.005, 0.02, 0.3]), show)
            life = self.rng.choice([0.3, 1.0, 2.5, 6.0]) * self.rng.uniform(0.5, 1.5)
            self.after(life, lambda: self.end(pod, tenancy, again=again))

        def show() -> None:
            if tenancy.ended < self.now:
                return  # its end is shown, or nothing
            pod.object["status"]["podIP"] = address
            pod.object["status"]["podIPs"] = [{"ip": address}]
            pod.object["status"]["phase"] = "Running"
            if self.condition == "late" or (again and self.condition == "early"):
                pod.ready(self.now, "True")
            self.say("MODIFIED", pod)

        if self.condition == "early" and not again:
            self.after(self.rng.uniform(0.02, 0.08), ready)
        self.after(self.rng.choice([0.12, 0.2, 1.2]), start)

    def end(self, pod: _Pod, tenancy: Tenancy, *, again: bool) -> None:
        how = self.rng.choice(["finished", "graceful", "graceful", "forced", "forced", "sandbox"])
        metadata, grace = pod.object["metadata"], pod.object["spec"]["terminationGracePeriodSeconds"]
        started = _text(tenancy.started)

        def stop() -> None:
            tenancy.ended = self.now
            pod.containers(terminated={"startedAt": started, "finishedAt": _text(self.now), "exitCode": 0})

        def release() -> None:
            self._free.append(tenancy.address)
            if self._waiting:
                self.after(0.0, self._waiting.pop(0))

        def finish() -> None:
            pod.object["status"]["podIP"] = tenancy.address
            pod.object["status"]["podIPs"] = [{"ip": tenancy.address}]
            pod.object["status"]["phase"] = self.rng.choice(["Succeeded", "Failed"])
            if self.condition != "never":
                pod.ready(self.now, "False")
            self.say("MODIFIED", pod)

        def delete() -> None:
            self.say("DELETED", pod)

        rng = self.rng
        if how == "sandbox" and (again or self.condition == "never"):
            how = "finished"  # what a kubelet that old says of a sandbox made anew cannot be told from a restart
        if how == "finished":
            stop()
            self.after(rng.uniform(0.05, 0.2), release)
            self.after(rng.choice([0.1, 0.9]), finish)
            if rng.random() < 0.5:
                self.after(rng.uniform(1.0, 9.0), delete)
        elif how == "graceful":
            metadata["deletionGracePeriodSeconds"] = max(1, grace)
            metadata["deletionTimestamp"] = _text(self.now + max(1, grace))
            self.say("MODIFIED", pod)
            takes = rng.uniform(0.01, max(1, grace))
            self.after(takes, stop)
            self.after(takes + 0.1, release)
            self.after(takes + 0.15, finish)
            self.after(takes + rng.choice([0.2, 1.0]), delete)
        elif how == "forced":
            metadata["deletionGracePeriodSeconds"] = 0
            metadata["deletionTimestamp"] = _text(self.now)
            self.say("MODIFIED", pod)
            delete()
            takes = rng.uniform(0.05, max(0.2, grace))
            tenancy.deleted, tenancy.doubtful = self.now, self.now + grace + 5.0
            self.after(takes, stop)
            self.after(takes + 0.1, release)
        else:
            stop()
            if self.condition != "never":
                pod.ready(self.now, "False")
            self.say("MODIFIED", pod)
            self.after(0.05, release)
            self.after(rng.choice([0.06, 1.5]), lambda: self.network(pod, again=True))


def history(seed: int, *, pods: int = 7) -> History:
    """The history with this number."""
    rng = random.Random(seed)
    node = _Node(rng)
    at = 0.0
    for number in range(pods):
        at += rng.choice([0.0, 0.1, 1.0, 3.0])
        node.after(at, lambda name=f"p{number}": node.create(name))  # type: ignore[misc]
    node.run(BEGIN + 60.0)
    story = node.history
    client = _Pod("client", BEGIN - 100, 30)
    client.object["status"] = {"phase": "Running", "startTime": _text(BEGIN - 100), "podIP": CLIENT}
    client.containers(running={"startedAt": _text(BEGIN - 99)})
    story.client = client.shown()
    ports = itertools.count(10_000)
    for tenancy in story.tenancies:
        last = min(tenancy.ended, BEGIN + 60.0)
        moment = tenancy.started + 0.003
        while moment < last:
            for port in (SHARED_OUT, next(ports)):
                story.packets.append(Packet(moment, tenancy.address, OUTSIDE, port))
            moment += rng.choice([0.05, 0.3, 0.7])
    end = story.end
    moment = BEGIN + rng.random()
    while moment < end:
        for port in (SHARED_IN, next(ports)):
            story.packets.append(
                Packet(moment, CLIENT, rng.choice(ADDRESSES) if port != SHARED_IN else ADDRESSES[0], port)
            )
        moment += rng.choice([0.2, 0.9, 2.0])
    story.packets.sort(key=lambda packet: packet.at)
    story.changes.sort(key=lambda change: change[0])
    return story
