"""What a line of the journal counts as (pure): both ways of reading, thorough and fast, go by this."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from kiptail.netfilter import printed, ulogd
from kiptail.netfilter.parser import PacketDrop, Unparsed, parse, split
from kiptail.netfilter.prefixes import Prefixes, PrefixMatch

__all__ = ["KERNEL", "ULOGD", "Logged", "Printer", "Untrusted", "packet_of", "read", "to_json_dict"]


class Printer(NamedTuple):
    """Who writes lines about packets, each in a form of its own."""

    #: Whether it prints this text, which goes from ``IN=`` to the end of a line.
    is_printed: Callable[[str], bool]
    #: What it writes between a rule's prefix and ``IN=``.
    gap: str


#: Of LOG rules.
KERNEL = Printer(printed.is_printed, gap="")
#: Of NFLOG rules.
ULOGD = Printer(ulogd.is_printed, gap=" ")


class Logged(NamedTuple):
    """A line that a rule with a wanted prefix logged."""

    prefix: PrefixMatch
    packet: PacketDrop | Unparsed


@dataclass(frozen=True, slots=True)
class Untrusted:
    """A line with a wanted prefix that no rule with this prefix logged."""

    #: One short line that quotes nothing of it.
    reason: str


def read(line: str, prefixes: Prefixes, printer: Printer = KERNEL) -> Logged | Untrusted | None:
    """What ``line``, a message that the kernel or ulogd wrote, counts as; None where no wanted prefix is in it.

    The kernel's messages quote users: names of processes, executables, directories. So that the kernel wrote a line
    does not say that its packet logging did, and a line counts only if nothing stands around the prefix and what that
    prints. In both places, as neither is enough: the kernel cuts long messages, so a quoted text can end one, and it
    begins some messages with the name of a process.
    """
    parts = split(line)
    if parts is None:
        return None
    before, printed_part = parts
    before = before.removesuffix(printer.gap)
    prefix = prefixes.match(before)
    if not printer.is_printed(printed_part):
        return Untrusted("not what packet logging prints") if prefix or prefixes.quoted_in(before) else None
    if prefix is None:
        return Untrusted("more than the prefix before IN=") if prefixes.is_word_of(before) else None
    return Logged(prefix, packet_of(line, prefix))


def packet_of(line: str, prefix: PrefixMatch) -> PacketDrop | Unparsed:
    """What a line with this prefix says of a packet."""
    drop = parse(line)
    if prefix.problem and isinstance(drop, PacketDrop):
        return Unparsed(prefix.problem, drop.prefix)
    return drop


def to_json_dict(drop: PacketDrop, prefix: PrefixMatch) -> dict[str, str | int]:
    """``drop`` as ``kiptail parse`` prints it; what the line does not say, or leaves empty, has no key."""
    values: dict[str, str | int | None] = {
        "prefix": prefix.prefix,
        "verdict": prefix.verdict.value,
        "policy": prefix.policy,
        "direction": prefix.direction,
        "tier": prefix.tier,
        "kind": prefix.kind,
        "rule": prefix.rule,
        "zone": prefix.zone,
        "chain": prefix.chain,
        "label": prefix.label,
        "limited": True if prefix.limited else None,
        "in": drop.in_interface,
        "out": drop.out_interface,
        "src": drop.src,
        "dst": drop.dst,
        "protocol": drop.protocol,
        "src_port": drop.src_port,
        "dst_port": drop.dst_port,
        "icmp_type": drop.icmp_type,
        "icmp_code": drop.icmp_code,
    }
    return {key: value for key, value in values.items() if value is not None and value != ""}
