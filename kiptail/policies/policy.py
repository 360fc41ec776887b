"""A NetworkPolicy, reduced to what decides, and checked as the API server does it (pure).

Source: the Kubernetes type networking.k8s.io/v1 NetworkPolicy and its validation.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from kiptail.kube.object_names import is_name, is_namespace
from kiptail.pods.shape import misfit
from kiptail.policies.malformed import Malformed
from kiptail.policies.selector import Selector, selector_of

__all__ = [
    "DIRECTIONS",
    "METADATA_NAME",
    "PROTOCOLS",
    "Address",
    "Block",
    "Network",
    "Peer",
    "Policy",
    "Port",
    "Rule",
    "policy_of",
]

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

DIRECTIONS = ("ingress", "egress")
PROTOCOLS = ("TCP", "UDP", "SCTP")
#: Every namespace has this label, with its own name.
METADATA_NAME = "kubernetes.io/metadata.name"

_TYPES = {"Ingress": "ingress", "Egress": "egress"}
#: RFC 6335, as the API server checks the name of a port: with a letter in it.
_PORT_NAME = re.compile(r"(?=.{1,15}\Z)(?=.*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*")

#: Objects within objects; a NetworkPolicy has ten.
_MOST_NESTED = 32
_TEXTS = {"": str}
_SELECTOR = {"matchLabels": _TEXTS, "matchExpressions": ({"key": str, "operator": str, "values": (str,)},)}
_BLOCK = {"cidr": str, "except": (str,)}
_PEERS = ({"podSelector": _SELECTOR, "namespaceSelector": _SELECTOR, "ipBlock": _BLOCK},)
_PORTS = ({"protocol": str, "endPort": int},)
_SHAPE = {
    "metadata": {"namespace": str, "name": str, "labels": _TEXTS, "annotations": _TEXTS},
    "spec": {
        "podSelector": _SELECTOR,
        "policyTypes": (str,),
        "ingress": ({"from": _PEERS, "ports": _PORTS},),
        "egress": ({"to": _PEERS, "ports": _PORTS},),
    },
}


@dataclass(frozen=True, slots=True)
class Block:
    """Addresses of one family: those of ``network`` that are in none of ``excepts``."""

    network: Network
    excepts: tuple[Network, ...] = ()

    def excepting(self, address: Address) -> Network | None:
        """The exception that the address is in."""
        return next((network for network in self.excepts if address in network), None)

    def holds(self, address: Address) -> bool:
        """Whether it matches the address."""
        return address in self.network and self.excepting(address) is None


@dataclass(frozen=True, slots=True)
class Peer:
    """Who may be at the other end: an address (``block``), or pods, by one or both of the selectors."""

    #: None where only ``namespaces`` is given: all pods of those.
    pods: Selector | None = None
    #: None: pods of the policy's own namespace.
    namespaces: Selector | None = None
    block: Block | None = None


@dataclass(frozen=True, slots=True)
class Port:
    """A port of the destination."""

    protocol: str = "TCP"
    #: A number, a name that each destination pod gives a number, or None: all ports of that protocol.
    port: int | str | None = None
    #: The last number of a range.
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """What is admitted: from or to any of ``peers``, on any of ``ports``; without any, from everybody, on all."""

    peers: tuple[Peer, ...] = ()
    ports: tuple[Port, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """A NetworkPolicy."""

    namespace: str
    name: str
    #: Of the pods of its namespace.
    selects: Selector
    #: None where it does not apply to this direction; without rules it isolates and admits nothing.
    ingress: tuple[Rule, ...] | None
    egress: tuple[Rule, ...] | None

    @property
    def ref(self) -> str:
        """``NAMESPACE/NAME``."""
        return f"{self.namespace}/{self.name}"

    def rules(self, direction: str) -> tuple[Rule, ...] | None:
        """Those for ``ingress`` or ``egress``."""
        return self.ingress if direction == "ingress" else self.egress


def policy_of(obj: Mapping[str, Any]) -> Policy:
    """The policy of a NetworkPolicy object, as the API server sends it or a file has it. Raises Malformed."""
    if field := misfit(obj, _SHAPE, "NetworkPolicy"):
        raise Malformed(f"its {field} has the wrong type")
    if _nested(obj) > _MOST_NESTED:
        raise Malformed("it is nested too deeply")
    metadata, spec = obj.get("metadata") or {}, obj.get("spec") or {}
    namespace, name = metadata.get("namespace"), metadata.get("name")
    if not (is_namespace(namespace) and is_name(name)):
        raise Malformed("it has no usable name and namespace")
    types = spec.get("policyTypes") or ("Ingress", *(("Egress",) if spec.get("egress") else ()))
    if not set(types) <= _TYPES.keys():
        raise Malformed("its policyTypes are not known")
    directions = {_TYPES[each] for each in types}
    return Policy(
        namespace,
        name,
        selector_of(spec.get("podSelector")),
        ingress=_rules(spec, "ingress", "from") if "ingress" in directions else None,
        egress=_rules(spec, "egress", "to") if "egress" in directions else None,
    )


def _nested(obj: object) -> int:
    """How deep objects and lists are within each other; fields that are not known count as well: they are copied."""
    depth, level = 0, [obj]
    while level and depth <= _MOST_NESTED:
        depth += 1
        parts = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, (dict, list))]
        level = [each for part in parts for each in part]
    return depth


def _rules(spec: Mapping[str, Any], direction: str, peers: str) -> tuple[Rule, ...]:
    """A null in a list is what the API server takes it for, an empty object."""
    return tuple(
        Rule(
            tuple(_peer(peer or {}) for peer in rule.get(peers) or ()),
            tuple(_port(port or {}) for port in rule.get("ports") or ()),
        )
        for rule in (each or {} for each in spec.get(direction) or ())
    )


def _peer(obj: Mapping[str, Any]) -> Peer:
    pods, namespaces, block = obj.get("podSelector"), obj.get("namespaceSelector"), obj.get("ipBlock")
    if block is not None:
        if pods is not None or namespaces is not None:
            raise Malformed("a peer has an ipBlock and selectors")
        return Peer(block=Block(_network(block.get("cidr")), tuple(map(_network, block.get("except") or ()))))
    if pods is None and namespaces is None:
        raise Malformed("a peer has neither selectors nor an ipBlock")
    return Peer(
        None if pods is None else selector_of(pods),
        None if namespaces is None else selector_of(namespaces),
    )


def _network(text: str | None) -> Network:
    try:
        return _parsed(text or "")
    except ValueError as error:
        raise Malformed("an ipBlock has a range that is none") from error


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> Network:
    """The same ranges stand in many policies, and each takes half a kilobyte."""
    return ipaddress.ip_network(text, strict=False)


def _port(obj: Mapping[str, Any]) -> Port:
    protocol, port, end = obj.get("protocol") or "TCP", obj.get("port"), obj.get("endPort")
    if protocol not in PROTOCOLS:
        raise Malformed("a port has a protocol that is not known")
    if isinstance(port, str):
        if not _PORT_NAME.fullmatch(port):
            raise Malformed("a port has a name that cannot be one")
    elif port is not None and (type(port) is not int or not 0 < port < 1 << 16):
        raise Malformed("a port is neither a number nor a name")
    if end is not None and (type(port) is not int or not port <= end < 1 << 16):
        raise Malformed("an endPort does not follow a port's number")
    return Port(protocol, port, end)
