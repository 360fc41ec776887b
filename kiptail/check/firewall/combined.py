"""Chains of iptables that nft prints as well: each rule is taken from the tool that shows it better (pure)."""

from __future__ import annotations

from itertools import zip_longest

from kiptail.check.firewall.rulesets import OPAQUE, PROTOCOL, Chain, Chains, Decision, Fork, Key, Log, Match, Rule

__all__ = ["combined"]


def combined(by_iptables: Chains, by_nft: Chains) -> dict[Key, Chain]:
    """All chains of both.

    nft knows the extensions of iptables (xt) by name at most. ``iptables-save``, for its part, leaves out what it has
    no word for of a rule that another program put into its table (until 1.8.9: sets, and ``log`` before a verdict),
    and says nothing of that.
    """
    found = dict(by_iptables)
    for key, chain in by_nft.items():
        own = by_iptables.get(key)
        if own is None:
            found[key] = chain
            continue
        # iptables-save does not print priorities.
        base = chain.base or own.base
        if len(own.rules) != len(chain.rules):
            found[key] = Chain(own.tool, own.place, base, chain.rules)
        else:
            rules = [_better(mine, other) for mine, other in zip(own.rules, chain.rules, strict=True)]
            found[key] = Chain(own.tool, own.place, base, rules)
    return found


def _better(by_iptables: Rule, by_nft: Rule) -> Rule:
    if OPAQUE in by_nft:
        return by_iptables
    same = all(one == other for one, other in zip_longest(_acts(by_iptables), _acts(by_nft)))
    foreign = any(isinstance(step, Match) and ('"set"' in step.text or '"@' in step.text) for step in by_nft)
    # iptables writes a condition of nft's as one or more of its own, never as fewer.
    fewer = _conditions(by_iptables) < _conditions(by_nft)
    return by_nft if not same or foreign or fewer else by_iptables


def _acts(rule: Rule) -> list[Decision | Fork | tuple[str, int | None]]:
    acts = list[Decision | Fork | tuple[str, int | None]]()
    for step in rule:
        if isinstance(step, Log):
            acts.append((step.prefix, step.group))
        elif isinstance(step, Decision | Fork):
            acts.append(step)
    return acts


def _conditions(rule: Rule) -> int:
    """Without those on the protocol: nft takes it for granted, where it looks at what only one has."""
    return sum(isinstance(step, Match) and step.about != PROTOCOL for step in rule)
