"""Findings about this host (pure): journal, limits, state. Prefixes and rules have their own: see ``prefixes``."""

from __future__ import annotations

from collections.abc import Iterator

from kiptail.check.facts import Finding, HostFacts, JournalFacts, Level, StateFacts
from kiptail.check.findings.calico import calico_findings
from kiptail.check.findings.filters import filter_findings
from kiptail.check.findings.nflog import nflog_findings
from kiptail.check.findings.prefixes import prefix_findings
from kiptail.check.findings.wording import SHOW_RULES, count_of, where
from kiptail.text import ago, one_line, plural, span

__all__ = ["host_findings"]

#: Less free space than this is worth a word, and than that the state cannot be kept (in bytes).
_LITTLE_ROOM = 64 << 20
_NO_ROOM = 1 << 20
#: A message that is later than now by more, in seconds, is from before the clock was set back.
_AHEAD = 5.0
#: The kernel's level of a LOG rule's line unless the rule says otherwise, and the names journald has for less.
_LOG_LEVEL = 4
_STRICTER = ("emerg", "alert", "crit", "err", "0", "1", "2", "3")


def host_findings(facts: HostFacts, *, now: float) -> list[Finding]:
    """One line each. ``now`` is in seconds since the epoch."""
    findings = [_version(facts), *_journal(facts.journal, now)]
    findings += prefix_findings(facts)
    findings += nflog_findings(facts)
    findings += filter_findings(facts.filters)
    findings += calico_findings(facts.calico, facts.rules)
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
            text, remedy = journal.refusal, "check that journald writes there, or name another with --journal-directory"
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
            f"journald stores only level {one_line(settings['MaxLevelStore'], 20)} and above; LOG rules write warnings",
            "set MaxLevelStore=debug in /etc/systemd/journald.conf and restart systemd-journald",
        )
    else:
        last = f"came {ago(journal.last_kernel_at, now)}"
        if journal.last_kernel_at > now + _AHEAD:
            last = f"is {span(journal.last_kernel_at - now)} ahead of this host's clock"
        yield Finding("journal", Level.OK, f"{journal.source} is readable; its last kernel message {last}")
    if journal.persistent:
        yield Finding("storage", Level.OK, "the journal is persistent: it outlives a reboot")
    elif journal.runtime:
        yield Finding(
            "storage",
            Level.WARNING,
            "the journal is volatile: what kiptail has not read before a reboot is lost",
            "run `mkdir -p /var/log/journal && journalctl --flush`, or set Storage=persistent in journald.conf",
        )
    if journal.uncounted:
        lines = sum(journal.uncounted.values())
        why = "; ".join(f"{count} {reason}" for reason, count in journal.uncounted.items())
        yield Finding(
            "lines",
            Level.WARNING,
            f"{plural(lines, 'line')} of the last hour with a configured prefix {'was' if lines == 1 else 'were'}"
            f" not counted ({why})",
            "look at them with `journalctl -k -o cat --since=-1h`: a LOG rule's line is the prefix, IN=… and the"
            " packet's fields, and nothing after them",
        )
    if journal.missed:
        yield Finding(
            "limits",
            Level.WARNING,
            f"journald missed {plural(journal.missed, 'kernel message')} in the last hour: the kernel's buffer overran",
            "limit the LOG rules' rate, or boot with a larger log_buf_len=",
        )


# -- limits, sysctl, state --------------------------------------------------------------------------------------


def _limits(facts: HostFacts) -> Iterator[Finding]:
    rules = [rule for rule in facts.rules.rules if rule.group is None]
    free = [rule for rule in rules if not rule.limited]
    console = facts.console_level is not None and facts.console_level > _LOG_LEVEL
    if free:
        text = f"{count_of(free)} without a rate limit ({where(free)}): a flood of packets is a flood of log lines"
        if console:
            text += f", also on the console (kernel.printk is {facts.console_level})"
        yield Finding("limits", Level.WARNING, text, f"add a limit: {SHOW_RULES} shows rules that have one")
    elif rules:
        text = "every LOG rule has a rate limit: logged packets are counted, and more may have been dropped"
        yield Finding("limits", Level.OK, text)
    else:
        yield Finding("limits", Level.OK, "journald does not limit the rate of kernel messages")


def _all_netns(value: bool | None) -> Finding:
    topic = "namespaces"
    if value:
        return Finding(
            topic,
            Level.WARNING,
            "net.netfilter.nf_log_all_netns is 1: whoever is root in any network namespace can log under any prefix",
            "run `sysctl -w net.netfilter.nf_log_all_netns=0`, unless a firewall in a namespace has to log",
        )
    if value is None:
        return Finding(
            topic, Level.OK, "net.netfilter.nf_log_all_netns cannot be seen here: it is the host's own setting"
        )
    return Finding(topic, Level.OK, "net.netfilter.nf_log_all_netns is 0: only the host's own rules log")


def _state(state: StateFacts) -> Finding:
    topic = "state"
    if state.refusal:
        remedy = "name another directory with --state-directory"
        return Finding(topic, Level.PROBLEM, f"{state.path}: {state.refusal}", remedy)
    if state.hidden:
        return Finding(topic, Level.WARNING, f"{state.path} cannot be read by this user", "run `kiptail check` as root")
    room = "" if state.free is None else f", {state.free >> 20} MiB free"
    if state.free is not None and state.free < _NO_ROOM:
        return Finding(
            topic, Level.PROBLEM, f"{state.path} has no room: {state.free >> 10} KiB free", "free space there"
        )
    if state.free is not None and state.free < _LITTLE_ROOM:
        return Finding(topic, Level.WARNING, f"{state.path} has little room{room}", "free space there")
    if state.in_use:
        return Finding(topic, Level.OK, f"{state.path} is in use by a running kiptail{room}")
    if not state.exists:
        return Finding(topic, Level.OK, f"{state.path} will be made at the first start{room}")
    return Finding(topic, Level.OK, f"{state.path} is usable, no kiptail runs with it{room}")
