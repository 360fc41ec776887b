"""Where lines of NFLOG rules come from, and what those without a prefix stand for (pure).

Such a rule names a group, and whoever listens to that group gets the packets: a ulogd2 that writes them to the
journal. Its lines do not say the group, so that each group has a unit of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from kiptail.netfilter.prefixes import Prefixes, PrefixRule, Verdict

__all__ = ["HIGHEST_GROUP", "STACKS", "NflogSource", "Stack", "unit_of_group"]

HIGHEST_GROUP = 65_535


class Stack(NamedTuple):
    """How a known program uses its NFLOG group."""

    #: The group, unless somebody has changed it.
    group: int
    #: What a line without a prefix stands for.
    verdict: Verdict
    #: It logs at a limited rate: there are more packets than lines.
    limited: bool = False
    #: The prefixes of its other lines.
    rules: tuple[PrefixRule, ...] = ()
    #: Lines with a prefix name policies that did not allow the packet of the line without one that follows.
    paired: bool = False


#: By the names that a table of the settings may have as its profile, and some of the profiles themselves.
STACKS = {
    "kube-router": Stack(100, Verdict.REJECT, limited=True),
    # From each policy that did not allow a packet, before the line without a prefix says that none did. By itself it
    # is no verdict: another policy may allow the packet.
    "k3s": Stack(
        100,
        Verdict.REJECT,
        limited=True,
        rules=(PrefixRule("DROP by policy {policy}", Verdict.LOG, limited=True, cut_at=48),),
        paired=True,
    ),
    "weave": Stack(86, Verdict.DROP),
}


class NflogSource(NamedTuple):
    """One unit that runs ulogd."""

    #: As systemd names it: ``kiptail-ulogd@100.service``.
    unit: str
    #: What a prefix is called that is empty: ``NFLOG group 100``.
    name: str
    #: Prefixes of its lines alone.
    rules: tuple[PrefixRule, ...] = ()
    #: What a line without a prefix stands for; None: it does not count.
    verdict: Verdict | None = None
    #: There are more packets than lines without a prefix.
    limited: bool = False
    #: As :attr:`Stack.paired`.
    paired: bool = False
    #: The group; None where only the unit's own configuration says it.
    group: int | None = None

    def of_stack(self, name: str, *, limited: bool = False) -> NflogSource:
        """The same, as the stack of that name uses its group; ``limited``: so it does here, at any rate."""
        stack = STACKS[name]
        limited = limited or stack.limited
        return self._replace(verdict=stack.verdict, limited=limited, rules=stack.rules, paired=stack.paired)

    def prefixes(self, rules: Iterable[PrefixRule]) -> Prefixes:
        """What counts of its lines, beside these prefixes; ValueError where that is contradictory."""
        empty = None if self.verdict is None else PrefixRule(self.name, self.verdict, limited=self.limited)
        return Prefixes((*self.rules, *rules), empty=empty)


def unit_of_group(group: int) -> str:
    """The unit of the package that writes the lines of an NFLOG group."""
    return f"kiptail-ulogd@{group}.service"
