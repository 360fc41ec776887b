"""Whether text is what ulogd2 prints of a packet behind a rule's prefix (pure).

The forms are those of util/printpkt.c, the plugin PRINTPKT, of all versions of ulogd since 2.0. They differ from the
kernel's (:mod:`kiptail.netfilter.printed`): no PHYSIN and PHYSOUT, TOS without 0x, IPv6 addresses short, SCTP, AH and
ESP by name and with ports, an ICMP error without the packet that it is about. No line is cut: ulogd has room for 4 KiB.
The last blank is missing, as journald takes it away from what comes by syslog(3).

They are as wide as the kernel's are, and :mod:`kiptail.flows.known_lines` relies on the same two things.
"""

from __future__ import annotations

import functools
import re

from kiptail.netfilter.forms import Form, all_of, each_perhaps, formatted, one_of, perhaps

__all__ = ["is_printed"]

#: Without a blank, so that the next field follows at once.
_INCOMPLETE = one_of(formatted("INCOMPLETE"), formatted("TRUNCATED"))

_TCP = all_of(
    formatted("SEQ=%u ACK=%u WINDOW=%u "),
    each_perhaps("URG ", "ACK ", "PSH ", "RST ", "SYN ", "FIN "),
    formatted("URGP=%u "),
)
_PORTS = all_of(formatted("SPT=%u DPT=%u "), perhaps(one_of(formatted("LEN=%u "), _TCP)))
#: What stands behind the code depends on the code, of any type: ulogd takes the one for the other.
_ICMP = all_of(
    formatted("TYPE=%u CODE=%u "),
    perhaps(
        one_of(formatted("ID=%u SEQ=%u "), formatted("PARAMETER=%u "), formatted("GATEWAY=%A "), formatted("MTU=%u "))
    ),
)
_PAYLOAD = all_of(formatted("PROTO=%P "), perhaps(one_of(_INCOMPLETE, _PORTS, _ICMP, formatted("SPI=0x%x "))))

#: printpkt_ipv4() and printpkt_ipv6(), which prints no protocol that it has no name for.
_VERSION_4 = all_of(
    formatted("LEN=%u TOS=%X PREC=0x%X TTL=%u ID=%u "), each_perhaps("CE ", "DF ", "MF ", "FRAG:%u "), _PAYLOAD
)
_VERSION_6 = all_of(
    each_perhaps("LEN=%u ", "TC=%u ", "HOPLIMIT=%u ", "FLOWLBL=%u ", "FRAG: %u ID: %x "), perhaps(_PAYLOAD)
)
_PACKET = all_of(each_perhaps("SRC=%A ", "DST=%A "), one_of(_VERSION_4, _VERSION_6))

#: printpkt_arp(), and what else a bridge may carry.
_NO_IP = all_of(
    each_perhaps("SRC=%A ", "DST=%A "),
    formatted("PROTO=%P "),
    perhaps(one_of(*map(formatted, ("REQUEST ", "REPLY ", "NAK ", "CODE=%u ")))),
    each_perhaps("REPLY_MAC=%M "),
)


def _line() -> Form:
    return all_of(
        formatted("IN=%s OUT=%s MAC=%M "),
        perhaps(one_of(_PACKET, _NO_IP)),
        # The mark without 0x in earlier versions.
        each_perhaps("UID=%u ", "GID=%u "),
        perhaps(one_of(formatted("MARK=0x%x "), formatted("MARK=%x "))),
    )


# Compiled when the first line is asked about, as most installations have none.
@functools.cache
def _whole() -> re.Pattern[str]:
    """Any line."""
    return re.compile(_line().whole)


def is_printed(ulogd_part: str) -> bool:
    """Whether ulogd prints ``ulogd_part``, a line from its ``IN=`` on, with or without its last blank."""
    whole = _whole()
    return whole.fullmatch(ulogd_part + " ") is not None or whole.fullmatch(ulogd_part) is not None
