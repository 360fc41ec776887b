"""Findings about prefixes that are logged and not configured, and what to write where none is (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from kiptail.check.facts import Finding, HostFacts, Level
from kiptail.check.findings.proposal import propose
from kiptail.check.findings.rules import how_to_read, log_before_the_drop, no_log_rule
from kiptail.check.findings.wording import in_the_last_hour, is_lost, listed, quoted, toml, where
from kiptail.check.firewall.log_rules import Fate, LogRule
from kiptail.netfilter.patterns import escaped
from kiptail.text import plural

__all__ = ["Foreign", "foreign_of", "none_configured", "unconfigured"]

#: The most prefixes that have a line, or a place in one, of their own.
_MOST_OTHERS = 5
#: The longest line of configuration that is proposed, in characters, so that all of the advice fits.
_LINE_LIMIT = 270


class Foreign(NamedTuple):
    """Prefixes that are not configured."""

    #: The rules that log with each.
    rules: Mapping[str, Sequence[LogRule]]
    #: Lines in the journal.
    counts: Mapping[str, int]
    #: Prefixes that may stand for drops, those of which it is certain first.
    candidates: Sequence[str]
    #: The profile that reads a prefix, where one fits this machine's rules.
    profiles: Mapping[str, str]


def foreign_of(facts: HostFacts, rules: Sequence[LogRule], counts: Mapping[str, int]) -> Foreign:
    """What is not configured, and what of it could be."""
    chosen = {profile.name for profile in facts.profiles}
    free = {name: prefixes for name, prefixes in facts.known_profiles.items() if name not in chosen}
    proposal = propose(rules, counts, free)
    profiles = {logged.prefix: name for name, covered in proposal.profiles.items() for logged in covered}
    by_prefix: dict[str, list[LogRule]] = {}
    for rule in rules:
        by_prefix.setdefault(rule.prefix.strip(), []).append(rule)
    # Nothing but rules: what was logged once may come from a rule that is gone, or from another machine's journal.
    dropping = [name for name, own in by_prefix.items() if _drops(own)]
    unsure = [name for name, own in by_prefix.items() if any(rule.fate is Fate.UNKNOWN for rule in own)]
    candidates = [name for name in dict.fromkeys([*dropping, *unsure]) if name]
    return Foreign(by_prefix, counts, candidates, profiles)


def none_configured(facts: HostFacts, foreign: Foreign) -> Finding:
    text = "no prefix is configured"
    others = sorted(foreign.counts, key=lambda name: -foreign.counts[name])
    unruled = [name for name in others if name and name not in foreign.rules]
    passing = [name for name in foreign.rules if name and name not in foreign.candidates]
    mentioned = f"; {listed(unruled)} in the journal, but in no rule that was found" if unruled else ""
    if foreign.candidates:
        text += f"; logged here: {listed(foreign.candidates)}{mentioned}"
        remedy = (
            "run `kiptail setup --write`, or write into /etc/kiptail/kiptail.toml those that stand for drops:"
            f" {_configuration(foreign)}"
        )
        return Finding("prefixes", Level.PROBLEM, text, remedy)
    remedy = log_before_the_drop() if facts.rules.read and not facts.rules.refusals else how_to_read(facts)
    if passing:
        text += f"; {listed(passing)} logged where no drop follows"
    elif "" in foreign.rules:
        place = where(foreign.rules[""])
        text += f"; logged without a prefix ({place}), so kiptail cannot know what those lines stand for"
    elif not unruled:
        if facts.rules.read and not facts.rules.refusals:
            return no_log_rule(facts)
        text += ", and the journal shows none of the last hour"
    return Finding("prefixes", Level.PROBLEM, text + mentioned, remedy)


def _configuration(foreign: Foreign) -> str:
    """The lines for kiptail.toml: as many prefixes as fit, for half of one would be another's."""
    profiles = dict.fromkeys(foreign.profiles[name] for name in foreign.candidates if name in foreign.profiles)
    names = [name for name in foreign.candidates if name not in foreign.profiles]
    begin = f"profile = [{', '.join(map(toml, profiles))}]" if profiles else ""
    line, taken = begin, 0
    for number in range(1, min(len(names), _MOST_OTHERS) + 1):
        fitting = f"prefix = [{', '.join(toml(escaped(name)) for name in names[:number])}]"
        fitting = f"{begin} and {fitting}" if begin else fitting
        if (number > 1 or begin) and len(fitting) > _LINE_LIMIT:
            break
        line, taken = fitting, number
    return line + (f" and {len(names) - taken} more" if taken < len(names) else "")


def unconfigured(facts: HostFacts, foreign: Foreign) -> Iterator[Finding]:
    both = dict.fromkeys([*foreign.rules, *foreign.counts])
    names = [name for name in both if foreign.rules.get(name) or foreign.counts.get(name)]
    for name in names[:_MOST_OTHERS]:
        rules = foreign.rules.get(name, [])
        times = in_the_last_hour(facts, foreign.counts.get(name, 0))
        if not name:
            text = f"a LOG rule without a prefix ({where(rules)})" if rules else f"lines without a prefix, {times}"
            yield Finding("prefixes", Level.OK, f"{text}: kiptail cannot distinguish such lines and ignores them")
        elif _drops(rules):
            follows = "follows" if any(is_lost(rule) for rule in rules) else "may follow"
            profile = foreign.profiles.get(name)
            wanted = f"profile = [{toml(profile)}]" if profile else f"--prefix {quoted(escaped(name))}"
            yield Finding(
                "prefixes",
                Level.WARNING,
                f"{quoted(name)} is not configured, and a drop {follows} ({where(rules)}); {times}",
                f"if its drops are to be reported, add {wanted}",
            )
        elif rules:
            text = f"{quoted(name)} is logged as well ({where(rules)}), {times}; it is not configured"
            yield Finding("prefixes", Level.OK, text)
        else:
            text = f"{quoted(name)} was {times}; it is not configured, and no rule with it was found"
            yield Finding("prefixes", Level.OK, text)
    if len(names) > _MOST_OTHERS:
        more = len(names) - _MOST_OTHERS
        verb = "is" if more == 1 else "are"
        yield Finding(
            "prefixes", Level.OK, f"and {plural(more, 'more prefix', 'more prefixes')} that {verb} not configured"
        )


def _drops(rules: Sequence[LogRule]) -> bool:
    return any(rule.fate in (Fate.DROP, Fate.REJECT, Fate.MIXED) for rule in rules)
