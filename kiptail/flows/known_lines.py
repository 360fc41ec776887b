"""A raw line → its flow, at once when an earlier line said the same (pure).

Of the lines about one flow's packets only lengths, numbers and flags differ. So a line is cut in two at LEN=: its head
is the same each time, and of its tail one value tells the flow: the destination port or, of a reply, the source port.
Where they stand, and whether the line can be a reply at all, the tail's shape says, which is the tail with a 0 for each
digit. Two look-ups then tell what the thorough parser made of the first such line: 0.6 µs instead of 8.5. Whatever does
not have the usual form to the letter is left to the thorough parser. Both read every line alike:
tests/flows/test_known_lines.py holds them equal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from kiptail.flows.flow import EPHEMERAL_PORT, FlowKey
from kiptail.flows.left_out import LeaveOut, counted_as, nothing_left_out
from kiptail.flows.pairs import packet_of_line
from kiptail.journal.entry import text_of
from kiptail.netfilter.nflog import NflogSource
from kiptail.netfilter.parser import Unparsed
from kiptail.netfilter.prefixes import Prefixes, PrefixRule
from kiptail.netfilter.protocols import protocol_label
from kiptail.netfilter.reading import KERNEL, ULOGD, Logged, Printer, Untrusted, read

__all__ = [
    "KnownLine",
    "KnownLines",
    "Line",
    "LinesOfUlogd",
    "PairedLine",
    "UnknownLine",
    "lines_of_units",
    "understood",
]

#: The most different lines that are remembered, about 1 KiB each, and the most shapes, 0.4 KiB each.
MAX_KNOWN = 8_192
MAX_SHAPES = 2_048

#: As a line has them: the ports that a reply goes to, all of five digits, so that they can be compared as they stand.
_EPHEMERAL, _HIGHEST = b"%d" % EPHEMERAL_PORT, b"65535"

#: Longer heads and tails are left to the thorough parser, in bytes: decoded, no line of both is longer than it takes.
LONGEST = 1_000

#: Tails without IP options, extension headers and fragments, and what tells the flow in them: protocol and ports, or
#: ICMP's type and code. No wider than :mod:`kiptail.netfilter.printed`, unless there is more: then the last group is
#: not empty.
_USUAL_OF_KERNEL = re.compile(
    rb"\d++ (?:TOS=0x[0-9A-F]++ PREC=0x[0-9A-F]++ TTL=\d++ ID=\d++ (?:CE )?+(?:DF )?+(?:MF )?+"
    rb"|TC=\d++ HOPLIMIT=\d++ FLOWLBL=\d++ )PROTO="
    rb"(?:(TCP|UDP) SPT=(\d{1,5}) DPT=(\d{1,5}) (?:LEN=\d++ |(?:SEQ=\d++ ACK=\d++ )?+WINDOW=\d++ RES=0x[0-9a-f]++ "
    rb"(?:AE )?+(?:CWR )?+(?:ECE )?+(?:URG )?+(?:ACK )?+(?:PSH )?+(?:RST )?+(?:SYN )?+(?:FIN )?+URGP=\d++ "
    rb"(?:OPT \([0-9A-F]++\) )?+)"
    rb"|(ICMP|ICMPv6) (TYPE=\d++ CODE=\d++) (?:ID=\d++ SEQ=\d++ )?+)"
    rb"(?:UID=\d++ GID=\d++ )?+(?:MARK=0x[0-9a-f]++ )?+(\Z|.)",
    re.DOTALL,
).match
#: The same as :mod:`kiptail.netfilter.ulogd` has them, whose last blank is missing.
_USUAL_OF_ULOGD = re.compile(
    rb"\d++ (?:TOS=[0-9A-F]++ PREC=0x[0-9A-F]++ TTL=\d++ ID=\d++ (?:CE )?+(?:DF )?+(?:MF )?+"
    rb"|TC=\d++ HOPLIMIT=\d++ FLOWLBL=\d++ )PROTO="
    rb"(?:(TCP|UDP|SCTP) SPT=(\d{1,5}) DPT=(\d{1,5}) (?:LEN=\d++ |SEQ=\d++ ACK=\d++ WINDOW=\d++ "
    rb"(?:URG )?+(?:ACK )?+(?:PSH )?+(?:RST )?+(?:SYN )?+(?:FIN )?+URGP=\d++ )?+"
    rb"|(ICMP|ICMPv6) (TYPE=\d++ CODE=\d++) (?:(?:ID=\d++ SEQ|PARAMETER|MTU)=\d++ )?+)"
    rb"(?:UID=\d++ )?+(?:GID=\d++ )?+MARK=0x[0-9a-f]++(\Z|.)",
    re.DOTALL,
).match
_USUAL = {KERNEL: _USUAL_OF_KERNEL, ULOGD: _USUAL_OF_ULOGD}
_SHAPE = bytes.maketrans(b"123456789", b"000000000")


@dataclass(frozen=True, slots=True, eq=False)
class KnownLine:
    """What all lines with the same constant parts say. Two are equal only when they are the same: that is fast."""

    key: FlowKey
    #: Verdict, protocol and policy, as metrics count them.
    kind: tuple[str, str, str]
    #: The packet did not arrive, and no filter leaves it out: the ledger counts it.
    counted: bool
    #: The reason why a filter has it counted as left out and nothing else, or "".
    ignored: str = ""
    #: It resets a connection.
    reset: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class UnknownLine:
    """A line of ulogd's that is to be read thoroughly, by what holds for its NFLOG group."""

    text: str
    prefixes: Prefixes
    #: The policies that other lines named, or "".
    policy: str = ""

    def read(self) -> Logged | Untrusted | None:
        """What it counts as: :func:`kiptail.netfilter.reading.read`."""
        logged = read(self.text, self.prefixes, ULOGD)
        if self.policy and isinstance(logged, Logged):
            return logged._replace(prefix=logged.prefix._replace(policy=self.policy))
        return logged


