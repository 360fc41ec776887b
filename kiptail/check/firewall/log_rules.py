"""Which of a firewall's rules log, under which prefix, and what becomes of the packet after that (pure).

One walk answers whether a packet that was logged is dropped afterwards. It knows no packets: a rule behind the logging
one decides for all of its packets when it asks for nothing that is not known of them, and for some of them otherwise.
What cannot be followed is unknown; no answer is a guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from kiptail.check.firewall.known import Known, either, is_impossible, known_at, survivors
from kiptail.check.firewall.rulebook import Rulebook
from kiptail.check.firewall.rulesets import Chains, Change, Decision, Fork, Key, Log, Match, Rule

__all__ = ["Fate", "LogRule", "log_rules"]

#: How deep jumps are followed; the kernel's own limit is 16.
_DEPTH = 16
#: The most rules that are looked at for one logging rule, for rules can jump to and fro.
_STEPS = 20_000


class Fate(StrEnum):
    """What becomes of a packet after the rule that logged it."""

    DROP = "drop"
    REJECT = "reject"
    ACCEPT = "accept"
    #: Some of them are dropped: it depends on rules that look at more than the logging rule did.
    MIXED = "mixed"
    #: The rules do not say it.
    UNKNOWN = "unknown"


_FINAL = {"drop": Fate.DROP, "reject": Fate.REJECT}


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


def log_rules(chains: Chains, *, complete: bool = True) -> list[LogRule]:
    """The rules that log, in their order, of all that any tool printed: each can drop what another lets pass.

    ``complete``: there are no more rules on this machine, so that what passes these has passed.
    """
    found = []
    rulebook = Rulebook(chains)
    wholes: dict[tuple[Key, Known], _Outcome] = {}
    for key, chain in chains.items():
        for number, rule in enumerate(chain.rules):
            for position, step in enumerate(rule):
                if isinstance(step, Log):
                    fate = _Walk(rulebook, wholes).fate(key, number, position, complete=complete)
                    limited = step.limited or rulebook.is_limited(key)
                    found.append(LogRule(chain.tool, chain.place, step.prefix, fate, step.group, limited))
    return found


class _Outcome(NamedTuple):
    """All that can become of a packet in a chain."""

    fates: frozenset[Fate] = frozenset()
    #: What is known of those that are accepted: they have passed the base chain. None: none are.
    accepted: Known | None = None
    #: What is known of those that come to the chain's end. None: none do.
    ended: Known | None = None


#: Most rules are for other packets.
_NOTHING = _Outcome()


class _Walk:
    """Follows a logged packet through the rules behind the one that logged it."""

    def __init__(self, rulebook: Rulebook, wholes: dict[tuple[Key, Known], _Outcome]) -> None:
        self._book = rulebook
        self._wholes = wholes
        self._steps = 0

    def fate(self, key: Key, number: int, position: int, *, complete: bool) -> Fate:
        """What becomes of a packet behind step ``position`` of rule ``number`` of a chain."""
        if key[:3] in self._book.asleep:
            return Fate.UNKNOWN
        rule = self._book.chains[key].rules[number]
        known = known_at(rule, position)
        fates = self._up(key, self._from(key, number, position + 1, known, 0), 0)
        if not complete and Fate.ACCEPT in fates:
            fates |= {Fate.UNKNOWN}
        return _sum(fates)

    def _up(self, key: Key, outcome: _Outcome, depth: int) -> set[Fate]:
        """The fates of an outcome in chain ``key``: its accepted packets go on to other base chains, the rest back."""
        fates = set(outcome.fates)
        roots = self._book.roots[key]
        if outcome.accepted is not None:
            # Without a root, no packet comes here, or it is not to be seen from where.
            for root in roots:
                fates |= self._beyond(root, outcome.accepted)
            fates |= set() if roots else {Fate.UNKNOWN}
        if outcome.ended is None:
            return fates
        base = self._book.chains[key].base
        if base is not None:
            return fates | ({Fate.DROP} if base.policy == "drop" else self._beyond(key, outcome.ended))
        if depth > _DEPTH or self._steps > _STEPS:
            return fates | {Fate.UNKNOWN}
        changed = self._book.possible[key].changed
        callers = [caller for caller in self._book.callers[key] if self._book.roots[caller.chain] or not roots]
        for caller, number, position, verdict in callers:
            rules = self._book.chains[caller].rules
            # What the jump asked for holds for these packets as well.
            known = outcome.ended | survivors(known_at(rules[number], position), changed)
            self._steps += 1
            behind = _Outcome(ended=known)
            if verdict == "jump":
                behind = self._from(caller, number + 1, 0, known, depth + 1)
            fates |= self._up(caller, behind, depth + 1)
        return fates if callers else fates | {Fate.UNKNOWN}

    def _beyond(self, key: Key, known: Known) -> set[Fate]:
        """What becomes of a packet that has passed a base chain."""
        fates = set[Fate]()
        hooks = self._book.hooks
        for way in hooks.ways(key, known):
            passing, before = known, hooks.bases[key]
            for leg in way:
                passing, before = hooks.survivors(passing, before, leg.base), leg.base
                outcome = self._whole(leg.key, passing)
                if outcome.ended is not None and leg.base.policy == "drop":
                    fates.add(Fate.DROP)
                    outcome = outcome._replace(ended=None)
                fates |= outcome.fates
                passed = either(outcome.accepted, outcome.ended)
                if leg.maybe:
                    passed = either(passed, passing)
                if passed is None:
                    break
                passing = passed
            else:
                fates.add(Fate.ACCEPT)
        for other in hooks.elsewhere(key) if Fate.ACCEPT in fates else ():
            fates |= _fates(self._book.possible[other].verdicts)
            if hooks.bases[other].policy == "drop":
                fates.add(Fate.DROP)
        return fates

    def _whole(self, key: Key, known: Known) -> _Outcome:
        """What becomes of a packet in a base chain; many logging rules ask the same."""
        if (key, known) not in self._wholes:
            self._wholes[key, known] = _Walk(self._book, self._wholes)._from(key, 0, 0, known, 0)
        return self._wholes[key, known]

    def _anything(self, key: Key, known: Known) -> _Outcome:
        """What can become of a packet in a chain, looking at no matches."""
        possible = self._book.possible[key]
        left = survivors(known, possible.changed)
        return _Outcome(_fates(possible.verdicts), left if "accept" in possible.verdicts else None, left)

    def _from(self, key: Key, number: int, position: int, known: Known, depth: int) -> _Outcome:
        """What becomes of a packet from a step of a rule of a chain on."""
        if depth > _DEPTH or self._steps > _STEPS:
            return self._anything(key, known)
        sum_of = _NOTHING
        for rule in self._book.chains[key].rules[number:]:
            self._steps += 1
            outcome, onward = self._rule(key, rule[position:], known, depth)
            if outcome is not _NOTHING:
                sum_of = _joined(sum_of, outcome)
            if onward is None:
                return sum_of
            known, position = onward, 0
        return _joined(sum_of, _Outcome(ended=known))

    def _rule(self, key: Key, rule: Rule, known: Known, depth: int) -> tuple[_Outcome, Known | None]:
        """What becomes of a packet in a rule, and what is known of those that the next rule gets (None: none)."""
        outcome, onward = _NOTHING, None
        for step in rule:
            if isinstance(step, Match):
                if step.steady and step in known:
                    continue
                if is_impossible(step, known):
                    return outcome, either(onward, known)
                onward = either(onward, known)
                if step.steady:
                    known |= {step}
            elif isinstance(step, Change):
                known = survivors(known, step.about)
            elif isinstance(step, Fork):
                for decision in step.decisions:
                    decided, passed = self._decide(key, decision, known, depth, certain=False)
                    outcome, onward = _joined(outcome, decided), either(onward, passed)
            elif isinstance(step, Decision):
                decided, passed = self._decide(key, step, known, depth, certain=onward is None)
                return _joined(outcome, decided), either(onward, passed)
        return outcome, either(onward, known)

    def _decide(
        self, key: Key, decision: Decision, known: Known, depth: int, *, certain: bool
    ) -> tuple[_Outcome, Known | None]:
        """What a decision means, and what is known of those that the next rule gets.

        ``certain``: all packets of which ``known`` holds come here, and not only some.
        """
        verdict = decision.verdict
        if verdict == "accept":
            return _Outcome(accepted=known), None
        if verdict == "return":
            return _Outcome(ended=known), None
        if verdict == "continue":
            return _Outcome(), known
        if verdict not in ("jump", "goto"):
            return _Outcome(frozenset((_FINAL.get(verdict, Fate.UNKNOWN),))), None
        target = key.beside(decision.target)
        if target not in self._book.chains:
            return _Outcome(frozenset((Fate.UNKNOWN,))), known
        # For some of the packets it is enough to know what can become of any, which is worked out once.
        within = self._from(target, 0, 0, known, depth + 1) if certain else self._anything(target, known)
        if verdict == "jump":
            return within._replace(ended=None), within.ended
        return within, None


def _joined(one: _Outcome, other: _Outcome) -> _Outcome:
    return _Outcome(one.fates | other.fates, either(one.accepted, other.accepted), either(one.ended, other.ended))


def _fates(verdicts: frozenset[str]) -> frozenset[Fate]:
    """Those of packets that do not go on."""
    return frozenset(_FINAL.get(verdict, Fate.UNKNOWN) for verdict in verdicts if verdict != "accept")


def _sum(fates: set[Fate]) -> Fate:
    if len(fates) == 1:
        return next(iter(fates))
    if fates and fates <= {Fate.DROP, Fate.REJECT}:
        return Fate.REJECT
    if fates & {Fate.DROP, Fate.REJECT}:
        return Fate.MIXED
    return Fate.UNKNOWN if Fate.UNKNOWN in fates or not fates else Fate.ACCEPT
