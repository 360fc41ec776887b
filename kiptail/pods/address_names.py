"""What a Node and a Service call their addresses (pure).

Source of the fields: the Kubernetes types core/v1 Node and Service.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

from kiptail.addresses import canonical
from kiptail.kube.fields import elements, mapping
from kiptail.kube.object_names import is_name, is_namespace, is_port_name
from kiptail.pods.ranges import Network
from kiptail.pods.traits import NamedPort

__all__ = ["LONGEST_PORT_NAME", "AddressNames", "note_node", "note_service"]

#: A node, or a Service, has a few addresses and ranges; more are not read.
MAX_ADDRESSES = 32
#: The longest name of a Service's port, in characters; a container's has 15.
LONGEST_PORT_NAME = 63


@dataclass(frozen=True, slots=True)
class AddressNames:
    """What objects say; filled one by one."""

    #: By address: ``node/NAME``, ``service NAMESPACE/NAME``.
    names: dict[str, str] = field(default_factory=dict)
    #: Nodes' addresses inside of the cluster. Others are from anywhere, and tell nothing of a new node's.
    internal: list[str] = field(default_factory=list)
    #: By a Service's address: its ports that have a name.
    ports: dict[str, tuple[NamedPort, ...]] = field(default_factory=dict)
    pod_ranges: list[Network] = field(default_factory=list)


def note_node(obj: Mapping[str, Any], listed: AddressNames) -> None:
    """A node's addresses, and the ranges that its pods have."""
    name = mapping(obj.get("metadata")).get("name")
    if not is_name(name):
        return
    for entry in map(mapping, _some(mapping(obj.get("status")).get("addresses"))):
        address = _address(entry.get("address"))
        if address:
            listed.names[address] = f"node/{name}"
            if entry.get("type") == "InternalIP":
                listed.internal.append(address)
    for text in _some(mapping(obj.get("spec")).get("podCIDRs")):
        try:
            listed.pod_ranges.append(ip_network(text if isinstance(text, str) else ""))
        except ValueError:
            continue


def note_service(obj: Mapping[str, Any], listed: AddressNames) -> None:
    """A Service's own addresses. Not ``externalIPs``: whoever may create a Service can claim any address there."""
    metadata, spec = mapping(obj.get("metadata")), mapping(obj.get("spec"))
    namespace, name = metadata.get("namespace"), metadata.get("name")
    if not (is_namespace(namespace) and is_name(name)):
        return
    ports = tuple(_ports(spec))
    for text in _some(spec.get("clusterIPs")) or [spec.get("clusterIP")]:
        address = _address(text)
        if address:
            listed.names[address] = f"service {namespace}/{name}"
            listed.ports[address] = ports


def _ports(spec: Mapping[str, Any]) -> Iterator[NamedPort]:
    """A Service's ports that have a name."""
    for entry in map(mapping, _some(spec.get("ports"))):
        name, protocol, number = entry.get("name"), entry.get("protocol") or "TCP", entry.get("port")
        if is_port_name(name, longest=LONGEST_PORT_NAME) and isinstance(protocol, str) and type(number) is int:
            yield NamedPort(sys.intern(name), sys.intern(protocol), number)


def _address(text: object) -> str:
    """In its canonical form; "" for a host's name and what is none."""
    return (canonical(text) or "") if isinstance(text, str) else ""


def _some(value: object) -> list[Any]:
    """The elements of a list that are looked at."""
    return elements(value)[:MAX_ADDRESSES]
