"""Which of a firewall's rules log, under which prefix, and what becomes of the packet after that (pure).

One walk answers whether a packet that was logged is dropped afterwards. It knows no packets: a rule behind the logging
one decides for all of its packets when it asks for nothing that the logging rule did not ask for too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from kiptail.rulesets import Chain, Key

__all__ = ["Fate", "LogRule", "log_rules"]

#: Jumps are followed so deep; the kernel's own limit is 16.
_DEPTH = 16
#: And so many rules are looked at for one logging rule, for rules can jump to and fro.
_STEPS = 20_000


class Fate(StrEnum):
    """What becomes of a packet after the rule that logged it."""

    DROP = "drop"
    REJECT = "reject"
    ACCEPT = "accept"
    #: Some of them are dropped: it hangs on rules that look at more than the logging rule did.
    MIXED = "mixed"
    #: Not to be told from the rules.
    UNKNOWN = "unknown"


_FINAL = {"accept": Fate.ACCEPT, "drop": Fate.DROP, "reject": Fate.REJECT}


@dataclass(frozen=True, slots=True)
class LogRule:
    """A rule that logs."""

    #: ``iptables``, ``ip6tables`` or ``nftables``.
    tool: str
    #: ``filter FORWARD`` or ``inet filter forward``.
    place: str
    #: As in the rule, blanks and all.
    prefix: str
    fate: Fate
    #: The group of NFLOG, whose packets go to a program and not to the kernel log; None for LOG.
    group: int | None = None
    limited: bool = False


def log_rules(tool: str, chains: Mapping[Key, Chain]) -> list[LogRule]:
    """The rules that log, in their order."""
    found = []
    rulebook = _Rulebook(chains)
    for key, chain in chains.items():
        for number, rule in enumerate(chain.rules):
            if rule.logs:
                fate = _Walk(rulebook, rule.matches).after(key, number)
                shown = _tool_of(tool, key)
                found.append(LogRule(shown, chain.place, rule.prefix, fate, rule.group, rule.limited))
    return found


def _tool_of(tool: str, key: Key) -> str:
    return "ip6tables" if tool == "iptables" and key[0] == "ip6" else tool


class _Walk:
    """Follows a logged packet through the rules behind the one that logged it."""

    def __init__(self, rulebook: _Rulebook, matches: frozenset[str]) -> None:
        self._book, self._matches = rulebook, matches
        self._steps = 0

    def after(self, key: Key, number: int) -> Fate:
        """What becomes of a packet behind rule ``number`` of a chain."""
        fates = self._chain(key, number + 1, 0)
        if None in fates:
            fates.discard(None)
            fates |= self._end(key, 0)
        return _sum(fates)

    def _chain(self, key: Key, start: int, depth: int) -> set[Fate | None]:
        """All that can become of it from rule ``start`` of a chain on; None: it comes to the chain's end."""
        chain = self._book.chains.get(key)
        if chain is None or depth > _DEPTH:
            return {Fate.UNKNOWN}
        fates: set[Fate | None] = set()
        for rule in chain.rules[start:]:
            self._steps += 1
            if self._steps > _STEPS:
                return fates | {Fate.UNKNOWN}
            if not rule.verdict:
                continue
            if not rule.matches <= self._matches:
                fates |= self._book.possible(key, rule.verdict)
                continue
            decided = self._verdict(key, rule.verdict, depth)
            if None not in decided:
                return fates | decided
            fates |= decided - {None}
            if rule.verdict == "return" or rule.verdict.startswith("goto "):
                return fates | {None}
        return fates | {None}

    def _verdict(self, key: Key, verdict: str, depth: int) -> set[Fate | None]:
        word, _, target = verdict.partition(" ")
        if word in _FINAL:
            return {_FINAL[word]}
        if word == "return":
            return {None}
        if word not in ("jump", "goto"):
            return {Fate.UNKNOWN}
        inner = (*key[:2], target)
        # Else it is a target such as MARK: it goes on.
        return self._chain(inner, 0, depth + 1) if inner in self._book.chains else {None}

    def _end(self, key: Key, depth: int) -> set[Fate | None]:
        """What becomes of a packet at a chain's end: its policy, or what follows where it was jumped to."""
        chain = self._book.chains.get(key)
        if chain is not None and chain.policy:
            return {Fate.DROP if chain.policy == "drop" else Fate.ACCEPT}
        if depth > _DEPTH or self._steps > _STEPS:
            return {Fate.UNKNOWN}
        fates: set[Fate | None] = set()
        for caller, number in self._book.jumps.get(key, ()):
            rules = self._book.chains[caller].rules
            # It asks for what the jump asked for, too.
            inner = _Walk(self._book, self._matches | rules[number].matches)
            inner._steps = self._steps + 1
            start = number + 1 if rules[number].verdict.startswith("jump ") else len(rules)
            behind = inner._chain(caller, start, depth + 1)
            if None in behind:
                behind = (behind - {None}) | inner._end(caller, depth + 1)
            self._steps = inner._steps
            fates |= behind
        return fates or {Fate.UNKNOWN}


class _Rulebook:
    """All chains, who jumps to them, and what can happen in them."""

    def __init__(self, chains: Mapping[Key, Chain]) -> None:
        self.chains = chains
        #: Of each chain, the rules that jump to it.
        self.jumps: dict[Key, list[tuple[Key, int]]] = {}
        self._possible: dict[Key, frozenset[Fate]] = {}
        for key, chain in chains.items():
            for number, rule in enumerate(chain.rules):
                word, _, target = rule.verdict.partition(" ")
                if word in ("jump", "goto"):
                    self.jumps.setdefault((*key[:2], target), []).append((key, number))

    def possible(self, key: Key, verdict: str) -> frozenset[Fate]:
        """What a verdict in a chain can mean for a packet of which nothing is known."""
        word, _, target = verdict.partition(" ")
        if word in _FINAL:
            return frozenset((_FINAL[word],))
        if word in ("jump", "goto"):
            return self._within((*key[:2], target))
        return frozenset() if word == "return" else frozenset((Fate.UNKNOWN,))

    def _within(self, key: Key) -> frozenset[Fate]:
        if key not in self._possible:
            self._possible[key] = frozenset()  # for jumps in a circle
            chain = self.chains.get(key)
            verdicts = {rule.verdict for rule in chain.rules if rule.verdict} if chain else set()
            self._possible[key] = frozenset().union(*(self.possible(key, verdict) for verdict in verdicts))
        return self._possible[key]


def _sum(fates: set[Fate | None]) -> Fate:
    known = {fate for fate in fates if fate is not None}
    if len(known) == 1:
        return known.pop()
    if known and known <= {Fate.DROP, Fate.REJECT}:
        return Fate.REJECT
    if known & {Fate.DROP, Fate.REJECT}:
        return Fate.MIXED
    return Fate.UNKNOWN if Fate.UNKNOWN in known or not known else Fate.ACCEPT
