"""Names for IP protocols and ICMP messages (pure): what a person reads in an Event.

Protocols by IANA's registry of protocol numbers, where one has a name that is in use; ICMP types as ``nft
describe icmp type`` and ``nft describe icmpv6 type`` print them, codes as ``iptables -p icmp --help`` does,
so that what is read here can be pasted into a rule.
"""

from __future__ import annotations

__all__ = ["BY_NAME", "icmp_messages", "icmp_name", "protocol_called", "protocol_label", "protocol_name"]

#: What net/netfilter/nf_log_syslog.c prints by name, and one that it has no name for and everyone else knows by it.
BY_NAME = ("TCP", "UDP", "UDPLITE", "ICMP", "ICMPv6", "AH", "ESP", "SCTP")

#: All values of :func:`protocol_label`.
_LABELS = frozenset((*BY_NAME, *map(str, range(256))))

#: The numbers that net/netfilter/nf_log_syslog.c prints as numbers. 4 and 58 are IPv4 and IPv6-ICMP to IANA;
#: the names here are what iproute2 and the kernel's own log call them.
_PROTOCOLS = {
    "0": "HOPOPT",
    "1": "ICMP",
    "2": "IGMP",
    "4": "IPIP",
    "6": "TCP",
    "8": "EGP",
    "17": "UDP",
    "27": "RDP",
    "33": "DCCP",
    "41": "IPv6",
    "43": "IPv6-Route",
    "44": "IPv6-Frag",
    "46": "RSVP",
    "47": "GRE",
    "50": "ESP",
    "51": "AH",
    "55": "MOBILE",
    "58": "ICMPv6",
    "59": "IPv6-NoNxt",
    "60": "IPv6-Opts",
    "88": "EIGRP",
    "89": "OSPF",
    "97": "ETHERIP",
    "98": "ENCAP",
    "103": "PIM",
    "108": "IPComp",
    "112": "VRRP",
    "115": "L2TP",
    "124": "ISIS",
    "132": "SCTP",
    "135": "Mobility-Header",
    "136": "UDPLITE",
    "137": "MPLS-in-IP",
    "138": "MANET",
    "139": "HIP",
    "140": "Shim6",
    "141": "WESP",
    "142": "ROHC",
    "143": "Ethernet",
}

_ICMP = {
    0: "echo-reply",
    3: "destination-unreachable",
    4: "source-quench",
    5: "redirect",
    8: "echo-request",
    9: "router-advertisement",
    10: "router-solicitation",
    11: "time-exceeded",
    12: "parameter-problem",
    13: "timestamp-request",
    14: "timestamp-reply",
    15: "info-request",
    16: "info-reply",
    17: "address-mask-request",
    18: "address-mask-reply",
}

_ICMPV6 = {
    1: "destination-unreachable",
    2: "packet-too-big",
    3: "time-exceeded",
    4: "parameter-problem",
    128: "echo-request",
    129: "echo-reply",
    130: "mld-listener-query",
    131: "mld-listener-report",
    132: "mld-listener-done",
    133: "nd-router-solicit",
    134: "nd-router-advert",
    135: "nd-neighbor-solicit",
    136: "nd-neighbor-advert",
    137: "nd-redirect",
    138: "router-renumbering",
    141: "ind-neighbor-solicit",
    142: "ind-neighbor-advert",
    143: "mld2-listener-report",
}

_BOTH = (("ICMP", _ICMP), ("ICMPv6", _ICMPV6))

_ICMP_UNREACHABLE = (
    "network-unreachable",
    "host-unreachable",
    "protocol-unreachable",
    "port-unreachable",
    "fragmentation-needed",
    "source-route-failed",
    "network-unknown",
    "host-unknown",
    "",  # 8, source host isolated, is obsolete and has no name in iptables
    "network-prohibited",
    "host-prohibited",
    "TOS-network-unreachable",
    "TOS-host-unreachable",
    "communication-prohibited",
    "host-precedence-violation",
    "precedence-cutoff",
)

_ICMPV6_UNREACHABLE = (
    "no-route",
    "communication-prohibited",
    "beyond-scope",
    "address-unreachable",
    "port-unreachable",
    "failed-policy",
    "reject-route",
)


def icmp_name(protocol: str, type: int, code: int | None) -> str:
    """An ICMP message's name: ``echo-request``, ``destination-unreachable (port-unreachable)``, ``type 42``.

    ``protocol`` is ``ICMP`` or ``ICMPv6``. The code is named for destination-unreachable alone: there it is
    what matters (a lost ``fragmentation-needed`` stalls connections), and without it two flows would read the
    same.
    """
    version_6 = protocol == "ICMPv6"
    name = (_ICMPV6 if version_6 else _ICMP).get(type)
    if name is None:
        return f"type {type}"
    if name == "destination-unreachable" and code is not None:
        codes = _ICMPV6_UNREACHABLE if version_6 else _ICMP_UNREACHABLE
        if 0 <= code < len(codes) and codes[code]:
            return f"{name} ({codes[code]})"
    return name


def icmp_messages(name: str) -> tuple[tuple[str, int, int | None], ...]:
    """What has this name in :func:`icmp_name`, the code's alone included: protocol, type, and code or None for any."""
    types = [(protocol, number, None) for protocol, names in _BOTH for number, each in names.items() if each == name]
    codes = [
        (protocol, number, code)
        for protocol, number, names in (("ICMP", 3, _ICMP_UNREACHABLE), ("ICMPv6", 1, _ICMPV6_UNREACHABLE))
        for code, each in enumerate(names)
        if each == name != ""
    ]
    return (*types, *codes)


def protocol_called(text: str) -> str | None:
    """A :class:`kiptail.netfilter.parser.PacketDrop`'s ``protocol``, by a name in any case or its number."""
    wanted = text.lower()
    names = {name.lower(): name for name in BY_NAME}
    numbers = {name.lower(): number for number, name in _PROTOCOLS.items()}
    if wanted.isascii() and wanted.isdigit() and len(wanted) <= 3 and int(wanted) < 256:
        number = str(int(wanted))
    else:
        number = numbers.get(wanted, "")
    # What the kernel prints by its name has no number in a line.
    return names.get(wanted) or names.get(_PROTOCOLS.get(number, "").lower()) or number or None


def protocol_name(protocol: str) -> str:
    """The name of a :class:`kiptail.netfilter.parser.PacketDrop`'s ``protocol``: ``47`` → ``GRE``; else as it is."""
    return _PROTOCOLS.get(protocol, protocol)


def protocol_label(protocol: str) -> str:
    """What a metric calls a :class:`kiptail.netfilter.parser.PacketDrop`'s ``protocol``: one of 266 values.

    A later kernel may print any name, so what a line says is no label as it stands.
    """
    if protocol in _LABELS:
        return protocol
    return "other" if protocol else "unknown"
