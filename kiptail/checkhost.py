"""Findings about this host (pure): journal, prefixes, firewall rules, limits, state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kiptail.checkfacts import Finding, HostFacts, JournalFacts, Level, StateFacts, ago
from kiptail.errors import one_line
from kiptail.firewall import Fate, LogRule
from kiptail.prefixes import Prefixes, PrefixRule, Verdict

__all__ = ["host_findings"]

#: Less free space than this is worth a word, and than that the state cannot be kept (in bytes).
_LITTLE_ROOM = 64 << 20
_NO_ROOM = 1 << 20
#: So many prefixes that nobody configured have a line of their own.
_MOST_OTHERS = 5
#: The kernel's level of a LOG rule's line unless the rule says otherwise, and the names journald has for less.
_LOG_LEVEL = 4
_STRICTER = ("emerg", "alert", "crit", "err", "0", "1", "2", "3")
_SHOWN_RULES = "`nft list ruleset | grep log` or `iptables-save | grep LOG`"


def host_findings(facts: HostFacts, *, now: float) -> list[Finding]:
    """One line each. ``now`` is in seconds since the epoch."""
    findings = [_version(facts), *_journal(facts.journal, now)]
    findings += _prefixes(facts)
    findings += _limits(facts)
    findings.append(_all_netns(facts.all_netns))
    findings.append(_state(facts.state))
    return findings


def _version(facts: HostFacts) -> Finding:
    return Finding("version", Level.OK, ", ".join(f"{name} {version}" for name, version in facts.versions.items()))


# -- journal ----------------------------------------------------------------------------------------------------


def _journal(journal: JournalFacts, now: float) -> Iterator[Finding]:
    if journal.refusal:
        # Errors of the journal end with the remedy, where it is a matter of rights.
        text, colon, remedy = journal.refusal.rpartition(": ")
        if not colon or "systemd-journal" not in remedy:
            text, remedy = journal.refusal, "see whether journald writes there; --journal-directory names another place"
        yield Finding("journal", Level.PROBLEM, text, remedy)
        return
    settings = journal.settings
    if journal.last_kernel_at is None:
        if settings.get("ReadKMsg", "yes").lower() in ("no", "false", "0", "off"):
            remedy = "set ReadKMsg=yes in /etc/systemd/journald.conf and restart systemd-journald"
        else:
            remedy = "read the host's journal: in a container, mount it and name it with --journal-directory"
        yield Finding("journal", Level.PROBLEM, f"{journal.source} holds no kernel messages", remedy)
    elif settings.get("MaxLevelStore", "debug").lower() in _STRICTER:
        yield Finding(
            "journal",
            Level.PROBLEM,
            f"journald stores only level {one_line(settings['MaxLevelStore'], 20)} and above, LOG rules write warnings",
            "set MaxLevelStore=debug in /etc/systemd/journald.conf and restart systemd-journald",
        )
    else:
        last = ago(journal.last_kernel_at, now)
        yield Finding("journal", Level.OK, f"{journal.source} is readable; its last kernel message came {last}")
    if journal.persistent:
        yield Finding("storage", Level.OK, "the journal is persistent: it outlives a reboot")
    elif journal.runtime:
        yield Finding(
            "storage",
            Level.WARNING,
            "the journal is volatile: what kiptail has not read before a reboot is lost",
            "mkdir -p /var/log/journal && journalctl --flush, or Storage=persistent in journald.conf",
        )
    if journal.missed:
        yield Finding(
            "limits",
            Level.WARNING,
            f"journald missed {journal.missed} kernel messages in the last hour: the kernel's buffer overran",
            "limit the LOG rules' rate, or boot with a larger log_buf_len=",
        )


# -- prefixes and rules -----------------------------------------------------------------------------------------


def _prefixes(facts: HostFacts) -> Iterator[Finding]:
    rules = [rule for rule in facts.rules.rules if rule.group is None]
    configured = Prefixes(PrefixRule(text, Verdict(verdict)) for text, verdict in facts.prefixes)
    seen: dict[str, int] = {}
    others: dict[str, int] = {}
    for text, count in facts.journal.prefixes.items():
        match = configured.match(text)
        where, name = (seen, match.text) if match else (others, text.strip())
        where[name] = where.get(name, 0) + count
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
            return Finding(
                "prefixes",
                Level.PROBLEM,
                f"no LOG rule has the prefix {name}; logged here: {instead}",
                f"set --prefix {_quoted(candidates[0])}, or change the rule",
            )
        remedy = "set --prefix to what the rules have, or remove it"
        return Finding("prefixes", Level.PROBLEM, f"no LOG rule has the prefix {name}", remedy)
    where = _where(rules)
    if verdict == "log":
        return Finding("prefixes", Level.OK, f"{name} {times}; counted, no Events (verdict log); {where}")
    lost = [rule for rule in rules if rule.fate is Fate.ACCEPT]
    if lost:
        return Finding(
            "prefixes",
            Level.PROBLEM,
            f"{name} is logged where no drop follows ({_where(lost)}): Events would tell of drops that were none",
            'put the rule directly before the drop, or give the prefix the verdict "log" in kiptail.toml',
        )
    unsure = [rule for rule in rules if rule.fate in (Fate.MIXED, Fate.UNKNOWN)]
    if unsure:
        return Finding(
            "prefixes",
            Level.WARNING,
            f"{name} {times}; whether a drop follows hangs on further rules ({_where(unsure)})",
            "see to it that the rule stands directly before the drop, with the same matches",
        )
    follows = "reject" if verdict == "reject" or all(r.fate is Fate.REJECT for r in rules) else "drop"
    return Finding("prefixes", Level.OK, f"{name} {times}; a {follows} follows ({where})")


def _unconfigured(foreign: dict[str, list[LogRule]], others: dict[str, int]) -> Iterator[Finding]:
    names = [name for name in dict.fromkeys([*foreign, *others]) if foreign.get(name) or others.get(name)]
    for name in names[:_MOST_OTHERS]:
        rules = foreign.get(name, [])
        count = _times(others.get(name, 0))
        if not name:
            text = (
                f"a LOG rule without a prefix ({_where(rules)})" if rules else f"lines without a prefix, seen {count}"
            )
            yield Finding("prefixes", Level.OK, f"{text}: kiptail cannot tell such lines apart and leaves them out")
        elif _drops(rules):
            yield Finding(
                "prefixes",
                Level.WARNING,
                f"{_quoted(name)} is not configured, and a drop follows ({_where(rules)}); seen {count} in an hour",
                f"if its drops are to be told, add --prefix {_quoted(name)}",
            )
        else:
            where = f" ({_where(rules)})" if rules else ""
            text = f"{_quoted(name)} is logged as well{where}, seen {count} in the last hour; it is not configured"
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
            f"{_count(rules)} to NFLOG group {groups} ({_where(rules)}): such packets are not in the kernel log",
            "use LOG (nftables: log without group) where kiptail is to see them",
        )


def _drops(rules: Sequence[LogRule]) -> bool:
    return any(rule.fate in (Fate.DROP, Fate.REJECT, Fate.MIXED) for rule in rules)


# -- limits, sysctl, state --------------------------------------------------------------------------------------


def _limits(facts: HostFacts) -> Iterator[Finding]:
    rules = [rule for rule in facts.rules.rules if rule.group is None]
    free = [rule for rule in rules if not rule.limited]
    console = facts.console_level is not None and facts.console_level > _LOG_LEVEL
    if free:
        told = f"{_count(free)} without a rate limit ({_where(free)}): a flood of packets is a flood of log lines"
        if console:
            told += f", also on the console (kernel.printk is {facts.console_level})"
        yield Finding("limits", Level.WARNING, told, "`kiptail rules` shows rules with a limit")
    elif rules:
        told = "every LOG rule has a rate limit: counts are of logged packets, there may have been more"
        yield Finding("limits", Level.OK, told)
    else:
        yield Finding("limits", Level.OK, "journald does not limit the rate of kernel messages")


def _all_netns(value: bool | None) -> Finding:
    topic = "namespaces"
    if value:
        return Finding(
            topic,
            Level.WARNING,
            "net.netfilter.nf_log_all_netns is 1: whoever is root in any network namespace can log under any prefix",
            "sysctl -w net.netfilter.nf_log_all_netns=0, unless a firewall in a namespace has to log",
        )
    if value is None:
        return Finding(
            topic, Level.OK, "net.netfilter.nf_log_all_netns cannot be seen here: it is the host's own setting"
        )
    return Finding(topic, Level.OK, "net.netfilter.nf_log_all_netns is 0: only the host's own rules log")


def _state(state: StateFacts) -> Finding:
    topic = "state"
    if state.refusal:
        remedy = "name another with --state-directory"
        return Finding(topic, Level.PROBLEM, f"{state.path}: {state.refusal}", remedy)
    if state.hidden:
        return Finding(topic, Level.WARNING, f"{state.path} may not be looked into", "run `kiptail check` as root")
    room = "" if state.free is None else f", {state.free >> 20} MiB free"
    if state.free is not None and state.free < _NO_ROOM:
        return Finding(
            topic, Level.PROBLEM, f"{state.path} has no room: {state.free >> 10} KiB free", "make room there"
        )
    if state.free is not None and state.free < _LITTLE_ROOM:
        return Finding(topic, Level.WARNING, f"{state.path} has little room{room}", "make room there")
    if state.in_use:
        return Finding(topic, Level.OK, f"{state.path} is in use by a running kiptail{room}")
    if not state.exists:
        return Finding(topic, Level.OK, f"{state.path} is made at the first start{room}")
    return Finding(topic, Level.OK, f"{state.path} is usable, no kiptail runs with it{room}")


# -- words ------------------------------------------------------------------------------------------------------


def _where(rules: Sequence[LogRule]) -> str:
    places = list(dict.fromkeys(f"{rule.tool} {one_line(rule.place, 80)}" for rule in rules))
    return ", ".join(places[:2]) + (f" and {len(places) - 2} more" if len(places) > 2 else "")


def _count(rules: Sequence[LogRule]) -> str:
    return "1 rule logs" if len(rules) == 1 else f"{len(rules)} rules log"


def _times(count: int, *, more: bool = False) -> str:
    least = "at least " if more else ""
    return f"{least}{count} time{'' if count == 1 else 's'}"


def _quoted(text: str) -> str:
    return f"'{one_line(text, 130)}'"


def _toml(text: str) -> str:
    return '"' + one_line(text, 130).replace("\\", "\\\\").replace('"', '\\"') + '"'
