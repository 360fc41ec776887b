"""Findings about configured prefixes and the rules that log with them (pure)."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence, Set
from typing import NamedTuple

from kiptail.check.facts import Finding, HostFacts, Level
from kiptail.check.findings.rules import (
    SHOWN_RULES,
    log_before_the_drop,
    no_log_rule,
    unread_rules,
)
from kiptail.check.findings.unconfigured import foreign_of, none_configured, unconfigured
from kiptail.check.findings.wording import in_the_last_hour, is_lost, listed, quoted, where
from kiptail.check.firewall.log_rules import Fate, LogRule
from kiptail.netfilter.patterns import escaped
from kiptail.netfilter.prefixes import Prefixes, PrefixMatch, Verdict

__all__ = ["prefix_findings"]


class _Read(NamedTuple):
    """A rule, and what a configured prefix or pattern reads in its text."""

    rule: LogRule
    said: PrefixMatch


def prefix_findings(facts: HostFacts) -> Iterator[Finding]:
    """Configured prefixes, those of the rules, and those in the journal, compared."""
    configured = Prefixes(facts.prefixes)
    groups = {nflog.group for nflog in facts.nflog if nflog.group is not None}
    # Those of NFLOG groups that are read have prefixes of their own, or none: only what is configured matters.
    rules = [
        rule
        for rule in facts.rules.rules
        if rule.group is None or (rule.group in groups and configured.match(rule.prefix))
    ]
    counts: dict[str, int] = {}
    others: dict[str, int] = {}
    for text, count in facts.journal.prefixes.items():
        match = configured.match(text)
        where_counted, name = (counts, match.prefix) if match else (others, text.strip())
        where_counted[name] = where_counted.get(name, 0) + count
    by_prefix: dict[str, list[_Read]] = {}
    unread: list[LogRule] = []
    for rule in rules:
        match = configured.match(rule.prefix)
        if match:
            by_prefix.setdefault(match.prefix, []).append(_Read(rule, match))
        else:
            unread.append(rule)
    foreign = foreign_of(facts, unread, others)

    yield from unread_rules(facts)
    if not facts.prefixes:
        # NFLOG rules may have none.
        if not facts.nflog:
            yield none_configured(facts, foreign)
    elif facts.rules.read and not facts.rules.refusals and not rules and not facts.journal.prefixes:
        yield no_log_rule(facts)
    else:
        of_profiles = {rule.text.strip() for profile in facts.profiles for rule in profile.prefixes}
        for name, prefix in configured.rules:
            if name in by_prefix:
                yield _one(facts, by_prefix[name], text=name, count=counts.get(name, 0))
            # A profile has all that its firewall may log with, whatever of it is in use here.
            elif name in counts or prefix.text.strip() not in of_profiles:
                yield _without_rule(facts, name, counts.get(name, 0), foreign.candidates)
        texts = {*facts.journal.prefixes, *(rule.prefix for rule in rules)}
        yield from _unused_profiles(facts, texts, all_unused=not by_prefix and not counts)
        yield from unconfigured(facts, foreign)


def _without_rule(facts: HostFacts, text: str, count: int, candidates: Sequence[str]) -> Finding:
    """A configured prefix that no rule logs with."""
    name = quoted(text)
    times = in_the_last_hour(facts, count)
    if count:
        return Finding("prefixes", Level.OK, f"{name} {times}; no rule with it was found")
    if not facts.rules.read or facts.rules.refusals:
        remedy = f"if packets are dropped nevertheless, compare with {SHOWN_RULES}"
        return Finding("prefixes", Level.WARNING, f"{name} {times}, and not all rules could be read", remedy)
    if candidates:
        nearest = difflib.get_close_matches(text, candidates, n=1, cutoff=0.0)[0]
        return Finding(
            "prefixes",
            Level.PROBLEM,
            f"no LOG rule has the prefix {name}; logged here: {listed(candidates)}",
            f"set --prefix {quoted(escaped(nearest))}, or change the rule",
        )
    logs = any(rule.group is None for rule in facts.rules.rules)
    remedy = "set --prefix to what the rules have, or remove it" if logs else log_before_the_drop()
    return Finding("prefixes", Level.PROBLEM, f"no LOG rule has the prefix {name}", remedy)


def _unused_profiles(facts: HostFacts, texts: Set[str], *, all_unused: bool) -> Iterator[Finding]:
    """Profiles of which nothing is logged here; ``texts`` are the prefixes of the journal and of the rules.

    ``all_unused``: nor is anything else that is configured, so that there will be no Events.
    """
    complete = facts.rules.read and not facts.rules.refusals
    for profile in facts.profiles:
        if not any(map(Prefixes(profile.prefixes).match, texts)):
            rules = "no rule logs one" if complete else "not all rules could be read"
            yield Finding(
                "prefixes",
                Level.PROBLEM if complete and all_unused else Level.WARNING,
                f"no prefix of the profile {profile.name} was seen in the last hour, and {rules}",
                f"compare `kiptail profiles {profile.name}` with {SHOWN_RULES}",
            )


def _one(facts: HostFacts, read: Sequence[_Read], *, text: str, count: int) -> Finding:
    """A configured prefix or pattern with the rules that log with it, and what the text of each says."""
    name, times = quoted(text), in_the_last_hour(facts, count)
    unclear = [one for one in read if one.said.problem]
    if unclear:
        return Finding(
            "prefixes",
            Level.WARNING,
            f"{_shown(text, unclear)} ({_places(unclear)}) is not counted: {unclear[0].said.problem}",
            'say what its words mean: verdicts = { D = "drop", … } in a [[prefixes]] table',
        )
    losses = [one for one in read if one.said.verdict.is_loss]
    lost = [one for one in losses if one.rule.fate is Fate.ACCEPT]
    if lost:
        return Finding(
            "prefixes",
            Level.PROBLEM,
            f"{_shown(text, lost)} is logged where no drop follows ({_places(lost)}):"
            " Events would report drops that did not happen",
            f"put the rule directly before the drop, or {_other_verdict(text, lost, 'log')}",
        )
    dropped = [one for one in read if one.said.verdict is Verdict.ACCEPT and is_lost(one.rule)]
    if dropped:
        return Finding(
            "prefixes",
            Level.WARNING,
            f"{_shown(text, dropped)} stands for packets that pass, but a drop follows ({_places(dropped)}):"
            " no Event reports it",
            _other_verdict(text, dropped, "drop"),
        )
    if not losses:
        verdict = " and ".join(dict.fromkeys(one.said.verdict for one in read))
        counted = f"counted, no Events (verdict {verdict})"
        return Finding("prefixes", Level.OK, f"{name} {times}; {counted}; {_places(read)}")
    unsure = [one for one in losses if not is_lost(one.rule)]
    if unsure:
        return Finding(
            "prefixes",
            Level.WARNING,
            f"{name} {times}; whether a drop follows depends on further rules ({_places(unsure)})",
            "put the rule directly before the drop, with the same matches",
        )
    rejected = all(one.said.verdict is Verdict.REJECT or one.rule.fate is Fate.REJECT for one in losses)
    follows = "reject" if rejected else "drop"
    return Finding("prefixes", Level.OK, f"{name} {times}; a {follows} follows ({_places(losses)})")


def _places(read: Sequence[_Read]) -> str:
    return where([one.rule for one in read])


def _shown(text: str, read: Sequence[_Read]) -> str:
    """What is configured, and of a pattern one of the texts that it reads."""
    own = read[0].rule.prefix.strip()
    return quoted(text) if own == text else f"{quoted(text)}, which reads {quoted(own)},"


def _other_verdict(text: str, read: Sequence[_Read], verdict: str) -> str:
    own = read[0].rule.prefix.strip()
    if own == text:
        return f'give the prefix the verdict "{verdict}" in kiptail.toml'
    # A text counts more than a pattern that reads it.
    return f'configure {quoted(escaped(own))} as a prefix of its own, with the verdict "{verdict}", in kiptail.toml'
