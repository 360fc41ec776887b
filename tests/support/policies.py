"""NetworkPolicies for tests: objects, a naive evaluator of them, and random clusters.

The evaluator is written from the facts, on the bare objects, and shares nothing with kiptail's.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from kiptail.policies.cluster import Objects
from kiptail.policies.ends import Connection, End, Outside

__all__ = [
    "Cluster",
    "clusters",
    "connection",
    "group",
    "naive_allowed",
    "naive_end",
    "namespace",
    "objects_of",
    "policy",
    "random_cluster",
    "workload_pod",
]

Json = dict[str, Any]


def workload_pod(
    name: str,
    *addresses: str,
    namespace: str = "team-a",
    labels: Json | None = None,
    ports: tuple[Json, ...] = (),
    **more: Any,
) -> Json:
    """A pod; ``more``: ``owner`` (``Kind/name``), ``host_network``, ``phase``, ``node``, ``host``, ``init``."""
    metadata: Json = {"name": name, "namespace": namespace, "uid": f"uid-{namespace}-{name}"}
    if labels:
        metadata["labels"] = labels
    if "owner" in more:
        kind, _, owner = more["owner"].partition("/")
        metadata["ownerReferences"] = [{"kind": kind, "name": owner, "controller": True}]
    spec: Json = {"nodeName": more.get("node", "node-1"), "containers": [{"name": "c", "ports": list(ports)}]}
    if "init" in more:
        spec["initContainers"] = more["init"]
    if more.get("host_network"):
        spec["hostNetwork"] = True
    status: Json = {"phase": more.get("phase", "Running"), "podIPs": [{"ip": each} for each in addresses]}
    host = more.get("host", "198.51.100.1")
    status |= {"hostIP": host, "hostIPs": [{"ip": host}]}
    if addresses:
        status["podIP"] = addresses[0]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


def namespace(name: str, **labels: str) -> Json:
    """A Namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def policy(name: str, *, namespace: str = "team-a", **spec: Any) -> Json:
    """A NetworkPolicy."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {}, **spec},
    }


def objects_of(*given: Json) -> Objects:
    """What kiptail makes of objects, none of which it may refuse."""
    objects = Objects()
    for obj in given:
        objects.take(obj)
    assert not objects.refusals(), objects.refusals()
    return objects


def connection(objects: Objects, source: str, destination: str, port: str = "80/TCP") -> Connection:
    """A connection between pods (``namespace/name``) or addresses; ``port`` is "" for ICMP."""
    number, _, protocol = port.partition("/")
    ends = [_end(objects, source), _end(objects, destination)]
    return Connection(ends[0], ends[1], protocol or None, int(number) if port else None)


def _end(objects: Objects, text: str) -> End:
    return objects.pods[text] if "/" in text else Outside(ipaddress.ip_address(text))


# -- the naive evaluator


def _selected(selector: Json | None, labels: Json) -> bool:
    selector = selector or {}
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions") or []:
        there = expression["key"] in labels
        among = labels.get(expression["key"]) in (expression.get("values") or [])
        truth = {"In": there and among, "NotIn": not (there and among), "Exists": there, "DoesNotExist": not there}
        if not truth[expression["operator"]]:
            return False
    return True


def _labels(obj: Json) -> Json:
    return obj["metadata"].get("labels") or {}


def _namespace_labels(cluster: Cluster, name: str) -> Json:
    found = next((each for each in cluster.namespaces if each["metadata"]["name"] == name), None)
    return {**(_labels(found) if found else {}), "kubernetes.io/metadata.name": name}


def _addresses(end: Json | str) -> list[str]:
    return [end] if isinstance(end, str) else [each["ip"] for each in end["status"]["podIPs"]]


def _peer_ok(cluster: Cluster, peer: Json, own: str, end: Json | str, address: str) -> bool:
    if "ipBlock" in peer:
        at = ipaddress.ip_address(address)
        networks = [ipaddress.ip_network(text) for text in peer["ipBlock"].get("except") or []]
        return at in ipaddress.ip_network(peer["ipBlock"]["cidr"]) and not any(at in network for network in networks)
    if isinstance(end, str) or end["spec"].get("hostNetwork"):
        return False
    where = end["metadata"]["namespace"]
    if "namespaceSelector" in peer:
        if not _selected(peer["namespaceSelector"], _namespace_labels(cluster, where)):
            return False
    elif where != own:
        return False
    return _selected(peer.get("podSelector"), _labels(end))


def _port_ok(port: Json, destination: Json | str, protocol: str | None, number: int | None) -> bool:
    if protocol is None or number is None or (port.get("protocol") or "TCP") != protocol:
        return False
    wanted = port.get("port")
    if wanted is None:
        return True
    if isinstance(wanted, int):
        return number in range(wanted, (port.get("endPort") or wanted) + 1)
    if isinstance(destination, str):
        return False
    containers = list(destination["spec"]["containers"])
    containers += [each for each in destination["spec"].get("initContainers") or [] if each.get("restartPolicy")]
    declared = [each for container in containers for each in container.get("ports") or []]
    return any(
        each.get("name") == wanted and (each.get("protocol") or "TCP") == protocol and each["containerPort"] == number
        for each in declared
    )


def naive_end(
    cluster: Cluster,
    direction: str,
    ends: tuple[Json | str, Json | str],
    addresses: tuple[str, str],
    port: tuple[str | None, int | None],
) -> tuple[list[str], list[str]] | None:
    """Which policies isolate that end, and which of those admit; None where it is no pod, or the host's network."""
    own, peer = ends if direction == "egress" else ends[::-1]
    peer_address = addresses[1] if direction == "egress" else addresses[0]
    if isinstance(own, str) or own["spec"].get("hostNetwork"):
        return None
    isolating, admitting = [], []
    for each in cluster.policies:
        spec, where = each["spec"], each["metadata"]["namespace"]
        types = spec.get("policyTypes") or (["Ingress", "Egress"] if spec.get("egress") else ["Ingress"])
        if where != own["metadata"]["namespace"] or direction.capitalize() not in types:
            continue
        if not _selected(spec["podSelector"], _labels(own)):
            continue
        name = f"{where}/{each['metadata']['name']}"
        isolating.append(name)
        for rule in spec.get(direction) or []:
            peers = rule.get("to" if direction == "egress" else "from") or []
            ports = rule.get("ports") or []
            if peers and not any(_peer_ok(cluster, one, where, peer, peer_address) for one in peers):
                continue
            if ports and not any(_port_ok(one, ends[1], *port) for one in ports):
                continue
            admitting.append(name)
            break
    return sorted(isolating), sorted(admitting)


