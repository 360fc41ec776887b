"""Whether text is what the kernel's packet logging prints behind a rule's prefix (pure).

The kernel logs users' text as well: names of processes, executables, directories. Where such a text reads like a log
line, something else of the kernel's message stands before or behind it; so a line counts only if nothing does.

The forms are those of net/netfilter/nf_log_syslog.c of Linux, given by its format strings, of all versions since 3.10.
They are a little wider than what it prints: a number may have any value, and what belongs to one protocol may stand
behind another, which a later kernel may know by name. A line that is cut anywhere is still in form, and one whose last
blank somebody stripped is such a line.

Two things :mod:`kiptail.flows.known_lines` relies on: whether a line is in form does not hang on which digits stand in
it, and what is behind its first LEN= is in form or not whatever stands before.
"""

from __future__ import annotations

import functools
import re

from kiptail.netfilter.forms import Form, all_of, any_number_of, each_perhaps, formatted, one_of, perhaps

__all__ = ["is_printed"]

_INCOMPLETE = formatted("INCOMPLETE [%u bytes] ")

#: nf_log_dump_tcp_header() behind the ports.
_TCP = all_of(
    each_perhaps("SEQ=%u ACK=%u "),
    formatted("WINDOW=%u RES=0x%x "),
    each_perhaps("AE ", "CWR ", "ECE ", "URG ", "ACK ", "PSH ", "RST ", "SYN ", "FIN "),
    formatted("URGP=%u "),
    perhaps(one_of(formatted("OPT (%X) "), formatted("OPT (TRUNCATED)"))),
)


def _payload(*in_error: Form) -> Form:
    """From PROTO= on; ``in_error`` is the packet in an ICMP error, if it has one."""
    icmp = all_of(
        formatted("TYPE=%u CODE=%u "),
        perhaps(
            one_of(
                _INCOMPLETE,
                formatted("ID=%u SEQ=%u "),
                formatted("PARAMETER=%u "),
                all_of(each_perhaps("GATEWAY=%I ", "POINTER=%x "), *map(perhaps, in_error), each_perhaps("MTU=%u ")),
            )
        ),
    )
    ports = all_of(formatted("SPT=%u DPT=%u "), perhaps(one_of(formatted("LEN=%u "), _TCP)))
    return all_of(formatted("PROTO=%P "), perhaps(one_of(_INCOMPLETE, ports, icmp, formatted("SPI=0x%x "))))


#: dump_ipv6_packet(): extension headers, and those that it returns at.
_FRAGMENT = all_of(formatted("FRAG:%u "), each_perhaps("INCOMPLETE "), formatted("ID:%x "))
_HEADER = one_of(
    _FRAGMENT, all_of(formatted("OPT ( "), perhaps(one_of(_FRAGMENT, formatted("AH SPI=0x%x "))), formatted(") "))
)
_LAST_HEADER = one_of(
    formatted("TRUNCATED"),
    all_of(
        each_perhaps("OPT ( "),
        one_of(
            formatted("FRAG:TRUNCATED "),
            formatted("Unknown Ext Hdr %u"),
            formatted(")"),
            formatted("AH )"),
            formatted("ESP )"),
        ),
    ),
    all_of(formatted("OPT ( "), one_of(formatted("AH "), formatted("ESP ")), formatted("INCOMPLETE [%u bytes] )")),
    formatted("OPT ( ESP SPI=0x%x )"),
)


def _packet(*in_error: Form) -> Form:
    """dump_ipv4_packet() and dump_ipv6_packet()."""
    payload = perhaps(_payload(*in_error))
    version_4 = all_of(
        formatted("TOS=0x%X PREC=0x%X TTL=%u ID=%u "),
        each_perhaps("CE ", "DF ", "MF ", "FRAG:%u "),
        one_of(formatted("TRUNCATED"), all_of(each_perhaps("OPT (%X) "), payload)),
    )
    version_6 = all_of(
        formatted("TC=%u HOPLIMIT=%u FLOWLBL=%u "), any_number_of(_HEADER), one_of(_LAST_HEADER, payload)
    )
    return one_of(formatted("TRUNCATED"), all_of(formatted("SRC=%I DST=%I LEN=%u "), one_of(version_4, version_6)))


_MAC = one_of(
    all_of(formatted("MAC=%M"), each_perhaps(" TUNNEL=%I->%I"), formatted(" ")),
    all_of(formatted("MACSRC=%M MACDST=%M "), each_perhaps("VPROTO=%x VID=%u "), formatted("MACPROTO=%x ")),
)
_ARP = all_of(
    formatted("ARP HTYPE=%u PTYPE=0x%x OPCODE=%u"),
    perhaps(one_of(formatted(" INCOMPLETE [%u bytes]"), formatted(" MACSRC=%M IPSRC=%I MACDST=%M IPDST=%I"))),
)


def _line() -> Form:
    in_error = all_of(formatted("["), _packet(), formatted("] "))
    packet = all_of(_packet(in_error), each_perhaps("UID=%u GID=%u ", "MARK=0x%x "))
    return all_of(
        formatted("IN=%s OUT=%s "),
        each_perhaps("PHYSIN=%s ", "PHYSOUT=%s "),
        perhaps(_MAC),
        perhaps(one_of(_ARP, packet)),
    )


# Compiled when the first line is asked about: that takes some milliseconds, and ten times as long for what is cut.
@functools.cache
def _whole() -> re.Pattern[str]:
    """Any line."""
    return re.compile(_line().whole)


@functools.cache
def _beginning() -> re.Pattern[str]:
    """Any beginning of any line."""
    return re.compile(_line().cut)


def is_printed(kernel_part: str) -> bool:
    """Whether the kernel prints ``kernel_part``, a line from its ``IN=`` on, or a longer line that begins with it."""
    return _whole().fullmatch(kernel_part) is not None or _beginning().fullmatch(kernel_part) is not None
