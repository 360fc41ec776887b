"""Findings about prefixes and the rules that log with them (pure)."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence, Set

from kiptail.check.facts import NEEDS_ROOT, NOT_INSTALLED, Finding, HostFacts, Level
from kiptail.check.firewall.log_rules import Fate, LogRule
from kiptail.netfilter.prefixes import Prefixes, Verdict
from kiptail.text import one_line, plural

__all__ = ["SHOW_RULES", "count_of", "prefix_findings", "where"]

SHOW_RULES = "`kiptail rules --for nftables` (or iptables, calico, ufw, firewalld)"

#: The most prefixes that nobody configured that have a line of their own.
_MOST_OTHERS = 5
#: The longest line of configuration that is proposed, in characters; a finding's text has room for 400.
_LINE_LIMIT = 300
_SHOWN_RULES = "`nft list ruleset | grep log` or `iptables-save | grep LOG`"


def prefix_findings(facts: HostFacts) -> Iterator[Finding]:
    """Configured prefixes, those of the rules, and those in the journal, compared."""
    rules = [rule for rule in facts.rules.rules if rule.group is None]
    configured = Prefixes(facts.prefixes)
    seen: dict[str, int] = {}
    others: dict[str, int] = {}
    for text, count in facts.journal.prefixes.items():
        match = configured.match(text)
        counts, name = (seen, match.prefix) if match else (others, text.strip())
        counts[name] = counts.get(name, 0) + count
    by_prefix: dict[str, list[LogRule]] = {}
    foreign: dict[str, list[LogRule]] = {}
    for rule in rules:
        match = configured.match(rule.prefix)
        if match:
            by_prefix.setdefault(match.prefix, []).append(rule)
        else:
            foreign.setdefault(rule.prefix.strip(), []).append(rule)

    yield from _refusals(facts)
    # Nothing but rules: what was logged once may come from a rule that is gone, or from another machine's journal.
    dropping = [name for name, own in foreign.items() if _drops(own)]
    unsure = [name for name, own in foreign.items() if any(rule.fate is Fate.UNKNOWN for rule in own)]
    candidates = [name for name in dict.fromkeys([*dropping, *unsure]) if name]
    if not facts.prefixes:
        yield _none_configured(facts, candidates, foreign, others)
    elif facts.rules.read and not facts.rules.refusals and not rules and not facts.journal.prefixes:
        yield _no_log_rule(facts)
    else:
        of_profiles = {rule.text.strip() for profile in facts.profiles for rule in profile.prefixes}
        for name, prefix in configured.rules:
            if prefix.text.strip() in of_profiles and name not in by_prefix and name not in seen:
                # A profile has all that its firewall may log with, whatever of it is in use here.
                continue
            own = by_prefix.get(name, [])
            # Where the text says the verdict, it differs from rule to rule.
            verdicts = [match.verdict for rule in own if (match := configured.match(rule.prefix))] or [prefix.verdict]
            losing = [rule for rule, verdict in zip(own, verdicts, strict=False) if verdict.is_loss]
            verdict = next((verdict for verdict in verdicts if verdict.is_loss), verdicts[0])
            yield _one(facts, name, verdict, rules=losing or own, count=seen.get(name, 0), candidates=candidates)
        yield from _unused_profiles(facts, {*facts.journal.prefixes, *(rule.prefix for rule in rules)})
        yield from _unconfigured(facts, foreign, others)
    yield from _nflog(facts)


def _unused_profiles(facts: HostFacts, texts: Set[str]) -> Iterator[Finding]:
    """Profiles of which nothing is logged here; ``texts`` are the prefixes of the journal and of the rules."""
    complete = facts.rules.read and not facts.rules.refusals
    for profile in facts.profiles:
        prefixes = Prefixes(profile.prefixes)
        if not any(map(prefixes.match, texts)):
            rules = "no rule logs one" if complete else "not all rules could be read"
            yield Finding(
                "prefixes",
                Level.PROBLEM if complete else Level.WARNING,
                f"no prefix of the profile {profile.name} was seen in the last hour, and {rules}",
                f"compare `kiptail profiles {profile.name}` with {_SHOWN_RULES}",
            )


def _refusals(facts: HostFacts) -> Iterator[Finding]:
    if facts.rules.refusals:
        why = "; ".join(f"{tool}: {reason}" for tool, reason in facts.rules.refusals.items())
        text = f"not all rules of the firewall could be read ({why})"
        yield Finding("rules", Level.WARNING, text, _read_rules(facts))


def _read_rules(facts: HostFacts) -> str:
    """What to do where some of the rules could not be read."""
    reasons = set(facts.rules.refusals.values())
    if NEEDS_ROOT in reasons:
        return f"run `kiptail check` as root, or look with {_SHOWN_RULES}"
    if NOT_INSTALLED in reasons:
        return "install nftables or iptables to have the rules read, or look at the firewall's own configuration"
    return f"look with {_SHOWN_RULES}"


def _log_before_the_drop() -> str:
    return f"log directly before the drop: {SHOW_RULES} shows how"


def _no_log_rule(facts: HostFacts) -> Finding:
    return Finding(
        "rules",
        Level.PROBLEM,
        f"no LOG rule in {' and '.join(facts.rules.read)}: packets are dropped without a line in the kernel log",
        _log_before_the_drop(),
    )


def _none_configured(
    facts: HostFacts, candidates: Sequence[str], foreign: Mapping[str, Sequence[LogRule]], others: Mapping[str, int]
) -> Finding:
    """``candidates`` are prefixes of rules that may drop, ``foreign`` those of all rules, ``others`` the journal's."""
    text = "no prefix is configured"
    unruled = [name for name in sorted(others, key=lambda name: -others[name]) if name and name not in foreign]
    passing = [name for name in foreign if name and name not in candidates]
    mentioned = f"; {_list(unruled)} in the journal, but in no rule that was found" if unruled else ""
    if candidates:
        text += f"; logged here: {_list(candidates)}{mentioned}"
        remedy = f"write into /etc/kiptail/kiptail.toml those that stand for drops: {_configuration(candidates)}"
        return Finding("prefixes", Level.PROBLEM, text, remedy)
    remedy = _log_before_the_drop() if facts.rules.read and not facts.rules.refusals else _read_rules(facts)
    if passing:
        text += f"; {_list(passing)} logged where no drop follows"
    elif "" in foreign:
        text += f"; logged without a prefix ({where(foreign[''])}), so kiptail cannot know what those lines stand for"
    elif not unruled:
        if facts.rules.read and not facts.rules.refusals:
            return _no_log_rule(facts)
        text += ", and the journal shows none of the last hour"
    return Finding("prefixes", Level.PROBLEM, text + mentioned, remedy)


