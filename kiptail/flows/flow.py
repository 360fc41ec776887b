"""What a flow is: the drops that belong together (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from zlib import crc32

from kiptail.flows.trail import SECOND_US, Trail
from kiptail.netfilter.parser import PacketDrop
from kiptail.netfilter.prefixes import PrefixMatch

__all__ = ["ENDS", "Distinct", "Flow", "FlowKey", "Spread", "flow_key", "folded_key"]

#: First port of the usual ephemeral range (net.ipv4.ip_local_port_range begins here).
EPHEMERAL_PORT = 32768

#: The two ends of a flow: who sends the packets, and whom they are for.
ENDS = ("src", "dst")


class FlowKey(NamedTuple):
    """What makes two drops the same flow."""

    #: "" for everybody: the flow is folded, and only its other end is somebody.
    src: str
    dst: str
    protocol: str
    #: The service's port: the destination's for a request, the source's for a reply; None where there is none.
    port: int | None
    icmp_type: int | None
    icmp_code: int | None
    reply: bool
    prefix: str
    verdict: str
    #: The end that is this machine itself, by the line's interfaces: ``src``, ``dst``, or "" when it only forwards.
    here: str = ""
    #: The policy that the log line names, or "".
    policy: str = ""
    #: Why filters want no Event of it, by what its lines say, or "": such packets are flows of their own, folded ones
    #: too, so that what is left out takes nothing else with it.
    muted: str = ""

    def address(self, end: str) -> str:
        """The address at this end."""
        return self.src if end == "src" else self.dst

    @property
    def service_end(self) -> str:
        """The end whose port :attr:`port` is."""
        return "src" if self.reply else "dst"

    def identity(self, *more: object) -> bytes:
        """The key, and what else is given, as bytes that no other has."""
        # Without what is not always there: names that earlier versions made must stay the same. Nor does it matter what
        # filters say: a flow has the place in budgets that it would have without them.
        own = self[:-1] if self.policy else self[:-2] if self.here else self[:-3]
        return "\x1f".join(map(str, (*more, *own))).encode()


def flow_key(drop: PacketDrop, prefix: PrefixMatch) -> FlowKey:
    """The flow that ``drop`` belongs to, logged under this prefix.

    A reply comes from a service port to an ephemeral one; keyed by its destination port, every connection would
    be a flow of its own. Only TCP with ACK and UDP can be replies: a bare SYN always opens a connection.
    """
    src_port, dst_port = drop.src_port, drop.dst_port
    reply = (
        src_port is not None
        and dst_port is not None
        and src_port < EPHEMERAL_PORT <= dst_port
        and (drop.protocol == "UDP" or (drop.protocol == "TCP" and drop.tcp_ack))
    )
    return FlowKey(
        drop.src,
        drop.dst,
        drop.protocol,
        src_port if reply else dst_port,
        drop.icmp_type,
        drop.icmp_code,
        reply,
        prefix.prefix,
        prefix.verdict.value,
        "" if drop.in_interface and drop.out_interface else _here(drop),
        prefix.policy,
    )


def _here(drop: PacketDrop) -> str:
    """A packet that came in nowhere was sent here; one that goes out nowhere is, if it is for here, not forwarded."""
    if bool(drop.in_interface) is bool(drop.out_interface):
        return ""
    return "dst" if drop.in_interface else "src"


def folded_key(end: str, key: FlowKey) -> FlowKey:
    """The folded flow that ``key``'s drops go to at this end when its address has too many flows for itself."""
    src, dst = (key.src, "") if end == "src" else ("", key.dst)
    return FlowKey(src, dst, "", None, None, None, reply=False, prefix="", verdict=key.verdict, muted=key.muted)


