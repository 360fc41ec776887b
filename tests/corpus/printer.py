"""Writes log lines as net/netfilter/nf_log_syslog.c does, from random packets, each with what it is to say.

The expectation is made of the packet's values, never of the text. Names of functions follow the kernel's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from kiptail.netfilter.parser import PacketDrop

Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass(frozen=True)
class Printed:
    """A line, and the drop that it tells of. ``cut_from``: cut before it, the line may look like another."""

    line: str
    drop: PacketDrop
    cut_from: int


@dataclass
class Text:
    """What has been printed so far of a packet, and what of it a reader is to find."""

    out: str = ""
    says: dict[str, Any] = field(default_factory=dict)

    def add(self, text: str, **says: Any) -> None:
        self.out += text
        self.says.update(says)


_OCTET = st.integers(0, 255)
_PORT = st.integers(0, 65535)
_HALF = st.one_of(st.just(0), st.just(0xFFFF), st.integers(0, 0xFFFF))
_BYTES = st.integers(0, 65535)
_OFTEN_NO = st.integers(0, 3).map(lambda n: n == 0)
#: The kernel sees to it that a name has no blank, slash or colon; keys and brackets are allowed.
_NAME = st.one_of(
    st.sampled_from(["eth0", "cali527b0801ecb", "wbrdg-0afe0000", "a=b", "[x", "SRC=1.2.3.4", "PROTO=TCP", "=", "ACK"]),
    st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="/:"), min_size=1, max_size=15),
)
#: The last IN= counts, so that a name which holds it cannot be told from a prefix.
_IN_NAME = st.one_of(st.just(""), _NAME.filter(lambda name: "IN=" not in name))
_PLAIN_PREFIX = st.text(st.characters(exclude_categories=["Cs"]), max_size=29)
_SPOOFED_PREFIX = st.lists(
    st.one_of(
        st.sampled_from(["IN=", "lo", " OUT=", " ", "\t", "[", "] ", "PHYS", "drop:", "ARP HTYPE="]),
        st.sampled_from(["SRC=192.0.2.1 ", "DST=192.0.2.2 ", "LEN=1 ", "PROTO=UDP ", "SPT=1 ", "TYPE=8 "]),
    ),
    max_size=12,
).map("".join)


@st.composite
def printed(draw: Draw) -> Printed:
    """Any line about an IP packet."""
    prefix = draw(st.one_of(_PLAIN_PREFIX, _SPOOFED_PREFIX))
    in_name, out_name = draw(_IN_NAME), draw(st.one_of(st.just(""), _NAME))
    text = Text()
    text.add(f"IN={in_name} OUT={out_name} ", in_interface=in_name, out_interface=out_name)
    head = len(prefix) + len(text.out)
    if draw(_OFTEN_NO):
        text.add(f"PHYSIN={draw(_NAME)} ")
    if draw(_OFTEN_NO):
        text.add(f"PHYSOUT={draw(_NAME)} ")
    version_6 = draw(st.booleans())
    if in_name:
        dump_mac_header(draw, text, "86dd" if version_6 else "0800")
    if version_6:
        dump_ipv6_packet(draw, text, recurse=True)
    else:
        dump_ipv4_packet(draw, text, outer=True)
    absent: dict[str, Any] = dict.fromkeys(PacketDrop._fields) | {
        "protocol": "",
        "tcp_ack": False,
        "tcp_reset": False,
        "prefix": prefix.strip(),
    }
    return Printed(prefix + text.out, PacketDrop(**(absent | text.says)), head if " OUT=" in prefix else 0)


def dump_mac_header(draw: Draw, text: Text, protocol: str) -> None:
    mac = "a2:e8:53:39:59:a9"
    pair = protocol[:2] + ":" + protocol[2:]
    vlan = "VPROTO=8100 VID=5 " if draw(_OFTEN_NO) else ""
    text.add(
        draw(
            st.sampled_from(
                [
                    "MAC= ",
                    f"MAC={mac}:{mac}:{pair} ",
                    f"MACSRC={mac} MACDST={mac} {vlan}MACPROTO={protocol} ",
                    "MAC=45:00:00:8c TUNNEL=192.0.2.1->192.0.2.2 ",
                ]
            )
        )
    )


def dump_ipv4_packet(draw: Draw, text: Text, *, outer: bool) -> None:
    src, dst = (".".join(str(draw(_OCTET)) for _ in range(4)) for _ in range(2))
    text.add(f"SRC={src} DST={dst} ", src=src, dst=dst)
    text.add(f"LEN={draw(_BYTES)} TOS=0x00 PREC=0xC0 TTL={draw(_OCTET)} ID={draw(_BYTES)} ")
    for flag in ("CE ", "DF ", "MF "):
        text.add(flag if draw(_OFTEN_NO) else "")
    fragment = draw(_OFTEN_NO)
    text.add(f"FRAG:{draw(st.integers(1, 8191))} " if fragment else "")
    if draw(_OFTEN_NO):
        if draw(_OFTEN_NO):
            text.add("TRUNCATED")
            return
        text.add("OPT (4408091000000000) ")
    if not _dump_ipv4_payload(draw, text, fragment=fragment, outer=outer):
        return
    if outer:
        dump_owner(draw, text)


def _dump_ipv4_payload(draw: Draw, text: Text, *, fragment: bool, outer: bool) -> bool:
    """Print the protocol's part; False where the kernel then returns."""
    match draw(st.sampled_from(["TCP", "UDP", "UDPLITE", "ICMP", "AH", "ESP", "number"])):
        case "TCP":
            return dump_tcp_header(draw, text, fragment=fragment)
        case "UDP" | "UDPLITE" as name:
            return dump_udp_header(draw, text, name, fragment=fragment)
        case "ICMP":
            _dump_icmp(draw, text, fragment=fragment, outer=outer)
        case "AH" if fragment:
            pass
        case "AH" | "ESP" as name:
            text.add(f"PROTO={name} ", protocol=name)
            text.add("" if fragment else draw(st.sampled_from(["SPI=0x100 ", "INCOMPLETE [3 bytes] "])))
        case _:
            number = draw(_OCTET.filter(lambda n: n not in (1, 6, 17, 50, 51, 136)))
            text.add(f"PROTO={number} ", protocol="SCTP" if number == 132 else str(number))
    return True