def _list(names: Sequence[str]) -> str:
    more = len(names) - _MOST_OTHERS
    return ", ".join(map(_quoted, names[:_MOST_OTHERS])) + (f" and {more} more" if more > 0 else "")


def _configuration(names: Sequence[str]) -> str:
    """The line for kiptail.toml: as many as fit, for half of one would be another's."""
    line, taken = "", 0
    for number in range(1, min(len(names), _MOST_OTHERS) + 1):
        fitting = f"prefix = [{', '.join(_toml(name) for name in names[:number])}]"
        if number > 1 and len(fitting) > _LINE_LIMIT:
            break
        line, taken = fitting, number
    return line + (f" and {len(names) - taken} more" if taken < len(names) else "")


def _one(
    facts: HostFacts, text: str, verdict: Verdict, *, rules: Sequence[LogRule], count: int, candidates: Sequence[str]
) -> Finding:
    name = _quoted(text)
    times = f"{_seen(count, more=facts.journal.incomplete)} in the last hour"
    if not rules:
        if count:
            return Finding("prefixes", Level.OK, f"{name} {times}; no rule with it was found")
        if not facts.rules.read or facts.rules.refusals:
            remedy = f"if packets are dropped nevertheless, compare with {_SHOWN_RULES}"
            return Finding("prefixes", Level.WARNING, f"{name} {times}, and not all rules could be read", remedy)
        if candidates:
            nearest = difflib.get_close_matches(text, candidates, n=1, cutoff=0.0)[0]
            return Finding(
                "prefixes",
                Level.PROBLEM,
                f"no LOG rule has the prefix {name}; logged here: {_list(candidates)}",
                f"set --prefix {_quoted(nearest)}, or change the rule",
            )
        logs = any(rule.group is None for rule in facts.rules.rules)
        remedy = "set --prefix to what the rules have, or remove it" if logs else _log_before_the_drop()
        return Finding("prefixes", Level.PROBLEM, f"no LOG rule has the prefix {name}", remedy)
    place = where(rules)
    if not verdict.is_loss:
        return Finding("prefixes", Level.OK, f"{name} {times}; counted, no Events (verdict {verdict}); {place}")
    lost = [rule for rule in rules if rule.fate is Fate.ACCEPT]
    if lost:
        return Finding(
            "prefixes",
            Level.PROBLEM,
            f"{name} is logged where no drop follows ({where(lost)}): Events would report drops that did not happen",
            'put the rule directly before the drop, or give the prefix the verdict "log" in kiptail.toml',
        )
    unsure = [rule for rule in rules if rule.fate in (Fate.MIXED, Fate.UNKNOWN)]
    if unsure:
        return Finding(
            "prefixes",
            Level.WARNING,
            f"{name} {times}; whether a drop follows depends on further rules ({where(unsure)})",
            "put the rule directly before the drop, with the same matches",
        )
    follows = "reject" if verdict == "reject" or all(r.fate is Fate.REJECT for r in rules) else "drop"
    return Finding("prefixes", Level.OK, f"{name} {times}; a {follows} follows ({place})")


