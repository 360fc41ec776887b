"""Findings about the units that run ulogd2, and about NFLOG rules that nobody reads (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kiptail.check.facts import Finding, HostFacts, Level, NflogFacts
from kiptail.check.findings.groups import stack_of
from kiptail.check.findings.wording import count_of, is_lost, where
from kiptail.check.firewall.log_rules import Fate, LogRule
from kiptail.config.nflog_tables import unread_groups
from kiptail.netfilter.nflog import NflogSource
from kiptail.netfilter.prefixes import Verdict
from kiptail.text import one_line, plural

__all__ = ["nflog_findings"]


def nflog_findings(facts: HostFacts) -> Iterator[Finding]:
    """What is configured, then what is not."""
    for nflog in facts.nflog:
        yield from _unit(nflog)
        yield from _without_prefix(nflog, facts.rules.rules)
    sources = [NflogSource(nflog.unit, nflog.name, group=nflog.group) for nflog in facts.nflog]
    for name, group in unread_groups(facts.profiles, sources).items():
        yield Finding(
            "nflog",
            Level.WARNING,
            f"profile {name} is about NFLOG group {group}, which is not read",
            f"add --nflog-group {group} (nflog-group = [{group}]), and systemctl enable --now kiptail-ulogd@{group}",
        )
    yield from _unread(facts)


def _unit(nflog: NflogFacts) -> Iterator[Finding]:
    hour = f"{plural(nflog.counted, 'packet')} in the last hour"
    if nflog.state in ("", "active"):
        runs = f"{nflog.unit} runs, " if nflog.state else f"{nflog.unit}: "
        yield Finding("nflog", Level.OK, f"{nflog.name}: {runs}{hour}")
    elif nflog.listener and nflog.listener != "ulogd":
        yield Finding(
            "nflog",
            Level.PROBLEM,
            f"{nflog.name}: {nflog.unit} does not run, as {one_line(nflog.listener, 40)} listens to this group",
            "end that program: a group has one listener",
        )
    else:
        install = "" if nflog.installed else "install ulogd2 (Fedora: ulogd), then "
        yield Finding(
            "nflog",
            Level.PROBLEM,
            f"{nflog.name}: {nflog.unit} does not run ({one_line(nflog.state, 40)}): its packets are lost; {hour}",
            f"{install}systemctl enable --now {nflog.unit}, or see why not: systemctl status {nflog.unit}",
        )
    if nflog.uncounted:
        yield Finding(
            "nflog",
            Level.WARNING,
            f"{nflog.name}: {plural(nflog.uncounted, 'line')} of the last hour with another prefix, or none, or not"
            " understood",
            f"look at them with `journalctl -u {nflog.unit} -o cat --since=-1h`; what no prefix stands for is said in a"
            " table [[nflog]]",
        )
    if nflog.overruns or nflog.suppressed:
        left_out = f"; journald left out {plural(nflog.suppressed, 'line')}" if nflog.suppressed else ""
        yield Finding(
            "nflog",
            Level.WARNING,
            f"{nflog.name}: packets were lost in the last hour, {plural(nflog.overruns, 'time')} by ulogd2{left_out}",
            "set netlink_socket_buffer_maxsize higher, and LogRateLimitIntervalSec=0 in the unit: docs/nflog.md",
        )


def _without_prefix(nflog: NflogFacts, rules: Iterable[LogRule]) -> Iterator[Finding]:
    """Whether what a group's packets without a prefix are configured to stand for is what the rules do."""
    own = [rule for rule in rules if rule.group == nflog.group and not rule.prefix.strip()]
    if nflog.group is None or nflog.verdict is None or not own:
        return
    name = f"{nflog.name}, without a prefix"
    passing = [rule for rule in own if rule.fate is Fate.ACCEPT]
    lost = [rule for rule in own if is_lost(rule)]
    unsure = [rule for rule in own if rule not in passing and rule not in lost]
    if nflog.verdict.is_loss and passing:
        yield Finding(
            "nflog",
            Level.PROBLEM,
            f"{name}: what is logged passes ({where(passing)}): Events would report drops that did not happen",
            'put the rule directly before the drop, or give the group the verdict "log" in its table [[nflog]]',
        )
    elif nflog.verdict is Verdict.ACCEPT and lost:
        yield Finding(
            "nflog",
            Level.WARNING,
            f"{name}: it stands for packets that pass, but a drop follows ({where(lost)}): no Event reports it",
            'give the group the verdict "drop" in its table [[nflog]]',
        )
    elif nflog.verdict.is_loss and unsure:
        yield Finding(
            "nflog",
            Level.WARNING,
            f"{name}: whether a drop follows depends on further rules ({where(unsure)})",
            "put the rule directly before the drop, with the same matches",
        )
    elif nflog.verdict.is_loss:
        follows = "reject" if all(rule.fate is Fate.REJECT for rule in lost) else "drop"
        yield Finding("nflog", Level.OK, f"{name}: a {follows} follows ({where(lost)})")


def _unread(facts: HostFacts) -> Iterator[Finding]:
    ours = {nflog.group for nflog in facts.nflog}
    # Which groups a unit of the operator's own listens to is not known here.
    if any(nflog.group is None for nflog in facts.nflog):
        return
    rules = [rule for rule in facts.rules.rules if rule.group is not None and rule.group not in ours]
    if rules:
        numbers = sorted({rule.group for rule in rules if rule.group is not None})
        groups = f"group{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}"
        yield Finding(
            "rules",
            Level.WARNING,
            f"{count_of(rules)} to NFLOG {groups} ({where(rules)}): such packets are not in the kernel log",
            f"systemctl enable --now kiptail-ulogd@{numbers[0]}, and a table [[nflog]] with group = {numbers[0]} and"
            f" {_stands_for(rule for rule in rules if rule.group == numbers[0])}: docs/nflog.md; or use LOG (nftables:"
            " log without group)",
        )


def _stands_for(rules: Iterable[LogRule]) -> str:
    """What a table for the group of these rules has to say: what uses the group, where that shows."""
    stack = stack_of(rules)
    return f'profile = "{stack}"' if stack else "its verdict"