def _dump_icmp(draw: Draw, text: Text, *, fragment: bool, outer: bool) -> None:
    text.add("PROTO=ICMP ", protocol="ICMP")
    if fragment:
        return
    if draw(_OFTEN_NO):
        text.add("INCOMPLETE [2 bytes] ")
        return
    kind, code = draw(st.one_of(st.sampled_from([0, 3, 4, 5, 8, 9, 11, 12, 13]), _OCTET)), draw(_OCTET)
    text.add(f"TYPE={kind} CODE={code} ", icmp_type=kind, icmp_code=code)
    if kind in (0, 3, 4, 5, 8, 11, 12, 13, 14, 17, 18) and draw(_OFTEN_NO):
        text.add("INCOMPLETE [8 bytes] ")
    elif kind in (0, 8):
        text.add(f"ID={draw(_BYTES)} SEQ={draw(_BYTES)} ")
    elif kind == 12:
        text.add(f"PARAMETER={draw(_OCTET)} ")
    elif kind in (3, 4, 5, 11):
        text.add("GATEWAY=192.0.2.1 " if kind == 5 else "")
        if outer:
            inner = Text()
            dump_ipv4_packet(draw, inner, outer=False)
            text.add(draw(st.sampled_from(["[TRUNCATED] ", f"[{inner.out}] "])))
        text.add(f"MTU={draw(_BYTES)} " if (kind, code) == (3, 4) else "")


def _in6_addr(halves: list[int]) -> str:
    """As %pI6 does."""
    return ":".join(f"{half:04x}" for half in halves)


def _read(halves: list[int]) -> str:
    """As kiptail has it: in short, but never with dots, which Python has from 3.13 on."""
    if halves[:6] == [0, 0, 0, 0, 0, 0xFFFF]:
        return f"::ffff:{halves[6]:x}:{halves[7]:x}"
    return str(ipaddress.IPv6Address(_in6_addr(halves)))


def dump_ipv6_packet(draw: Draw, text: Text, *, recurse: bool) -> None:
    src, dst = ([draw(_HALF) for _ in range(8)] for _ in range(2))
    text.add(f"SRC={_in6_addr(src)} DST={_in6_addr(dst)} ", src=_read(src), dst=_read(dst))
    text.add(f"LEN={draw(_BYTES)} TC=0 HOPLIMIT={draw(_OCTET)} FLOWLBL={draw(_BYTES)} ")
    options, fragment = draw(st.booleans()), False
    for header in draw(st.lists(st.sampled_from(["options", "FRAG", "AH", "ESP"]), max_size=3)):
        text.add("OPT ( " if options else "")
        match header:
            case "FRAG":
                later = draw(st.booleans())
                text.add(f"FRAG:{draw(st.integers(1, 8191)) * 8 if later else 0} ")
                text.add("INCOMPLETE " if draw(_OFTEN_NO) else "")
                text.add("ID:00000037 ")
                fragment = fragment or later
            case "options" if fragment:
                text.add(")" if options else "")
                return
            case "AH" if options:
                text.add("AH ")
                if fragment or draw(_OFTEN_NO):
                    text.add(")" if fragment else "INCOMPLETE [6 bytes] )", protocol="AH")
                    return
                text.add("SPI=0x200 ")
            case "ESP" if options:
                end = ")" if fragment else draw(st.sampled_from(["SPI=0x100 )", "INCOMPLETE [3 bytes] )"]))
                text.add(f"ESP {end}", protocol="ESP")
                return
            case "ESP":
                return
        text.add(") " if options else "")
    if not _dump_ipv6_payload(draw, text, fragment=fragment, recurse=recurse):
        return
    if recurse:
        dump_owner(draw, text)


