"""Addresses that the cluster may have given a name since its list was read, and when to read it again for them (pure).

A Service or a node that is younger than the list has an address in the range of those that are older. The list is read
again soon for such an address, then ever more rarely: it may as well be a stranger's, or a Service's that is gone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from kiptail.pods.ranges import Network, covering

__all__ = ["SERVICE_RANGES", "Unnamed", "node_ranges", "service_ranges"]

#: The API server takes no larger range for Services than 20 bits.
SERVICE_RANGES = {4: 12, 6: 108}
#: Where nothing shows how large the Services' range is, this much around those that are there.
AROUND_SERVICES = {4: 16, 6: 112}
#: A network of nodes: a cloud's virtual network at most, and a subnet at least, however few nodes are in it yet.
NODE_RANGES, AROUND_NODES = {4: 16, 6: 48}, {4: 24, 6: 64}
#: Where the nodes' addresses are further apart, the subnets around them that have most nodes; the most of these.
MAX_SUBNETS = 8

#: Seconds until an address without a name has the list read again: the first pause, which doubles up to the last one.
PAUSE, PAUSE_CAP = 10.0, 300.0
#: It is forgotten when nobody has asked for it for longer, in seconds: a flow's ends are asked for when it opens.
FORGOTTEN_AFTER = 900.0
#: The most that are kept, those that were asked for last. One list is enough for all of them.
MAX_ADDRESSES = 256
#: Seconds between two lists, at least, and for each object in it …
PACE, PACE_PER_OBJECT = 10.0, 0.02
#: The largest multiple of that while no list brings any name: ever new strangers must not cost that much.
SLOWEST = 4


@dataclass(slots=True)
class _Address:
    asked_at: float
    #: When a list is worth reading for it.
    due_at: float
    pause: float


class Unnamed:
    """The addresses without a name in the range of one list. Times are in seconds of any clock. Not for threads."""

    def __init__(self) -> None:
        self._addresses: dict[str, _Address] = {}
        #: Those that were asked for before the list that is being read.
        self._listing: frozenset[str] = frozenset()
        self._not_before = -math.inf
        self._slowness = 1

    def __len__(self) -> int:
        return len(self._addresses)

    def ask(self, address: str, *, now: float, after: float) -> bool:
        """Somebody asked. True when it was not kept yet; a list is worth reading ``after`` seconds then."""
        known = self._addresses.pop(address, None)
        if known is None:
            while len(self._addresses) >= MAX_ADDRESSES:
                del self._addresses[next(iter(self._addresses))]
        kept = known or _Address(now, now + after, PAUSE)
        kept.asked_at = now
        self._addresses[address] = kept  # at the end: those in front are the ones to go
        return known is None

    def __contains__(self, address: str) -> bool:
        return address in self._addresses

    def drop(self, addresses: Iterable[str]) -> None:
        """These are pods'."""
        for address in addresses:
            self._addresses.pop(address, None)

    def next_at(self, now: float) -> float:
        """When the list is to be read for them; infinite when there are none."""
        for address in [a for a, kept in self._addresses.items() if now - kept.asked_at > FORGOTTEN_AFTER]:
            del self._addresses[address]
        return max(self._not_before, min((kept.due_at for kept in self._addresses.values()), default=math.inf))

    def list_began(self) -> None:
        """The list is being read: what is asked for from now on it may lack."""
        self._listing = frozenset(self._addresses)

    def listed(self, names: Collection[str], *, objects: int, now: float, jitter: float) -> None:
        """The list was read: ``names`` have one. It has that many ``objects``; ``jitter`` multiplies the pace."""
        awaited = self._listing.intersection(self._addresses)
        fruitful = False
        for address in awaited:
            if address in names:
                fruitful = True
                del self._addresses[address]
                continue
            kept = self._addresses[address]
            kept.due_at, kept.pause = now + kept.pause, min(2 * kept.pause, PAUSE_CAP)
        pace = PACE + PACE_PER_OBJECT * objects
        if fruitful or not awaited:
            self._slowness = 1
        self._not_before = now + pace * self._slowness * jitter
        if awaited and not fruitful:
            self._slowness = min(2 * self._slowness, SLOWEST)

    def hold(self, until: float) -> None:
        """The list could not be read, and is not worth another try before then."""
        self._not_before = until


def service_ranges(addresses: Collection[str], first: str) -> tuple[Network, ...]:
    """Where Services' addresses can be, given those that there are.

    ``first`` is the address of ``default/kubernetes``, or "": the first one of the range. The range is then at most as
    large as one that begins there can be, and the others may be too few to show more.
    """
    found: list[Network] = []
    for version, longest in SERVICE_RANGES.items():
        shown = covering(addresses, version=version, longest=longest)
        if shown is None:
            continue
        found.append(shown)
        begin = int(ip_address(first)) - 1 if first and ip_address(first).version == version else 0
        if begin:
            length = max(longest, shown.max_prefixlen - ((begin & -begin).bit_length() - 1))
            found.append(ip_network((ip_address(first), length), strict=False))
        else:
            found.append(_at_least(shown, AROUND_SERVICES[version]))
    return tuple(dict.fromkeys(found))


def node_ranges(addresses: Collection[str]) -> tuple[Network, ...]:
    """Where nodes' addresses can be, given those that there are: a new node has one in the subnet of its neighbours.

    Not the first addresses of a node's ``podCIDRs``, though bridges and tunnels often have them: the node's object
    does not say so, no list would name them, and with a CNI plugin's own IPAM they are any pod's.
    """
    found: list[Network] = []
    for version, longest in NODE_RANGES.items():
        shown = covering(addresses, version=version, longest=longest)
        if shown is not None:
            found.append(_at_least(shown, AROUND_NODES[version]))
            continue
        ips = [ip for ip in map(ip_address, addresses) if ip.version == version]
        subnets = Counter(ip_network((ip, AROUND_NODES[version]), strict=False) for ip in ips)
        found += [subnet for subnet, _ in subnets.most_common(MAX_SUBNETS)]
    return tuple(found)


def _at_least(network: Network, length: int) -> Network:
    return network if network.prefixlen <= length else network.supernet(new_prefix=length)
