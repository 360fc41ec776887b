"""A raw line → its flow, at once when an earlier line said the same (pure).

Of the lines about one flow's packets only lengths, numbers and flags differ. So a line is cut in two at LEN=: its head
is the same each time, and of its tail one value tells the flow: the destination port or, of a reply, the source port.
Where they stand, and whether the line can be a reply at all, the tail's shape says, which is the tail with a 0 for each
digit. Two look-ups then tell what the thorough parser made of the first such line: 0.6 µs instead of 5.5. Whatever does
not have the usual form to the letter is left to the thorough parser. Both read every line alike: tests/test_fastline.py
holds them equal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kiptail.entry import text_of
from kiptail.flow import EPHEMERAL_PORT, FlowKey, flow_key
from kiptail.netfilter import PacketDrop, parse
from kiptail.prefixes import Prefixes, Verdict

__all__ = ["KnownLine", "KnownLines", "understood"]

#: So many different lines are remembered, about 1 KiB each, and so many shapes, 0.4 KiB each.
MAX_KNOWN = 2_048
MAX_SHAPES = 2_048

#: As a line has them: the ports that a reply goes to, all of five digits, so that they can be compared as they stand.
_EPHEMERAL, _HIGHEST = b"%d" % EPHEMERAL_PORT, b"65535"

#: Longer heads and tails are left to the thorough parser, in bytes: decoded, no line of both is longer than it takes.
LONGEST = 1_000

#: Tails without IP options, extension headers and fragments, and what tells the flow in them: protocol and ports, or
#: ICMP's type and code.
_USUAL = re.compile(
    rb"\d++ (?:TOS=0x[0-9A-F]++ PREC=0x[0-9A-F]++ TTL=\d++ ID=\d++ (?:CE )?+(?:DF )?+(?:MF )?+"
    rb"|TC=\d++ HOPLIMIT=\d++ FLOWLBL=\d++ )PROTO="
    rb"(?:(TCP|UDP) SPT=(\d{1,5}) DPT=(\d{1,5}) [^\[]*\Z|(ICMP|ICMPv6) (TYPE=\d++ CODE=\d++) )"
).match
_SHAPE = bytes.maketrans(b"123456789", b"000000000")

#: The end of a head: both addresses, which are read if no others stand before them.
_ADDRESSES = re.compile(rb" SRC=[0-9A-Fa-f:.]+ DST=[0-9A-Fa-f:.]+\Z")
#: What would be read instead of what stands in the tail.
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
        #: By head, protocol, and the value that tells the flow.
        self._known: dict[tuple[object, ...], KnownLine] = {}
        #: Those that were known before ``_known`` was full the last time: who does not come again is forgotten.
        self._older: dict[tuple[object, ...], KnownLine] = {}
        #: Of tails, by their shape: protocol, where that value is, and where the source port is if it may be a reply's.
        self._spots: dict[bytes, tuple[bytes, slice, slice | None]] = {}

    def wanted(self, message: bytes) -> KnownLine | bool:
        """What the journal's raw ``message`` says, if that is known; else as :meth:`Prefixes.wanted`."""
        head, _, tail = message.partition(b" LEN=")
        try:
            protocol, spot, source = self._spots[tail.translate(_SHAPE)]
            if source is None:
                return self._known[head, protocol, tail[spot]]
            return self._known[_to_high_port(head, protocol, tail[source], tail[spot])]
        except KeyError:
            return self._prefixes.wanted(message) and self._look_closer(message, head, tail)

    def _look_closer(self, message: bytes, head: bytes, tail: bytes) -> KnownLine | bool:
        """As :meth:`wanted`, of a wanted line whose head or shape is new, or that may be a reply."""
        usual = _USUAL(tail)
        # A later OUT= would be taken for the kernel's.
        if usual is None or b" OUT=" in tail or max(len(head), len(tail)) > LONGEST:
            return True
        source: slice | None = None
        if usual[1] is None:
            protocol, spot = usual[4], slice(*usual.span(5))
        else:
            protocol, spot = usual[1], slice(*usual.span(3))
            if len(usual[3]) == len(_EPHEMERAL) and (protocol == b"UDP" or b" ACK " in tail):
                source = slice(*usual.span(2))
        self._remember_shape(tail, protocol, spot, source)
        constant: tuple[object, ...] = (head, protocol, tail[spot])
        if source is not None:
            constant = _to_high_port(head, protocol, tail[source], tail[spot])
        line = self._known.get(constant)
        if line is not None:
            return line
        line = self._older.get(constant)
        if line is None:
            return self._learn(message, head, constant)
        self._remember(constant, line)
        return line

    def _remember_shape(self, tail: bytes, protocol: bytes, spot: slice, source: slice | None) -> None:
        # TCP options are printed in hexadecimal: a shape for each.
        if b" OPT (" not in tail:
            if len(self._spots) >= MAX_SHAPES:
                self._spots.clear()
            self._spots[tail.translate(_SHAPE)] = protocol, spot, source

    def _learn(self, message: bytes, head: bytes, constant: tuple[object, ...]) -> KnownLine | bool:
        """Read a line thoroughly, and remember it if what is behind ``head`` can only say what ``constant`` tells."""
        line = understood(text_of(message), self._prefixes)
        if line is None:
            return True
        if _ADDRESSES.search(head) and not any(text in head for text in _MISLEADING):
            self._remember(constant, line)
        return line

    def _remember(self, constant: tuple[object, ...], line: KnownLine) -> None:
        if len(self._known) >= MAX_KNOWN // 2:
            self._older, self._known = self._known, {}
        self._known[constant] = line


def _to_high_port(head: bytes, protocol: bytes, source: bytes, port: bytes) -> tuple[object, ...]:
    """What tells the flow of UDP, or of TCP with ACK, to a ``port`` of five digits, which may be a reply.

    See :func:`~kiptail.flow.flow_key`. A reply's destination port is another one for each connection.
    """
    if _EPHEMERAL <= port <= _HIGHEST and (len(source) < len(_EPHEMERAL) or source < _EPHEMERAL):
        return head, protocol, source, "a reply"
    return head, protocol, port


def understood(text: str, prefixes: Prefixes) -> KnownLine | None:
    """What the thorough parser makes of a line: the reference for :class:`KnownLines`."""
    drop = parse(text)
    rule = prefixes.match(drop.prefix) if isinstance(drop, PacketDrop) else None
    if rule is None or not isinstance(drop, PacketDrop):
        return None
    verdict = rule.verdict.value
    return KnownLine(flow_key(drop, rule.text, verdict), (verdict, drop.protocol), rule.verdict is not Verdict.LOG)