@dataclass(frozen=True, slots=True, eq=False)
class PairedLine:
    """A line of ulogd's that others are about, too: see :mod:`kiptail.flows.pairs`."""

    line: KnownLine | UnknownLine
    #: What they have in common.
    packet: bytes
    #: Where it has none, it is the last of them.
    has_prefix: bool


#: What the journal gives out beside the texts of lines that the kernel wrote.
Line = KnownLine | UnknownLine | PairedLine


class KnownLines:
    """The lines that were seen lately. Not safe for several threads at once."""

    def __init__(
        self, prefixes: Prefixes, printer: Printer = KERNEL, *, leave_out: LeaveOut = nothing_left_out
    ) -> None:
        """``leave_out``: what filters say of a line."""
        self._prefixes = prefixes
        self._leave_out = leave_out
        self._printer = printer
        self._usual = _USUAL[printer]
        self._gap = printer.gap.encode()
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
            return self._prefixes.wanted(message, self._gap) and self._look_closer(message, head, tail)

    def _look_closer(self, message: bytes, head: bytes, tail: bytes) -> KnownLine | bool:
        """As :meth:`wanted`, of a wanted line whose head or shape is new."""
        usual = self._usual(tail)
        if usual is None or max(len(head), len(tail)) > LONGEST:
            return True
        source: slice | None = None
        protocol, spot = (usual[4], slice(*usual.span(5))) if usual[1] is None else (usual[1], slice(*usual.span(3)))
        if usual[1] == b"TCP" and b" RST " in tail:
            protocol = b"TCP RST"  # filters may want these apart
        constant: tuple[object, ...] = (head, protocol, tail[spot])
        if usual[1] and len(usual[3]) == len(_EPHEMERAL) and (protocol == b"UDP" or b" ACK " in tail):
            source = slice(*usual.span(2))
            constant = _to_high_port(head, protocol, tail[source], tail[spot])
        line = self._known.get(constant) or self._older.get(constant)
        # What follows, as the packet that an ICMP error is about, is read once for each shape.
        if line is None or usual[6]:
            read_now = understood(text_of(message), self._prefixes, self._printer, self._leave_out)
            if read_now is None:
                return True
            line = line or read_now
        if constant not in self._known:
            self._remember(constant, line)
        # TCP options are printed in hexadecimal: a shape for each.
        if b" OPT (" not in tail:
            if len(self._spots) >= MAX_SHAPES:
                self._spots.clear()
            self._spots[tail.translate(_SHAPE)] = protocol, spot, source
        return line

    def _remember(self, constant: tuple[object, ...], line: KnownLine) -> None:
        if len(self._known) >= MAX_KNOWN // 2:
            self._older, self._known = self._known, {}
        self._known[constant] = line