def naive_allowed(
    cluster: Cluster, source: Json | str, destination: Json | str, port: tuple[str | None, int | None]
) -> bool:
    """Whether it is allowed over any family that both have."""
    if source == destination:
        return bool(_addresses(source))
    for one in _addresses(source):
        for other in _addresses(destination):
            if (":" in one) != (":" in other):
                continue
            results = [
                naive_end(cluster, direction, (source, destination), (one, other), port)
                for direction in ("egress", "ingress")
            ]
            if all(result is None or not result[0] or result[1] for result in results):
                return True
    return False


def group(pod: Json) -> tuple[str, str]:
    """The workload of a pod: that of its controller, or its own."""
    metadata = pod["metadata"]
    owners = metadata.get("ownerReferences")
    return metadata["namespace"], owners[0]["name"] if owners else f"pod {metadata['name']}"


# -- random clusters


class Cluster:
    """Objects of a cluster."""

    def __init__(self, namespaces: list[Json], pods: list[Json], policies: list[Json]) -> None:
        self.namespaces = namespaces
        self.pods = pods
        self.policies = policies

    def objects(self) -> Objects:
        return objects_of(*self.namespaces, *self.pods, *self.policies)

    def __repr__(self) -> str:
        return f"Cluster({self.namespaces!r}, {self.pods!r}, {self.policies!r})"


NAMESPACES = ("team-a", "team-b", "team-c")
KEYS = ("app", "tier", "env")
VALUES = ("x", "y", "z")
NAMES = ("http", "dns", "metrics")
PORTS = (53, 80, 8080)
PROTOCOLS = ("TCP", "UDP", "SCTP")
OUTSIDE = ("192.0.2.7", "198.51.100.99", "2001:db8::7")


