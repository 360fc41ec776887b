"""Findings about prefixes and the rules that log with them (pure)."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from kiptail.checkfacts import Finding, HostFacts, Level
from kiptail.errors import one_line
from kiptail.firewall import Fate, LogRule
from kiptail.prefixes import Prefixes, PrefixRule, Verdict

__all__ = ["count_of", "prefix_findings", "where"]

#: So many prefixes that nobody configured have a line of their own.
_MOST_OTHERS = 5
_SHOWN_RULES = "`nft list ruleset | grep log` or `iptables-save | grep LOG`"


def prefix_findings(facts: HostFacts) -> Iterator[Finding]:
    """Configured prefixes, those of the rules, and those in the journal, compared."""
    rules = [rule for rule in facts.rules.rules if rule.group is None]
    configured = Prefixes(PrefixRule(text, Verdict(verdict)) for text, verdict in facts.prefixes)
    seen: dict[str, int] = {}
    others: dict[str, int] = {}
    for text, count in facts.journal.prefixes.items():
        match = configured.match(text)
        counts, name = (seen, match.text) if match else (others, text.strip())
        counts[name] = counts.get(name, 0) + count
    by_prefix: dict[str, list[LogRule]] = {}
    foreign: dict[str, list[LogRule]] = {}
    for rule in rules:
        match = configured.match(rule.prefix)
        if match:
            by_prefix.setdefault(match.text, []).append(rule)
        else:
            foreign.setdefault(rule.prefix.strip(), []).append(rule)

    yield from _refusals(facts)
    dropping = [name for name, own in foreign.items() if name and _drops(own)]
    candidates = list(dict.fromkeys([*dropping, *sorted(others, key=lambda name: -others[name])]))
    candidates = [name for name in candidates if name]
    if not facts.prefixes:
        yield _none_configured(facts, candidates)
    elif facts.rules.read and not facts.rules.refusals and not rules and not facts.journal.prefixes:
        yield _no_log_rule(facts)
    else:
        for text, verdict in facts.prefixes:
            own = by_prefix.get(text, [])
            yield _one(facts, text, verdict, rules=own, count=seen.get(text, 0), candidates=candidates)
        yield from _unconfigured(foreign, others)
    yield from _nflog(facts)


def _refusals(facts: HostFacts) -> Iterator[Finding]:
    if facts.rules.refusals:
        why = "; ".join(f"{tool}: {reason}" for tool, reason in facts.rules.refusals.items())
        remedy = f"run `kiptail check` as root, or look with {_SHOWN_RULES}"
        yield Finding("rules", Level.WARNING, f"not all rules of the firewall could be read ({why})", remedy)


def _no_log_rule(facts: HostFacts) -> Finding:
    return Finding(
        "rules",
        Level.PROBLEM,
        f"no LOG rule in {' and '.join(facts.rules.read)}: packets are dropped without a line in the kernel log",
        "log directly before the drop: `kiptail rules --for nftables` (or iptables, calico, ufw, firewalld) shows how",
    )


def _none_configured(facts: HostFacts, candidates: Sequence[str]) -> Finding:
    if candidates:
        names = ", ".join(_quoted(name) for name in candidates[:_MOST_OTHERS])
        config = f"prefix = [{', '.join(_toml(name) for name in candidates[:_MOST_OTHERS])}]"
        remedy = f"write into /etc/kiptail/kiptail.toml those that stand for drops: {config}"
        return Finding("prefixes", Level.PROBLEM, f"no prefix is configured; logged here: {names}", remedy)
    if facts.rules.read and not facts.rules.refusals:
        return _no_log_rule(facts)
    return Finding(
        "prefixes",
        Level.PROBLEM,
        "no prefix is configured, and the journal shows none of the last hour",
        f"find the LOG rules with {_SHOWN_RULES}; `kiptail rules` shows how to log",
    )


def _one(
    facts: HostFacts, text: str, verdict: str, *, rules: Sequence[LogRule], count: int, candidates: Sequence[str]
) -> Finding:
    name = _quoted(text)
    times = f"seen {_times(count, more=facts.journal.incomplete)} in the last hour"
    if not rules:
        if count:
            return Finding("prefixes", Level.OK, f"{name} {times}; no rule with it was found")
        if not facts.rules.read or facts.rules.refusals:
            remedy = f"if packets are dropped nevertheless, compare with {_SHOWN_RULES}"
            return Finding("prefixes", Level.WARNING, f"{name} {times}, and not all rules could be read", remedy)
        if candidates:
            instead = ", ".join(_quoted(name) for name in candidates[:_MOST_OTHERS])
            nearest = difflib.get_close_matches(text, candidates, n=1, cutoff=0.0)[0]
            return Finding(
                "prefixes",
                Level.PROBLEM,
                f"no LOG rule has the prefix {name}; logged here: {instead}",
                f"set --prefix {_quoted(nearest)}, or change the rule",
            )
        remedy = "set --prefix to what the rules have, or remove it"
        return Finding("prefixes", Level.PROBLEM, f"no LOG rule has the prefix {name}", remedy)
    place = where(rules)
    if verdict == "log":
        return Finding("prefixes", Level.OK, f"{name} {times}; counted, no Events (verdict log); {place}")
    lost = [rule for rule in rules if rule.fate is Fate.ACCEPT]
    if lost:
        return Finding(
            "prefixes",
            Level.PROBLEM,
            f"{name} is logged where no drop follows ({where(lost)}): Events would tell of drops that were none",
            'put the rule directly before the drop, or give the prefix the verdict "log" in kiptail.toml',
        )
    unsure = [rule for rule in rules if rule.fate in (Fate.MIXED, Fate.UNKNOWN)]
    if unsure:
        return Finding(
            "prefixes",
            Level.WARNING,
            f"{name} {times}; whether a drop follows hangs on further rules ({where(unsure)})",
            "see to it that the rule stands directly before the drop, with the same matches",
        )
    follows = "reject" if verdict == "reject" or all(r.fate is Fate.REJECT for r in rules) else "drop"
    return Finding("prefixes", Level.OK, f"{name} {times}; a {follows} follows ({place})")


def _unconfigured(foreign: dict[str, list[LogRule]], others: dict[str, int]) -> Iterator[Finding]:
    names = [name for name in dict.fromkeys([*foreign, *others]) if foreign.get(name) or others.get(name)]
    for name in names[:_MOST_OTHERS]:
        rules = foreign.get(name, [])
        count = _times(others.get(name, 0))
        if not name:
            text = f"a LOG rule without a prefix ({where(rules)})" if rules else f"lines without a prefix, seen {count}"
            yield Finding("prefixes", Level.OK, f"{text}: kiptail cannot tell such lines apart and leaves them out")
        elif _drops(rules):
            yield Finding(
                "prefixes",
                Level.WARNING,
                f"{_quoted(name)} is not configured, and a drop follows ({where(rules)}); seen {count} in an hour",
                f"if its drops are to be told, add --prefix {_quoted(name)}",
            )
        else:
            place = f" ({where(rules)})" if rules else ""
            text = f"{_quoted(name)} is logged as well{place}, seen {count} in the last hour; it is not configured"
            yield Finding("prefixes", Level.OK, text)
    if len(names) > _MOST_OTHERS:
        more = len(names) - _MOST_OTHERS
        yield Finding("prefixes", Level.OK, f"and {more} more prefixes that are not configured")


def _nflog(facts: HostFacts) -> Iterator[Finding]:
    rules = [rule for rule in facts.rules.rules if rule.group is not None]
    if rules:
        groups = ", ".join(str(group) for group in sorted({rule.group for rule in rules if rule.group is not None}))
        yield Finding(
            "rules",
            Level.WARNING,
            f"{count_of(rules)} to NFLOG group {groups} ({where(rules)}): such packets are not in the kernel log",
            "use LOG (nftables: log without group) where kiptail is to see them",
        )


def _drops(rules: Sequence[LogRule]) -> bool:
    return any(rule.fate in (Fate.DROP, Fate.REJECT, Fate.MIXED) for rule in rules)


def where(rules: Sequence[LogRule]) -> str:
    """Where these rules are, in a few words."""
    places = list(dict.fromkeys(f"{rule.tool} {one_line(rule.place, 80)}" for rule in rules))
    return ", ".join(places[:2]) + (f" and {len(places) - 2} more" if len(places) > 2 else "")


def count_of(rules: Sequence[LogRule]) -> str:
    """How many log, as the beginning of a sentence."""
    return "1 rule logs" if len(rules) == 1 else f"{len(rules)} rules log"


def _times(count: int, *, more: bool = False) -> str:
    least = "at least " if more else ""
    return f"{least}{count} time{'' if count == 1 else 's'}"


def _quoted(text: str) -> str:
    return f"'{one_line(text, 130)}'"


def _toml(text: str) -> str:
    return '"' + one_line(text, 130).replace("\\", "\\\\").replace('"', '\\"') + '"'
