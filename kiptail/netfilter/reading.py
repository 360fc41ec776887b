"""What a line of the journal counts as (pure): both ways of reading, thorough and fast, go by this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from kiptail.netfilter.parser import PacketDrop, Unparsed, parse, split
from kiptail.netfilter.prefixes import Prefixes, PrefixRule
from kiptail.netfilter.printed import is_printed

__all__ = ["Logged", "Untrusted", "read"]


class Logged(NamedTuple):
    """A line that a rule with a wanted prefix logged."""

    rule: PrefixRule
    packet: PacketDrop | Unparsed


@dataclass(frozen=True, slots=True)
class Untrusted:
    """A line with a wanted prefix that no rule with this prefix logged."""

    #: One short line that quotes nothing of it.
    reason: str


def read(line: str, prefixes: Prefixes) -> Logged | Untrusted | None:
    """What ``line``, a message that the kernel wrote, counts as; None where no wanted prefix is in it.

    The kernel's messages quote users: names of processes, executables, directories. So that the kernel wrote a line
    does not say that its packet logging did, and a line counts only if nothing stands around the prefix and what that
    prints. In both places, as neither is enough: the kernel cuts long messages, so a quoted text can end one, and it
    begins some messages with the name of a process.
    """
    parts = split(line)
    if parts is None:
        return None
    before, kernel_part = parts
    rule = prefixes.match(before)
    if not is_printed(kernel_part):
        return Untrusted("not what packet logging prints") if rule or prefixes.quoted_in(before) else None
    if rule is None:
        return Untrusted("more than the prefix before IN=") if prefixes.is_word_of(before) else None
    return Logged(rule, parse(line))
