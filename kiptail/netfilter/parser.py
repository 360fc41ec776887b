"""Netfilter log line → :class:`PacketDrop` (pure).

A line is what net/netfilter/nf_log_syslog.c of Linux prints (before 5.13: net/ipv4/netfilter/nf_log_ipv4.c
and net/ipv6/netfilter/nf_log_ipv6.c, same text)::

    PREFIXIN=… OUT=… [PHYSIN=… PHYSOUT=…] [MAC=… | MACSRC=… …] SRC=… DST=… LEN=… … [OPT (…)] PROTO=… …

ulogd2's lines about packets of NFLOG rules (its util/printpkt.c) are near enough to be read alike.

Two things shape the reading. The prefix is the rule author's and can say anything, also ``SRC=…``, so that
nothing before the kernel's own ``IN=`` counts. And a line can be cut anywhere (the kernel's buffer holds
1,019 bytes, other writers have limits of their own): the kernel ends nearly every value with a blank, so a
value without one may be the beginning of a longer one and is not reported. Nothing reported of a cut line
differs from the whole line's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from kiptail.addresses import canonical
from kiptail.netfilter.protocols import BY_NAME

__all__ = ["MAX_LINE", "PacketDrop", "Unparsed", "parse", "split"]

#: Longer lines are not read, in characters. The kernel writes up to 1,019 bytes, each of which is at most the
#: four characters of ``\xNN`` when it was no UTF-8.
MAX_LINE = 8192


class PacketDrop(NamedTuple):
    """What one line says. Absent values are None (numbers) or "" (text)."""

    #: All text before the kernel's own part, without the blanks around it; not necessarily a configured
    #: prefix.
    prefix: str
    in_interface: str
    out_interface: str
    #: IPv4, or IPv6 in its short form; always there, both of one family, spelled as :mod:`kiptail.addresses` says.
    src: str
    dst: str
    #: As the kernel prints it, ``TCP``, ``ICMPv6``, ``47``, but ``SCTP`` for ``132``; "" when the line does
    #: not say.
    protocol: str
    #: 0 to 65535.
    src_port: int | None
    dst_port: int | None
    #: 0 to 255.
    icmp_type: int | None
    icmp_code: int | None
    #: The TCP flag, not the number.
    tcp_ack: bool
    #: The TCP flag RST.
    tcp_reset: bool = False


@dataclass(frozen=True, slots=True)
class Unparsed:
    """A line that does not say which packet was dropped, and why not."""

    #: One short line of printable text that quotes nothing of the line.
    reason: str
    #: As :attr:`PacketDrop.prefix`; None when there is no kernel part, so that nothing can be called its
    #: prefix.
    prefix: str | None


# No name that dev_valid_name() of net/core/dev.c allows holds a blank, but it may hold `=`, `[` or `IN=`.
_INTERFACES = re.compile(r"IN=([^ \t-\r]*) OUT=([^ \t-\r]*)(?= |\Z)")

#: Its offset, as the kernel and as ulogd print it.
_LATER_FRAGMENT = re.compile(r" FRAG: ?0*[1-9]")

#: What may stand behind PROTO=.
_PROTOCOLS = {name: name for name in BY_NAME}
_PROTOCOLS.update((str(number), str(number)) for number in range(256))
_PROTOCOLS["132"] = "SCTP"

_ARP = "ARP, not an IP packet"
#: With addresses, as those of an IP packet.
_ARP_OF_ULOGD = "ARP"

#: A protocol that a later kernel may print by a name.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,15}")

#: Names that a line can end with. Not ICMP in IPv6, where it is the beginning of ICMPv6.
_LAST_NAMES = frozenset({"TCP", "UDP", "UDPLITE", "ICMPv6", "AH", "ESP"})

#: ICMP types after whose CODE= the printer goes on: with ID=, PARAMETER=, GATEWAY=, POINTER= or the packet in
#: error.
_TYPES_WITH_MORE = {
    "ICMP": frozenset({0, 3, 4, 5, 8, 11, 12}),
    "ICMPv6": frozenset({1, 2, 3, 4, 128, 129}),
}


def split(line: str) -> tuple[str, str] | None:
    """``line`` as (text before the kernel's own part, that part from its ``IN=`` on); None when it has none.

    Says nothing about whether the kernel's part can be read. Line ends belong to neither.
    """
    found = _interfaces(line)
    return None if found is None else (found.string[: found.start()], found.string[found.start() :])


def parse(line: str) -> PacketDrop | Unparsed:
    """What ``line``, one journal message or line of text, says of a packet; never raises.

    Source: net/netfilter/nf_log_syslog.c.
    """
    interfaces = _interfaces(line)
    if interfaces is None:
        if len(line) > MAX_LINE:
            return Unparsed(f"line is longer than {MAX_LINE} characters", None)
        return Unparsed("no IN=… OUT=… of the kernel in the line", None)
    text = interfaces.string
    prefix = text[: interfaces.start()].strip()

    # All that is wanted stands before the first bracket, so that neither the packet that an ICMP error is
    # about nor the length in `INCOMPLETE [8 bytes]` is ever looked at, nor whether a bracket has its end. The
    # blank before the bracket stays: it ends the value before it.
    end = text.find(" [", interfaces.end())
    fields = text[interfaces.end() :] if end < 0 else text[interfaces.end() : end + 1]

    src, dst = _value(fields, " SRC="), _value(fields, " DST=")
    if src is None or dst is None:
        return Unparsed(_why_no_addresses(fields), prefix)
    src_address, dst_address = canonical(src), canonical(dst)
    if src_address is None:
        return Unparsed(_of_ebtables(fields) or "source address is not valid", prefix)
    if dst_address is None:
        return Unparsed(_of_ebtables(fields) or "destination address is not valid", prefix)
    version_6 = ":" in src_address
    if version_6 != (":" in dst_address):
        return Unparsed("one address is IPv4, the other IPv6", prefix)

    protocol = _protocol(fields, version_6=version_6)
    if protocol == _ARP_OF_ULOGD:
        return Unparsed(_ARP, prefix)
    src_port = dst_port = icmp_type = icmp_code = None
    tcp_ack = tcp_reset = False
    if _LATER_FRAGMENT.search(fields):
        # It has none of what follows, but ulogd takes its data for that.
        pass
    elif protocol in _TYPES_WITH_MORE:
        icmp_type = _number(_value(fields, " TYPE="), 255)
        if icmp_type is not None:
            icmp_code = _icmp_code(fields, icmp_type in _TYPES_WITH_MORE[protocol])
    else:
        src_port = _number(_value(fields, " SPT="), 65535)
        dst_port = _number(_value(fields, " DPT="), 65535)
        if protocol == "TCP":
            tcp_ack, tcp_reset = " ACK " in fields, " RST " in fields
    return PacketDrop(
        prefix,
        interfaces[1],
        interfaces[2],
        src_address,
        dst_address,
        protocol,
        src_port,
        dst_port,
        icmp_type,
        icmp_code,
        tcp_ack,
        tcp_reset,
    )


def _interfaces(line: str) -> re.Match[str] | None:
    """Where the kernel's own part begins: the last ``IN=NAME OUT=NAME``, whose groups are the names.

    The last, as a prefix can hold such text but nothing that the kernel prints behind its own ``OUT=`` can:
    there, names stand behind ``PHYSIN=`` and ``PHYSOUT=`` and hold no blank. (Such a prefix is mistaken when
    the line is cut before the kernel's ``OUT=``, which the kernel never does: a prefix has 127 bytes at
    most.) The matched string is ``line`` without its line end.
    """
    if len(line) > MAX_LINE:
        return None
    line = line.rstrip("\r\n")
    out = line.rfind(" OUT=")
    while out >= 0:
        # The name behind IN= holds no blank, so that IN= is in the last word before OUT=. Words do not
        # overlap, hence time is linear however often IN= and OUT= occur.
        start = line.rfind("IN=", line.rfind(" ", 0, out) + 1, out)
        if start >= 0 and (found := _INTERFACES.match(line, start)):
            return found
        out = line.rfind(" OUT=", 0, out)
    return None


def _value(fields: str, key: str) -> str | None:
    """The value of the first ``key``, given as ``" KEY="``; None when there is none or no blank ends it."""
    start = fields.find(key)
    if start < 0:
        return None
    start += len(key)
    end = fields.find(" ", start)
    return None if end < 0 else fields[start:end]


def _last_value(fields: str, key: str) -> str:
    """What stands behind the first ``key``, to which :func:`_value` found no blank; "" without the key."""
    return fields.partition(key)[2]


def _of_ebtables(fields: str) -> str:
    """That the line has the form of net/bridge/netfilter/ebt_log.c; "" when it does not."""
    if " MAC source = " not in fields:
        return ""
    return "the form of ebtables --log, which is not read: log with iptables or nftables"


def _why_no_addresses(fields: str) -> str:
    if form := _of_ebtables(fields):
        return form
    if " ARP HTYPE=" in fields:
        return _ARP
    if fields.endswith(" TRUNCATED"):
        return "packet was too short for an IP header"
    if " SRC=" in fields:
        return "addresses are cut off"
    return "no addresses: not an IP packet, or cut off"


def _number(text: str | None, highest: int) -> int | None:
    """``text`` as a number from 0 to ``highest``, which has at most five digits; None when it is not."""
    if not text or len(text) > 5 or not (text.isascii() and text.isdigit()):
        return None
    number = int(text)
    return number if number <= highest else None


def _protocol(fields: str, *, version_6: bool) -> str:
    if " PROTO=" not in fields:
        return _last_header(fields)
    text = _value(fields, " PROTO=")
    if text is None:
        text = _last_value(fields, " PROTO=")
        return _PROTOCOLS.get(text, "") if _is_whole(text, version_6=version_6) else ""
    return _PROTOCOLS.get(text) or (text if _NAME.fullmatch(text) else "")


def _last_header(fields: str) -> str:
    """The protocol of a packet without ``PROTO=``, as far as its ``OPT (…)`` groups tell; else "".

    In IPv6, ESP and AH are extension headers. The printer stops at ESP, whose payload it cannot see, and at
    an AH of which there is no more; it goes on after any other AH, so that one is not the protocol even where
    the line ends. Without `--log-ip-options` it prints no groups, and for later IPv4 fragments of AH nothing
    at all. Such a line is a drop nevertheless: who lost a packet to whom is known, and that is what its owner
    wants to know.
    """
    if " OPT ( ESP " in fields:
        return "ESP"
    if " OPT ( AH )" in fields or " OPT ( AH INCOMPLETE " in fields:
        return "AH"
    return ""


def _icmp_code(fields: str, more_follows: bool) -> int | None:
    code = _value(fields, " CODE=")
    if code is None and not more_follows:
        # Nothing is printed behind it, so this may be a whole line whose last blank somebody stripped.
        last = _last_value(fields, " CODE=")
        code = last if _is_whole_number(last) else None
    return _number(code, 255)


def _is_whole(protocol: str, *, version_6: bool) -> bool:
    """Whether ``protocol`` can be what a line without its last blank ends with.

    The kernel ends every field with a blank. A line without one was stripped by somebody, which is common, or cut
    in the middle of this very word, which is next to unheard of: the word is taken for whole if it can be.
    """
    return protocol in _LAST_NAMES or (protocol == "ICMP" and not version_6) or _is_whole_number(protocol)


def _is_whole_number(text: str) -> bool:
    """Whether ``text`` is a number up to 255 as the kernel prints it: without leading zeros."""
    number = _number(text, 255)
    return number is not None and str(number) == text
