"""What is known of a packet: conditions that it fulfils (pure)."""

from __future__ import annotations

from kiptail.check.firewall.rulesets import Change, Match, Rule

__all__ = ["Known", "either", "is_impossible", "known_at", "survivors"]

Known = frozenset[Match]


def survivors(known: Known, changed: frozenset[str]) -> Known:
    """What is still known of a packet when things that matches look at were changed."""
    if not changed:
        return known
    return frozenset(match for match in known if not match.about & changed)


def known_at(rule: Rule, position: int) -> Known:
    """What is known of a packet that has come to a step of a rule."""
    known = Known()
    for step in rule[:position]:
        if isinstance(step, Match) and step.steady:
            known |= {step}
        elif isinstance(step, Change):
            known = survivors(known, step.about)
    return known


def is_impossible(match: Match, known: Known) -> bool:
    """Whether no packet of which this is known can fulfil a condition."""
    if not match.steady:
        return False
    for one in known:
        if one.text == match.text:
            if one.negated != match.negated:
                return True
        elif match.point and one.point == match.point:
            return True
    return False


def either(one: Known | None, other: Known | None) -> Known | None:
    """What is known of packets of two kinds; None: there are none of that kind."""
    if one is None or other is None:
        return one if other is None else other
    return one & other
