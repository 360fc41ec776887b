"""A raw line → its flow, at once when an earlier line said the same (pure).

Of the lines about one flow's packets only lengths, numbers and flags differ. So what the thorough parser makes of
the first is remembered under the line's constant parts, and the next ones are looked up: 1 µs instead of 5.5.
Whatever does not have the usual form to the letter is left to the thorough parser. Both read every line alike:
tests/test_fastline.py holds them equal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kiptail.entry import text_of
from kiptail.flow import EPHEMERAL_PORT, FlowKey, flow_key
from kiptail.netfilter import PacketDrop, parse
from kiptail.prefixes import Prefixes, Verdict

__all__ = ["KnownLine", "KnownLines", "understood"]

#: So many different lines are remembered, about 1 KiB each.
MAX_KNOWN = 8_192

#: Longer lines are left to the thorough parser, in bytes: decoded, none is longer than it takes.
LONGEST = 2_048

# What stands between the addresses and the protocol in a line without IP options, extension headers and fragments.
_MIDDLE = (
    rb" LEN=\d++ (?:TOS=0x[0-9A-F]++ PREC=0x[0-9A-F]++ TTL=\d++ ID=\d++ (?:CE )?+(?:DF )?+(?:MF )?+"
    rb"|TC=\d++ HOPLIMIT=\d++ FLOWLBL=\d++ )PROTO="
)

#: Behind the addresses, a line whose flow its one group tells: as its destination port is below 30000, it is no reply,
#: and the source port says nothing.
_USUAL = re.compile(
    _MIDDLE + rb"(?:TCP SPT=\d+ DPT=(\d{1,4}|[12]\d{4}) |UDP SPT=\d+ DPT=(\d{1,4}|[12]\d{4}) "
    rb"|ICMP (TYPE=\d+ CODE=\d+) |ICMPv6 (TYPE=\d+ CODE=\d+) )"
).match

#: The same with a higher destination port, where the source port and the flags decide whether it is a reply.
_HIGH = re.compile(_MIDDLE + rb"(TCP|UDP) SPT=(\d{1,4}|[1-6]\d{4}) DPT=([3-6]\d{4}) ([^\[]*)\Z").match

#: The end of what is constant in a line: both addresses, which are read if no others stand before them.
_ADDRESSES = re.compile(rb" SRC=[0-9A-Fa-f:.]+ DST=[0-9A-Fa-f:.]+\Z")
#: What would be read instead of what stands behind the addresses.
_MISLEADING = (b" PROTO=", b" SPT=", b" DPT=", b" TYPE=", b" CODE=", b" ACK ")


@dataclass(frozen=True, slots=True, eq=False)
class KnownLine:
    """What all lines with the same constant parts say. Two are equal only when they are the same: that is fast."""

    key: FlowKey
    #: Verdict and protocol, as they are counted.
    kind: tuple[str, str]
    #: The prefix stands for a drop or reject: the ledger counts it.
    told: bool


class KnownLines:
    """The lines that were seen lately. Not safe for several threads at once."""

    def __init__(self, prefixes: Prefixes) -> None:
        self._prefixes = prefixes
        self._known: dict[tuple[object, ...], KnownLine] = {}

    def wanted(self, message: bytes) -> KnownLine | bool:
        """What the journal's raw ``message`` says, if that is known; else as :meth:`Prefixes.wanted`."""
        start = message.find(b" LEN=")
        usual = _USUAL(message, start)
        constant: tuple[object, ...]
        if usual is not None:
            group = usual.lastindex or 0  # each of the alternatives has its own
            constant = (message[:start], group, usual[group])
        else:
            high = _HIGH(message, start)
            if high is None:
                return self._prefixes.wanted(message)
            constant = (message[:start], *_of_high(*high.groups()))
        # A later OUT= would be taken for the kernel's.
        if len(message) > LONGEST or message.find(b" OUT=", start) >= 0:
            return self._prefixes.wanted(message)
        try:
            return self._known[constant]
        except KeyError:
            return self._learn(message, start, constant)

    def _learn(self, message: bytes, start: int, constant: tuple[object, ...]) -> KnownLine | bool:
        """Read a line thoroughly, and remember it if what is behind ``start`` can only say what ``constant`` tells."""
        if not self._prefixes.wanted(message):
            return False
        head = message[:start]
        line = understood(text_of(message), self._prefixes)
        if line is None or not _ADDRESSES.search(head) or any(text in head for text in _MISLEADING):
            return True
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[constant] = line
        return line


def understood(text: str, prefixes: Prefixes) -> KnownLine | None:
    """What the thorough parser makes of a line: the reference for :class:`KnownLines`."""
    drop = parse(text)
    rule = prefixes.match(drop.prefix) if isinstance(drop, PacketDrop) else None
    if rule is None or not isinstance(drop, PacketDrop):
        return None
    verdict = rule.verdict.value
    return KnownLine(flow_key(drop, rule.text, verdict), (verdict, drop.protocol), rule.verdict is not Verdict.LOG)


def _of_high(protocol: bytes, source: bytes, port: bytes, rest: bytes) -> tuple[object, ...]:
    """What tells the flow: a reply's source port, as its destination port is another for each connection."""
    if int(source) < EPHEMERAL_PORT <= int(port) <= 65_535 and (protocol == b"UDP" or b" ACK " in b" " + rest):
        return protocol, source, True
    return protocol, port, False