class _Chance:
    """What a cluster is made of, by chance."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def one(self, *choices: Any) -> Any:
        return self._random.choice(choices)

    def some(self, most: int, make: Callable[[], Any]) -> list[Any]:
        return [make() for _ in range(self._random.randint(0, most))]

    def labels(self) -> Json:
        return {key: self.one(*VALUES) for key in KEYS if self.one(True, False)}

    def expression(self) -> Json:
        key, operator = self.one(*KEYS), self.one("In", "NotIn", "Exists", "DoesNotExist")
        values = sorted({self.one(*VALUES), self.one(*VALUES)})
        return {"key": key, "operator": operator, **({"values": values} if operator in ("In", "NotIn") else {})}

    def selector(self) -> Json:
        kind = self.one("all", "labels", "label", "expressions", "both")
        made: Json = {}
        if kind in ("labels", "both"):
            made["matchLabels"] = self.labels()
        if kind == "label":
            made["matchLabels"] = {self.one(*KEYS): self.one(*VALUES)}
        if kind in ("expressions", "both"):
            made["matchExpressions"] = self.some(2, self.expression)
        return made

    def namespaces(self) -> Json:
        by_name = {"matchLabels": {"kubernetes.io/metadata.name": self.one(*NAMESPACES)}}
        return by_name if self.one(True, False) else self.selector()

    def block(self) -> Json:
        kind = self.one(4, 6, "one")
        if kind == "one":
            address = self.one(*OUTSIDE)
            return {"cidr": f"{address}/{128 if ':' in address else 32}"}
        if kind == 4:
            inner = self.some(2, lambda: self.one("10.0.0.8/29", "10.0.0.4/30", "10.0.0.7/32"))
            return {"cidr": self.one("10.0.0.0/8", "0.0.0.0/0"), "except": inner}
        inner = self.some(2, lambda: self.one("fd00::10/124", "fd00::3/128"))
        return {"cidr": self.one("fd00::/16", "::/0"), "except": inner}

    def peer(self) -> Json:
        match self.one("pods", "namespaces", "both", "block"):
            case "pods":
                return {"podSelector": self.selector()}
            case "namespaces":
                return {"namespaceSelector": self.namespaces()}
            case "both":
                return {"podSelector": self.selector(), "namespaceSelector": self.namespaces()}
        return {"ipBlock": self.block()}

    def port(self) -> Json:
        protocol = self.one(None, *PROTOCOLS)
        made = {"protocol": protocol} if protocol else {}
        match self.one("all", "number", "name", "range"):
            case "number":
                made["port"] = self.one(*PORTS)
            case "name":
                made["port"] = self.one(*NAMES)
            case "range":
                made |= {"port": self.one(50, 80), "endPort": self.one(80, 9000)}
        return made

    def rule(self, peers: str) -> Json:
        made: Json = {}
        if self.one(True, True, False):
            made[peers] = self.some(3, self.peer)
        if self.one(True, False):
            made["ports"] = self.some(3, self.port)
        return made

    def spec(self) -> Json:
        made: Json = {"podSelector": self.selector()}
        types = self.one(None, ["Ingress"], ["Egress"], ["Ingress", "Egress"], [])
        if types is not None:
            made["policyTypes"] = types
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            if self.one(True, False):
                made[direction] = self.some(2, lambda peers=peers: self.rule(peers))
        return made

    def declared(self) -> Json:
        protocol = self.one(None, *PROTOCOLS)
        made = {"name": self.one(*NAMES), "containerPort": self.one(*PORTS)}
        return {**made, "protocol": protocol} if protocol else made

    def pod(self, number: int) -> Json:
        families = self.one("4", "6", "46")
        addresses = [f"10.0.0.{number + 1}"] * ("4" in families) + [f"fd00::{number + 1:x}"] * ("6" in families)
        owner = self.one("", "", "ReplicaSet/one", "ReplicaSet/two")
        return workload_pod(
            f"pod-{number}",
            *addresses,
            namespace=self.one(*NAMESPACES),
            labels=self.labels(),
            ports=tuple(self.some(2, self.declared)),
            node=f"node-{number}",
            host=f"198.51.100.{number + 1}",
            host_network=self.one(*[False] * 14, True),
            init=[
                {"name": "sidecar", "restartPolicy": "Always", "ports": self.some(1, self.declared)},
                {"name": "init", "ports": self.some(1, self.declared)},
            ],
            **({"owner": owner} if owner else {}),
        )


def random_cluster(seed: int) -> Cluster:
    """30 pods, with addresses of both families, and 20 policies, in three namespaces."""
    chance = _Chance(seed)
    return Cluster(
        [namespace(name, **chance.labels()) for name in NAMESPACES],
        [chance.pod(number) for number in range(30)],
        [policy(f"policy-{number}", namespace=chance.one(*NAMESPACES), **chance.spec()) for number in range(20)],
    )


def clusters() -> st.SearchStrategy[Cluster]:
    """Of :func:`random_cluster`."""
    return st.integers(0, 2**64).map(random_cluster)
