"""The two ends of a connection: pods, as far as policies look at them, or addresses that are none's (pure).

Source of the fields: the Kubernetes types core/v1 Pod and Namespace.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from kiptail.addresses import canonical
from kiptail.kube.object_names import is_name, is_namespace
from kiptail.pods.shape import misfit
from kiptail.pods.traits import NamedPort, named_ports
from kiptail.policies.malformed import Malformed
from kiptail.policies.policy import Address, Network

__all__ = ["Connection", "End", "Outside", "Pod", "address_of", "pod_of", "range_text", "shown"]

#: A pod has one address or two; a node some more. Others are not read.
_MOST_ADDRESSES = 8

_PORTS = ({"name": str, "containerPort": int, "protocol": str},)
_ADDRESSES = ({"ip": str},)
_SHAPE = {
    "metadata": {
        "namespace": str,
        "name": str,
        "labels": {"": str},
        "deletionTimestamp": str,
        "ownerReferences": ({"kind": str, "name": str, "controller": bool},),
    },
    "spec": {
        "nodeName": str,
        "hostNetwork": bool,
        "containers": ({"ports": _PORTS},),
        "initContainers": ({"ports": _PORTS, "restartPolicy": str},),
    },
    "status": {"phase": str, "podIP": str, "podIPs": _ADDRESSES, "hostIP": str, "hostIPs": _ADDRESSES},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod at one end of a connection."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    #: The primary one first; those of a pod on its host's network are the node's.
    addresses: tuple[Address, ...] = ()
    ports: tuple[NamedPort, ...] = ()
    #: Its traffic is the node's: no policy selects it, and as a peer only an ipBlock matches it.
    host_network: bool = False
    #: It has no traffic any more.
    finished: bool = False
    #: It is being deleted, and keeps its address for a while.
    leaving: bool = False
    node: str = ""
    node_addresses: tuple[Address, ...] = ()
    #: Its controller, as ``KIND/NAME``; "" where it has none.
    owner: str = ""

    @property
    def ref(self) -> str:
        """``NAMESPACE/NAME``."""
        return f"{self.namespace}/{self.name}"

    def numbers(self, name: str, protocol: str) -> tuple[int, ...]:
        """The numbers of the ports with this name and protocol; different containers may each have one."""
        return tuple(port.number for port in self.ports if port.name == name and port.protocol == protocol)


@dataclass(frozen=True, slots=True)
class Outside:
    """An address that is no pod's: a peer that only an ipBlock matches, and that has no say itself."""

    address: Address


End: TypeAlias = Pod | Outside


@dataclass(frozen=True, slots=True)
class Connection:
    """What is asked about. Of ICMP and other traffic without ports, ``protocol`` and ``port`` are None."""

    source: End
    destination: End
    protocol: str | None = None
    #: Of the destination.
    port: int | None = None

    def families(self) -> tuple[int | None, ...]:
        """The address families (4, 6) that both ends have; none where they have no address of the same family.

        An end whose addresses are not known yet has those of the other; ``(None,)`` where neither has any.
        """
        source, destination = _families(self.source), _families(self.destination)
        if source and destination:
            return tuple(family for family in source if family in destination)
        return source or destination or (None,)


def _families(end: End) -> tuple[int, ...]:
    addresses = end.addresses if isinstance(end, Pod) else (end.address,)
    return tuple(dict.fromkeys(address.version for address in addresses))


def address_of(end: End, family: int | None) -> Address | None:
    """The end's address of this family."""
    addresses = end.addresses if isinstance(end, Pod) else (end.address,)
    return next((address for address in addresses if address.version == family), None)


def shown(address: Address) -> str:
    """The address as kiptail writes it everywhere."""
    return canonical(str(address)) or str(address)


def range_text(network: Network) -> str:
    """The range as kiptail writes addresses."""
    return f"{shown(network.network_address)}/{network.prefixlen}"


def pod_of(obj: Mapping[str, Any]) -> Pod:
    """The :class:`Pod` of a pod object. Raises Malformed."""
    if field := misfit(obj, _SHAPE, "Pod"):
        raise Malformed(f"its {field} has the wrong type")
    metadata, spec, status = (obj.get(part) or {} for part in ("metadata", "spec", "status"))
    namespace, name = metadata.get("namespace"), metadata.get("name")
    if not (is_namespace(namespace) and is_name(name)):
        raise Malformed("it has no usable name and namespace")
    owners = (owner for owner in metadata.get("ownerReferences") or () if owner)
    host_network = spec.get("hostNetwork") is True
    node_addresses = _addresses(status, "hostIPs", "hostIP")
    return Pod(
        namespace=namespace,
        name=name,
        labels={key: value or "" for key, value in (metadata.get("labels") or {}).items()},
        addresses=_addresses(status, "podIPs", "podIP") or (node_addresses if host_network else ()),
        ports=tuple(named_ports(spec)),
        host_network=host_network,
        finished=status.get("phase") in ("Succeeded", "Failed"),
        leaving=metadata.get("deletionTimestamp") is not None,
        node=spec.get("nodeName") or "",
        node_addresses=node_addresses,
        owner=next((f"{each.get('kind')}/{each.get('name')}" for each in owners if each.get("controller")), ""),
    )


def _addresses(status: Mapping[str, Any], several: str, one: str) -> tuple[Address, ...]:
    texts: Iterable[Any] = [(each or {}).get("ip") for each in status.get(several) or ()] or [status.get(one)]
    known = dict.fromkeys(canonical(text) for text in texts if text)
    return tuple(ipaddress.ip_address(text) for text in known if text)[:_MOST_ADDRESSES]
