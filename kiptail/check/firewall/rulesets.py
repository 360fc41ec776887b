"""A firewall's rules in one form for iptables and nftables (pure): what a rule asks, does and decides, step by step.

Kept of a rule is what says whether it logs, for which packets it is, and what becomes of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = [
    "CHANGEABLE",
    "OPAQUE",
    "PROTOCOL",
    "Base",
    "Chain",
    "Chains",
    "Change",
    "Decision",
    "Fork",
    "Key",
    "Log",
    "Match",
    "Rule",
    "Step",
    "opaque_tables",
]

#: What a match looks at that the rules themselves can change: the packet's mark, its connection, sets of addresses,
#: and the rest of the packet.
CHANGEABLE = frozenset(("mark", "ct", "set", "packet"))
#: What stays as it is on the packet's whole way, whatever is changed or translated.
PROTOCOL = frozenset(("protocol",))


class Match(NamedTuple):
    """One condition."""

    #: As text; the same text asks the same.
    text: str
    #: It asks for the opposite.
    negated: bool = False
    #: What it looks at: some of :data:`CHANGEABLE`, or :data:`PROTOCOL`.
    about: frozenset[str] = CHANGEABLE
    #: The same packet gets the same answer, until what it looks at is changed. A rate limit, or chance, is not steady.
    steady: bool = True
    #: What is compared, where it is compared with one value: two values at once are impossible.
    point: str = ""
    #: A limit of its own bounds the rate of packets that it takes.
    limit: bool = False


class Change(NamedTuple):
    """Something that matches look at is no longer what it was."""

    about: frozenset[str]


class Log(NamedTuple):
    """The packet is logged."""

    #: As in the rule, blanks and all.
    prefix: str = ""
    #: The group of NFLOG, whose packets go to a program and not to the kernel log; None for LOG.
    group: int | None = None
    #: A limit bounds the rate of packets that come to it.
    limited: bool = False


class Decision(NamedTuple):
    """What becomes of the packet."""

    #: accept, drop, reject, return, jump, goto, continue; unknown where the rules do not say it.
    verdict: str
    #: The chain that is jumped to.
    target: str = ""


class Fork(NamedTuple):
    """One of these is decided, or none: the rule does not say for which packets."""

    decisions: tuple[Decision, ...]


Step = Match | Change | Log | Decision | Fork
Rule = tuple[Step, ...]


class Key(NamedTuple):
    """What names a chain."""

    #: ``nf_tables``, or ``legacy`` for the old interface of iptables, which can have a table of the same name.
    interface: str
    #: ip, ip6, inet, bridge, arp or netdev.
    family: str
    table: str
    chain: str

    def beside(self, chain: str) -> Key:
        """The chain of this name in the same table."""
        return Key(self.interface, self.family, self.table, chain)


class Base(NamedTuple):
    """Where the kernel calls a chain: that of a base chain of nft(8), and of iptables' built-in chains."""

    #: prerouting, input, forward, output, postrouting, ingress, egress.
    hook: str
    #: Lower ones are called first.
    priority: int
    #: accept or drop.
    policy: str = "accept"
    #: Only a connection's first packet comes here.
    nat: bool = False
    #: The table may be switched off.
    dormant: bool = False


@dataclass(slots=True)
class Chain:
    """One chain."""

    #: ``iptables``, ``ip6tables`` or ``nftables``.
    tool: str
    #: As findings show it: ``filter FORWARD``, ``inet filter forward``.
    place: str
    #: None for a chain that is jumped to.
    base: Base | None = None
    rules: list[Rule] = field(default_factory=list)


Chains = Mapping[Key, Chain]


#: Stands in a rule for something that the tool does not show: it may log, and decide.
OPAQUE = Match("?", steady=False)


def opaque_tables(chains: Chains) -> set[tuple[str, str]]:
    """The (family, table) of rules with :data:`OPAQUE` in them."""
    return {(key.family, key.table) for key, chain in chains.items() if any(OPAQUE in rule for rule in chain.rules)}
