"""Which addresses can be pods' (pure): what is waited for, and looked up, instead of called a stranger's at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

__all__ = ["Network", "PodRanges", "covering"]

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: RFC 1918, carrier-grade NAT's (some clouds give it to pods), and IPv6's unique local addresses.
PRIVATE: tuple[Network, ...] = tuple(
    ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
#: Around a pod with another address, that much is taken for pods': a CNI's own IPAM does not publish its ranges.
AROUND = {4: 16, 6: 48}
#: The most such ranges that are kept; a cluster has a few.
MAX_SEEN = 64


class PodRanges:
    """``--pod-cidr`` says which addresses can be pods'; without it, private ones and those near what pods have.

    Asked from any thread; what is noted replaces a tuple, so no lock is needed.
    """

    def __init__(self, configured: Sequence[Network] = ()) -> None:
        self._configured = tuple(configured)
        self._seen: tuple[Network, ...] = ()
        self._of_nodes: tuple[Network, ...] = ()
        #: Whether pods' first, and second, addresses are IPv6: True, False or both.
        self._first_are_six: set[bool] = set()
        self._second_are_six: set[bool] = set()

    def could_be_pod(self, address: str) -> bool:
        """Whether a pod can have this address, as far as its range tells."""
        ip = ip_address(address)
        if _is_special(ip):
            return False
        if self._configured:
            return _within(ip, self._configured)
        return _within(ip, PRIVATE) or _within(ip, self._of_nodes) or _within(ip, self._seen)

    def is_second(self, address: str) -> bool:
        """The cluster's pods have addresses of this family as their second ones only, which no selector finds."""
        six = ":" in address
        return six in self._second_are_six and six not in self._first_are_six

    def note_pods(self, addresses: Sequence[str]) -> None:
        """A pod has these addresses, in this order."""
        for address, families in zip(addresses, (self._first_are_six, self._second_are_six), strict=False):
            families.add(":" in address)
        for address in addresses if not self._configured and len(self._seen) < MAX_SEEN else ():
            ip = ip_address(address)
            if not _is_special(ip) and not self.could_be_pod(address):
                self._seen = (*self._seen, ip_network((ip, AROUND[ip.version]), strict=False))

    def note_nodes(self, networks: Iterable[Network]) -> None:
        """The nodes' ``podCIDRs``. They only add: a CNI's own IPAM ignores them."""
        self._of_nodes = tuple(dict.fromkeys(n for n in networks if not _inside(n, PRIVATE)))


def covering(addresses: Iterable[str], *, version: int, longest: int) -> Network | None:
    """The smallest network with all these addresses of an IP version; None if it is larger than /``longest``."""
    ips = [ip for ip in map(ip_address, addresses) if ip.version == version]
    if not ips:
        return None
    differ = int(min(ips)) ^ int(max(ips))
    length = ips[0].max_prefixlen - differ.bit_length()
    return ip_network((ips[0], length), strict=False) if length >= longest else None


def _is_special(ip: Address) -> bool:
    return ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified


def _within(ip: Address, networks: Iterable[Network]) -> bool:
    return any(ip in network for network in networks)


def _inside(network: Network, others: Iterable[Network]) -> bool:
    return any(
        network.version == other.version and network.subnet_of(other)  # type: ignore[arg-type]  # of one version
        for other in others
    )