def _unconfigured(facts: HostFacts, foreign: dict[str, list[LogRule]], others: dict[str, int]) -> Iterator[Finding]:
    names = [name for name in dict.fromkeys([*foreign, *others]) if foreign.get(name) or others.get(name)]
    for name in names[:_MOST_OTHERS]:
        rules = foreign.get(name, [])
        seen = f"{_seen(others.get(name, 0), more=facts.journal.incomplete)} in the last hour"
        if not name:
            text = f"a LOG rule without a prefix ({where(rules)})" if rules else f"lines without a prefix, {seen}"
            yield Finding("prefixes", Level.OK, f"{text}: kiptail cannot distinguish such lines and ignores them")
        elif _drops(rules):
            follows = "follows" if any(rule.fate in (Fate.DROP, Fate.REJECT) for rule in rules) else "may follow"
            yield Finding(
                "prefixes",
                Level.WARNING,
                f"{_quoted(name)} is not configured, and a drop {follows} ({where(rules)}); {seen}",
                f"if its drops are to be reported, add --prefix {_quoted(name)}",
            )
        elif rules:
            text = f"{_quoted(name)} is logged as well ({where(rules)}), {seen}; it is not configured"
            yield Finding("prefixes", Level.OK, text)
        else:
            text = f"{_quoted(name)} was {seen}; it is not configured, and no rule with it was found"
            yield Finding("prefixes", Level.OK, text)
    if len(names) > _MOST_OTHERS:
        more = len(names) - _MOST_OTHERS
        verb = "is" if more == 1 else "are"
        yield Finding(
            "prefixes", Level.OK, f"and {plural(more, 'more prefix', 'more prefixes')} that {verb} not configured"
        )


def _nflog(facts: HostFacts) -> Iterator[Finding]:
    rules = [rule for rule in facts.rules.rules if rule.group is not None]
    if rules:
        numbers = sorted({rule.group for rule in rules if rule.group is not None})
        groups = f"group{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}"
        yield Finding(
            "rules",
            Level.WARNING,
            f"{count_of(rules)} to NFLOG {groups} ({where(rules)}): such packets are not in the kernel log",
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


def _seen(count: int, *, more: bool = False) -> str:
    if not count:
        return "not seen"
    return f"seen at least {plural(count, 'time')}" if more else f"seen {plural(count, 'time')}"


def _quoted(text: str) -> str:
    return f"'{one_line(text, 130)}'"


def _toml(text: str) -> str:
    """``text`` as a TOML string that stays what it is on one line of a terminal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    # Blanks in a row would be made one.
    escaped = escaped.replace("  ", " \\u0020")
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