class Distinct:
    """How many different values there were, at least.

    A bitmap of fixed size, in which values that are equal modulo its size count as one: exact for a range of
    that many ports, a few per cent too low for a thousand addresses, and never too high.
    """

    __slots__ = ("_bits", "count")

    #: Bits; a power of two.
    SIZE = 8192

    def __init__(self, bits: bytes = b"") -> None:
        self._bits = bytearray(bits.ljust(self.SIZE // 8, b"\0")[: self.SIZE // 8])
        self.count = int.from_bytes(self._bits, "little").bit_count()

    def __bytes__(self) -> bytes:
        return bytes(self._bits).rstrip(b"\0")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Distinct) and self._bits == other._bits

    __hash__ = None  # type: ignore[assignment]  # it changes

    def add(self, value: int) -> None:
        """Count ``value``, not negative, unless it was counted before."""
        at = value & (self.SIZE - 1)
        bit = 1 << (at & 7)
        if not self._bits[at >> 3] & bit:
            self._bits[at >> 3] |= bit
            self.count += 1


@dataclass(slots=True)
class Spread:
    """How many peers and ports a folded flow stands for."""

    peers: Distinct = field(default_factory=Distinct)
    ports: Distinct = field(default_factory=Distinct)

    def add(self, key: FlowKey, end: str) -> None:
        """A drop of ``key`` was folded at ``end``."""
        # Not hash(), which differs from process to process: a replay has to come to the same numbers.
        self.peers.add(crc32((key.dst if end == "src" else key.src).encode()))
        if key.port is not None:
            self.ports.add(key.port)

    def add_ports(self, ports: Iterable[int | None]) -> None:
        """More drops of that key were folded, to these ports."""
        add = self.ports.add
        for port in ports:
            if port is not None:
                add(port)

    def copy(self) -> Spread:
        """As it is now."""
        return Spread(Distinct(bytes(self.peers)), Distinct(bytes(self.ports)))


_NO_TRAIL = Trail()


# More than 12 attributes: one for each column of its row in the state, but for the key, which has columns of its own.
@dataclass(slots=True)
class Flow:
    """Drops that belong together. Times are those of the drops, in µs since the epoch."""

    id: int
    key: FlowKey
    #: The time of the drop that opened the flow; unlike ``first_us`` it changes only when that drop is moved.
    opened_us: int
    first_us: int
    last_us: int
    #: The ledger's watermark when the last drop was added: what the flow's end is reckoned from.
    seen_us: int
    count: int
    ended: bool = False
    #: The ends that are reported by this flow's own Event; those left out are reported by a folded flow's, if at all.
    ends: tuple[str, ...] = ENDS
    #: Of a folded flow only.
    spread: Spread | None = None
    #: When it was opened, by the ledger's watermark, but later than any flow before it: what names are made of.
    stamp: int = 0
    #: How it grew, for as long as it may have to be cut.
    trail: Trail = field(default_factory=Trail)
    #: It holds drops from before and after a change of hands, and nobody can tell which.
    mixed: bool = False

    def add(self, time_us: int, seen_us: int, *, blind: bool = False) -> None:
        """Count one more drop; a late one moves the beginning back, never the end. ``blind``: as for the trail."""
        if not self.count:
            # All it had was taken out. It begins anew: whose it is must not be asked by the time of what is gone.
            self.opened_us = self.first_us = self.last_us = time_us
            self.trail = Trail.begun(time_us)
        elif time_us >= self.trail.edge_us:
            self.trail.turn(time_us, self.count, blind=blind)
        elif time_us < self.trail.edge_us - SECOND_US:
            self.trail.count_late(time_us, 1)
        self.count += 1
        self.seen_us = seen_us
        self.first_us, self.last_us = min(self.first_us, time_us), max(self.last_us, time_us)

    def take_out(self, other: Flow) -> None:
        """The drops of ``other``, which were counted here as well, are that one's alone."""
        self.trail.take_out(self.count, other.trail, other.count)
        self.count -= other.count
        first_us, until_us = self.trail.extent(self.count)
        self.first_us = min(max(self.first_us, first_us or 0), self.last_us)
        if until_us is not None:
            self.last_us = max(self.first_us, min(self.last_us, until_us - 1))
        self.opened_us = min(max(self.opened_us, self.first_us), self.last_us)

    def copy(self) -> Flow:
        """As it is now, whatever is added later; for those who do not cut it, so without its trail."""
        return replace(self, spread=self.spread and self.spread.copy(), trail=_NO_TRAIL)

    def reported_addresses(self) -> Iterable[str]:
        """The addresses at the ends that this flow reports."""
        return (self.key.address(end) for end in self.ends)
