"""Noise that is known: names for what many want to leave out, so that nobody has to write filters for it (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType

__all__ = ["MULTICAST", "NOISE", "PROBES", "REPLIES", "is_to_many"]

REPLIES, MULTICAST, PROBES = "replies", "multicast", "probes"

#: By name, what it leaves out and why one may want that. None is left out unless it is named.
NOISE: Mapping[str, str] = MappingProxyType(
    {
        REPLIES: (
            "answers of TCP services, and TCP packets that reset a connection (RST). They are what firewalls drop of"
            " connections that they have forgotten, or that were closed at one end."
        ),
        MULTICAST: (
            "packets to a multicast address (224.0.0.0/4, ff00::/8) or to 255.255.255.255. Discovery protocols send"
            " them to whoever listens, and most firewalls let none pass. That an address is its network's broadcast"
            " address is not known by the address alone: leave those out by dst."
        ),
        PROBES: (
            "packets of this node to one of its pods on a port that the pod's probes use, where a failed probe says by"
            " itself what is wrong."
        ),
    }
)

_BROADCAST = IPv4Address("255.255.255.255")


def is_to_many(destination: IPv4Address | IPv6Address) -> bool:
    """Packets to this address are for many, or for whoever listens."""
    return destination.is_multicast or destination == _BROADCAST