def _dump_ipv6_payload(draw: Draw, text: Text, *, fragment: bool, recurse: bool) -> bool:
    """Print the protocol's part; False where the kernel then returns."""
    match draw(st.sampled_from(["TCP", "UDP", "UDPLITE", "ICMPv6", "number"])):
        case "TCP":
            return dump_tcp_header(draw, text, fragment=fragment)
        case "UDP" | "UDPLITE" as name:
            return dump_udp_header(draw, text, name, fragment=fragment)
        case "ICMPv6":
            return _dump_icmpv6(draw, text, fragment=fragment, recurse=recurse)
        case _:
            number = draw(_OCTET.filter(lambda n: n not in (0, 6, 17, 43, 44, 50, 51, 58, 60, 136)))
            text.add(f"PROTO={number} ", protocol="SCTP" if number == 132 else str(number))
    return True


def _dump_icmpv6(draw: Draw, text: Text, *, fragment: bool, recurse: bool) -> bool:
    text.add("PROTO=ICMPv6 ", protocol="ICMPv6")
    if fragment:
        return True
    if draw(_OFTEN_NO):
        text.add("INCOMPLETE [2 bytes] ")
        return False
    kind, code = draw(st.one_of(st.sampled_from([1, 2, 3, 4, 128, 129, 135, 143]), _OCTET)), draw(_OCTET)
    text.add(f"TYPE={kind} CODE={code} ", icmp_type=kind, icmp_code=code)
    if kind in (128, 129):
        text.add(f"ID={draw(_BYTES)} SEQ={draw(_BYTES)} ")
    elif kind in (1, 2, 3, 4):
        text.add("POINTER=00000006 " if kind == 4 else "")
        if recurse:
            inner = Text()
            dump_ipv6_packet(draw, inner, recurse=False)
            text.add(draw(st.sampled_from(["[TRUNCATED] ", f"[{inner.out}] "])))
        text.add("MTU=1280 " if kind == 2 else "")
    return True


#: The flags that a :class:`PacketDrop` has, and what it calls them.
_SAYS = {"ACK": ("tcp_ack",), "RST": ("tcp_reset",)}


def dump_tcp_header(draw: Draw, text: Text, *, fragment: bool) -> bool:
    text.add("PROTO=TCP ", protocol="TCP")
    if fragment:
        return True
    if draw(_OFTEN_NO):
        text.add("INCOMPLETE [4 bytes] ")
        return False
    src, dst = draw(_PORT), draw(_PORT)
    text.add(f"SPT={src} DPT={dst} ", src_port=src, dst_port=dst)
    text.add(f"SEQ={draw(_BYTES)} ACK={draw(_BYTES)} " if draw(st.booleans()) else "")
    text.add(f"WINDOW={draw(_BYTES)} RES=0x00 ")
    for flag in ("AE", "CWR", "ECE", "URG", "ACK", "PSH", "RST", "SYN", "FIN"):
        if draw(st.booleans()):
            text.add(f"{flag} ", **dict.fromkeys(_SAYS.get(flag, ()), True))
    text.add(f"URGP={draw(_BYTES)} ")
    if draw(_OFTEN_NO):
        if draw(_OFTEN_NO):
            text.add("OPT (TRUNCATED)")
            return False
        text.add("OPT (020405B40402080A03B8C198000000000103030A) ")
    return True


def dump_udp_header(draw: Draw, text: Text, name: str, *, fragment: bool) -> bool:
    text.add(f"PROTO={name} ", protocol=name)
    if fragment:
        return True
    if draw(_OFTEN_NO):
        text.add("INCOMPLETE [3 bytes] ")
        return False
    src, dst = draw(_PORT), draw(_PORT)
    text.add(f"SPT={src} DPT={dst} LEN={draw(_BYTES)} ", src_port=src, dst_port=dst)
    return True


def dump_owner(draw: Draw, text: Text) -> None:
    text.add(f"UID={draw(_BYTES)} GID={draw(_BYTES)} " if draw(_OFTEN_NO) else "")
    text.add(f"MARK=0x{draw(_BYTES):x} " if draw(_OFTEN_NO) else "")