class LinesOfUlogd:
    """The lines that one ulogd writes, about the packets of one NFLOG group."""

    def __init__(
        self,
        prefixes: Prefixes,
        *,
        paired: bool = False,
        thorough: bool = False,
        leave_out: LeaveOut = nothing_left_out,
    ) -> None:
        """``paired``: some are about one packet; ``thorough``: each of them is to be read thoroughly."""
        self._prefixes = prefixes
        self._paired = paired
        self._wanted: Callable[[bytes], KnownLine | bool] = (
            partial(prefixes.wanted, gap=b" ") if thorough else KnownLines(prefixes, ULOGD, leave_out=leave_out).wanted
        )

    def wanted(self, message: bytes) -> Line | None:
        """What the journal's raw ``message`` says; None when it has no wanted prefix."""
        found = self._wanted(message)
        if not found:
            return None
        # Most are, and a line costs 5 µs in all.
        if found.__class__ is KnownLine and not self._paired:
            return found
        line = found if isinstance(found, KnownLine) else UnknownLine(text_of(message), self._prefixes)
        if not self._paired:
            return line
        return PairedLine(line, packet_of_line(message), not message.lstrip().startswith(b"IN="))


def lines_of_units(
    sources: Iterable[NflogSource],
    rules: Sequence[PrefixRule],
    *,
    thorough: bool = False,
    leave_out: LeaveOut = nothing_left_out,
) -> dict[str, Callable[[bytes], Line | None]]:
    """What is asked with the lines of each unit that runs ulogd, by its name; ``rules`` are the configured prefixes."""
    return {
        source.unit: LinesOfUlogd(
            source.prefixes(rules), paired=source.paired, thorough=thorough, leave_out=leave_out
        ).wanted
        for source in sources
    }


def _to_high_port(head: bytes, protocol: bytes, source: bytes, port: bytes) -> tuple[object, ...]:
    """What tells the flow of UDP, or of TCP with ACK, to a ``port`` of five digits, which may be a reply.

    See :func:`~kiptail.flows.flow.flow_key`. A reply's destination port is another one for each connection.
    """
    if _EPHEMERAL <= port <= _HIGHEST and (len(source) < len(_EPHEMERAL) or source < _EPHEMERAL):
        return head, protocol, source, "a reply"
    return head, protocol, port


def understood(
    text: str, prefixes: Prefixes, printer: Printer = KERNEL, leave_out: LeaveOut = nothing_left_out
) -> KnownLine | None:
    """What the thorough parser makes of a line: the reference for :class:`KnownLines`."""
    logged = read(text, prefixes, printer)
    if not isinstance(logged, Logged) or isinstance(logged.packet, Unparsed):
        return None
    prefix, drop = logged.prefix, logged.packet
    kind = (prefix.verdict.value, protocol_label(drop.protocol), prefix.policy)
    key, ignored = counted_as(drop, prefix, leave_out)
    return KnownLine(key, kind, prefix.verdict.is_loss and not ignored, ignored, drop.tcp_reset)
