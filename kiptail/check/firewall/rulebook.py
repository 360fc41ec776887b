"""All chains of a firewall beside each other: who jumps to them, and what can happen in them (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kiptail.check.firewall.hooks import Hooks
from kiptail.check.firewall.rulesets import Chain, Chains, Change, Decision, Fork, Key, Match, Rule

__all__ = ["Caller", "Possible", "Rulebook"]

#: How deep jumps are followed; the kernel's own limit is 16.
_DEPTH = 16


class Possible(NamedTuple):
    """What a chain can do with a packet of which nothing is known, with the chains that it jumps to."""

    #: drop, reject, accept, unknown.
    verdicts: frozenset[str] = frozenset()
    #: What of that which matches look at it can change.
    changed: frozenset[str] = frozenset()


class Caller(NamedTuple):
    """Where a chain is jumped to."""

    chain: Key
    rule: int
    step: int
    #: jump or goto.
    verdict: str


class Rulebook:
    """All chains of all tools."""

    def __init__(self, chains: Chains) -> None:
        self.chains = chains
        self.hooks = Hooks(chains)
        #: Of each chain, where it is jumped to.
        self.callers: dict[Key, list[Caller]] = {key: [] for key in chains}
        #: Of each chain, the base chains from which packets come there.
        self.roots: dict[Key, set[Key]] = {key: set() for key in chains}
        #: The tables that may be switched off, by (interface, family, table).
        self.asleep = {key[:3] for key, chain in chains.items() if chain.base is not None and chain.base.dormant}
        self._limited: dict[Key, bool] = {}
        targets: dict[Key, set[Key]] = {key: set() for key in chains}
        for key, chain in chains.items():
            for caller, target in _jumps(key, chain):
                if target in chains:
                    self.callers[target].append(caller)
                    targets[key].add(target)
        for key, chain in chains.items():
            ahead = [key] if chain.base is not None and not chain.base.dormant else []
            while ahead:
                reached = ahead.pop()
                if key not in self.roots[reached]:
                    self.roots[reached].add(key)
                    ahead += targets[reached]
        self.possible = self._all_possible()

    def _all_possible(self) -> dict[Key, Possible]:
        found = {key: _own(key, chain, self.chains) for key, chain in self.chains.items()}
        changed = list(found)
        while changed:
            key = changed.pop()
            for caller in self.callers[key]:
                before = found[caller.chain]
                after = Possible(before.verdicts | found[key].verdicts, before.changed | found[key].changed)
                if after != before:
                    found[caller.chain] = after
                    changed.append(caller.chain)
        return found

    def is_limited(self, key: Key, depth: int = 0) -> bool:
        """Whether a limit bounds the rate of packets that come to a chain, for each jump there has one."""
        if depth > _DEPTH:
            return False
        if key not in self._limited:
            callers = [caller for caller in self.callers[key] if self.roots[caller.chain]]
            self._limited[key] = bool(callers) and all(
                _has_limit(self.chains[caller.chain].rules[caller.rule], caller.step)
                or self.is_limited(caller.chain, depth + 1)
                for caller in callers
            )
        return self._limited[key]


def _own(key: Key, chain: Chain, chains: Chains) -> Possible:
    """Without what is jumped to."""
    verdicts, changed = set[str](), set[str]()
    for rule in chain.rules:
        for step in rule:
            if isinstance(step, Change):
                changed |= step.about
        for decision in _decisions(rule):
            if decision.verdict in ("accept", "drop", "reject"):
                verdicts.add(decision.verdict)
            elif decision.verdict not in ("return", "continue") and key.beside(decision.target) not in chains:
                verdicts.add("unknown")
    return Possible(frozenset(verdicts), frozenset(changed))


def _decisions(rule: Rule) -> Iterator[Decision]:
    for step in rule:
        if isinstance(step, Decision):
            yield step
        elif isinstance(step, Fork):
            yield from step.decisions


def _jumps(key: Key, chain: Chain) -> Iterator[tuple[Caller, Key]]:
    for number, rule in enumerate(chain.rules):
        for position, step in enumerate(rule):
            if isinstance(step, Decision | Fork):
                for decision in _decisions((step,)):
                    if decision.target:
                        yield Caller(key, number, position, decision.verdict), key.beside(decision.target)


def _has_limit(rule: Rule, position: int) -> bool:
    return any(isinstance(step, Match) and step.limit for step in rule[:position])
