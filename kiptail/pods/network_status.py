"""A pod's addresses in further networks, as Multus and its like write them into an annotation (pure).

Source: the Network Plumbing Working Group's "Kubernetes Network Custom Resource Definition De-facto Standard", 4.1.5:
``k8s.v1.cni.cncf.io/network-status`` holds a JSON list with an object for each network, of which ``ips`` are read here.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address

from kiptail.addresses import canonical
from kiptail.kube import strict_json

__all__ = ["NETWORK_STATUS", "further_addresses"]

NETWORK_STATUS = "k8s.v1.cni.cncf.io/network-status"

#: Characters of the annotation, its networks and all their addresses, at most; a pod has a few.
_LONGEST, _MOST_NETWORKS, _MOST_ADDRESSES = 16_384, 32, 64


def further_addresses(annotation: object, own: Collection[str]) -> tuple[str, ...] | None:
    """The addresses in the annotation that are not among its pod's ``own``, in their canonical form.

    None where it is not what it should be, or too large: then nothing in it counts. What no other machine could
    send to, such as link-local addresses, is left out.
    """
    if annotation is None or annotation == "":
        return ()
    if not isinstance(annotation, str) or len(annotation) > _LONGEST:
        return None
    try:
        networks = strict_json.parse(annotation.encode())
    except ValueError:  # UnicodeEncodeError is one
        return None
    if networks is None:
        return ()
    if not isinstance(networks, list) or len(networks) > _MOST_NETWORKS:
        return None
    found: dict[str, None] = {}
    for network in networks:
        ips = network.get("ips") if isinstance(network, dict) else ()
        if not isinstance(network, dict) or not isinstance(ips, list | None):
            return None
        for text in ips or ():
            address = canonical(text) if isinstance(text, str) else None
            if address is None or len(found) == _MOST_ADDRESSES:
                return None
            found[address] = None
    return tuple(address for address in found if address not in own and not _is_special(address))


def _is_special(address: str) -> bool:
    ip = ip_address(address)
    return ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified
