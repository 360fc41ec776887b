"""Which NFLOG groups a machine's rules justify reading, and what their packets without a prefix stand for (pure).

Configured prefixes count in every log that is read, so a group is proposed only if that takes nothing from what the
kernel log justifies by itself, and if its rules are what would be said of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from kiptail.check.findings.proposal import Profiles, Proposal, certain_verdict, propose_texts
from kiptail.check.findings.wording import quoted, where
from kiptail.check.firewall.log_rules import LogRule
from kiptail.netfilter.nflog import STACKS, NflogSource, unit_of_group
from kiptail.netfilter.patterns import escaped
from kiptail.netfilter.prefixes import Prefixes, PrefixRule, Verdict

__all__ = ["LoggedGroup", "propose_groups", "stack_of"]

#: Most groups that are looked at.
MOST_GROUPS = 20
#: What rules of those that use NFLOG have in their texts, and in the names of their chains; the first one counts. k3s
#: has the chains of kube-router, which it is made from.
_TEXTS = {"DROP by policy ": "k3s"}
_CHAINS = {"KUBE-POD-FW-": "kube-router", "WEAVE-NPC": "weave"}


class LoggedGroup(NamedTuple):
    """An NFLOG group that rules log to."""

    group: int
    rules: tuple[LogRule, ...]
    #: It is to be read: by a unit, as a setting of its own or as a table.
    is_read: bool = False
    #: What uses it, if that says what packets without a prefix stand for; "" where :attr:`verdict` has to.
    profile: str = ""
    #: What becomes of each packet without a prefix; None where that is not certain, or where there is none.
    verdict: Verdict | None = None
    #: Those are logged at a limited rate.
    limited: bool = False
    #: Why it is not read, or why its packets without a prefix do not count; "" where there is no more to say.
    reason: str = ""

    @property
    def has_table(self) -> bool:
        """What packets without a prefix stand for is to be said."""
        return self.is_read and self.verdict is not None and self.verdict.is_loss

    @property
    def is_passing(self) -> bool:
        """It is certain that nothing is lost where it is logged without a prefix, so there are no Events."""
        return not self.is_read and self.verdict is Verdict.ACCEPT and not self.reason

    def without_prefix(self) -> tuple[LogRule, ...]:
        """The rules whose packets nothing but the group distinguishes."""
        return tuple(rule for rule in self.rules if not rule.prefix.strip())


def stack_of(rules: Iterable[LogRule]) -> str:
    """What uses the group of these rules, where that shows: the name of a stack of :data:`STACKS`, or ""."""
    texts = [(rule.place, rule.prefix) for rule in rules]
    for begin, name in _TEXTS.items():
        if any(prefix.startswith(begin) for _, prefix in texts):
            return name
    for mark, name in _CHAINS.items():
        if any(mark in place for place, _ in texts):
            return name
    return ""


def propose_groups(
    rules: Sequence[LogRule],
    counts: Mapping[str, int],
    profiles: Profiles,
    listeners: Mapping[int, str],
) -> tuple[Proposal, tuple[LoggedGroup, ...]]:
    """What ``rules`` justify, of the kernel log and of NFLOG groups: the latter by their number.

    ``counts``: lines of the kernel log by the text before their ``IN=``; ``listeners``: the program that listens to a
    group, if that is not the unit which is to be proposed for it.
    """
    texts = [rule for rule in rules if rule.group is None]
    proposal = propose_texts(texts, counts, profiles)
    by_group: dict[int, list[LogRule]] = {}
    for rule in rules:
        if rule.group is not None:
            by_group.setdefault(rule.group, []).append(rule)
    groups: list[LoggedGroup] = []
    for number in sorted(by_group):
        if len(groups) >= MOST_GROUPS:
            reason = f"it is beyond the first {MOST_GROUPS} groups, which alone are looked at"
            groups.append(LoggedGroup(number, tuple(by_group[number]), reason=reason))
            continue
        if listener := listeners.get(number, ""):
            reason = f"{quoted(listener)} listens to it, and a group has one listener"
            groups.append(LoggedGroup(number, tuple(by_group[number]), reason=reason))
            continue
        group = _judged(number, tuple(by_group[number]))
        # What its stack has a prefix for is that one's alone.
        own = Prefixes(_stack_rules(group))
        more = [rule for rule in group.rules if rule.prefix.strip() and not own.match(rule.prefix)]
        with_it = propose_texts([*texts, *more], counts, profiles)
        group = _decided(group, proposal, with_it, {rule.prefix.strip() for rule in more})
        if group.is_read:
            # What is proposed for this one counts in those before as well.
            read = [*(other for other in groups if other.is_read), group]
            misread = next(filter(None, (_misread(each, with_it, profiles) for each in read)), "")
            group = group._replace(is_read=not misread, reason=misread or group.reason)
        if group.is_read:
            texts, proposal = [*texts, *more], with_it
        groups.append(group)
    return proposal, tuple(groups)


def _judged(number: int, rules: tuple[LogRule, ...]) -> LoggedGroup:
    """The group by itself: what its packets without a prefix stand for."""
    group = LoggedGroup(number, rules)
    empty = group.without_prefix()
    if not empty:
        return group
    verdict, reason = certain_verdict(empty)
    group = group._replace(verdict=verdict, reason=reason, limited=any(rule.limited for rule in empty))
    name = stack_of(rules)
    stack = STACKS.get(name)
    # What it says has to be what the rules do: a reject is none of a drop, and a count that is exact is no lower bound.
    if stack is not None and stack.verdict is verdict and (group.limited or not stack.limited):
        return group._replace(profile=name)
    return group


def _decided(group: LoggedGroup, before: Proposal, with_it: Proposal, texts: set[str]) -> LoggedGroup:
    """Whether it is worth reading, with the prefixes that are proposed ``with_it`` or were ``before``."""
    gone = sorted(_lost(before) - _lost(with_it))
    if gone:
        return group._replace(reason=f"it has {quoted(gone[0])} too, and no drop is certain there", profile="")
    if not (group.verdict is not None and group.verdict.is_loss) and not texts & _lost(with_it):
        return group._replace(reason=group.reason or ("" if group.verdict else _no_loss(group)))
    return group._replace(is_read=True)


def _lost(proposal: Proposal) -> set[str]:
    """The texts that are proposed as those of lost packets."""
    covered = [one for of_profile in proposal.profiles.values() for one in of_profile if one.is_loss]
    return {one.prefix for one in (*proposal.prefixes, *covered)}


def _no_loss(group: LoggedGroup) -> str:
    """Why a group of which all rules have a prefix is not read."""
    return f"after none of its prefixes it is certain that a drop follows ({where(group.rules)})"


def _misread(group: LoggedGroup, proposal: Proposal, profiles: Profiles) -> str:
    """Why its lines would not be read as what its rules do; "" when they are."""
    rules = [PrefixRule(escaped(one.prefix), one.verdict or Verdict.LOG) for one in proposal.prefixes]
    rules += [rule for name in proposal.profiles for rule in profiles[name]]
    source = NflogSource(unit_of_group(group.group), "-", rules=_stack_rules(group), verdict=group.verdict)
    try:
        prefixes = source.prefixes(rules)
    except ValueError as error:
        return f"the prefixes that are proposed do not go with it: {error}"
    for text in {rule.prefix.strip() for rule in group.rules} - {""}:
        said = prefixes.match(text)
        verdict, reason = certain_verdict([rule for rule in group.rules if rule.prefix.strip() == text])
        if said is not None and said.verdict.is_loss and not (verdict is not None and verdict.is_loss):
            loss = f"{quoted(text)} of group {group.group} would count as a {said.verdict}"
            return f"{loss}: {reason or 'what is logged passes'}"
    return ""


def _stack_rules(group: LoggedGroup) -> tuple[PrefixRule, ...]:
    return STACKS[group.profile].rules if group.profile else ()
