"""``kiptail check``, and what ``kiptail setup`` proposes: gather, judge, print."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kiptail import __version__
from kiptail.check.facts import Finding, JournalFacts, Level, RuleFacts
from kiptail.check.findings.calico import calico_findings
from kiptail.check.findings.cluster import cluster_findings
from kiptail.check.findings.configuration import Sources, configuration_text
from kiptail.check.findings.groups import LoggedGroup, propose_groups
from kiptail.check.findings.host import host_findings
from kiptail.check.findings.proposal import Proposal, obstacle
from kiptail.check.probes.calico import gather_calico
from kiptail.check.probes.cluster import gather_cluster
from kiptail.check.probes.host import gather_host, gather_journal
from kiptail.check.probes.nflog import gather_listeners, ulogd_is_installed
from kiptail.check.probes.profiles import gather_profiles
from kiptail.check.probes.rules import gather_rules
from kiptail.config.settings import Settings
from kiptail.credentials.renewal import TOKEN_FILE, KeptToken
from kiptail.errors import JournalError, KiptailError
from kiptail.netfilter.nflog import unit_of_group
from kiptail.text import one_line, plural

__all__ = ["Proposed", "as_json", "as_text", "check", "proposed"]

#: Longest text of a finding, in characters.
_TEXT_LIMIT = 400
#: What of the journal is read to propose a configuration, in seconds.
_DAY_S = 86_400.0


def check(settings: Settings) -> tuple[str, bool]:
    """What is found, as it is to be printed, and whether there is no problem."""
    now = time.time()
    host = host_findings(gather_host(settings, now=now), now=now)
    tokens = KeptToken(settings.state_directory / TOKEN_FILE)
    findings = [*host, *cluster_findings(gather_cluster(settings, tokens), now=now)]
    text = as_json(findings) if settings.output == "json" else as_text(findings)
    return text, all(finding.level is not Level.PROBLEM for finding in findings)


class Proposed(NamedTuple):
    """What ``kiptail setup`` has found."""

    #: The configuration file.
    text: str
    #: It has something that makes Events.
    is_useful: bool
    #: What is to be said beside it, a line each.
    remarks: tuple[str, ...]
    #: What has to be done for it, before kiptail starts: a step each.
    steps: tuple[str, ...] = ()


def proposed(settings: Settings) -> Proposed:
    """A configuration file from this machine's rules and journal. Raises KiptailError, JournalError.

    Of ``settings`` only which journal to read is used.
    """
    rules = gather_rules()
    if why := obstacle(rules):
        silent = [f"; {finding.text}" for finding in calico_findings(gather_calico(), rules)]
        raise KiptailError("".join([why, *silent]))
    journal = gather_journal(settings, now=time.time(), window_s=_DAY_S)
    if journal.refusal:
        raise JournalError(journal.refusal)
    profiles, wrong = gather_profiles()
    listeners = gather_listeners({rule.group for rule in rules.rules if rule.group is not None})
    proposal, groups = propose_groups(rules.rules, journal.prefixes, profiles, listeners)
    sources = Sources(rules.read, rules.refusals, journal.source, journal.incomplete)
    text = configuration_text(proposal, sources, groups)
    remarks = [f"warning: {complaint}; no such profile is proposed" for complaint in wrong]
    remarks += [*_remarks(proposal, rules, journal), *_remarks_on_groups(groups)]
    is_useful = not proposal.is_empty or any(group.is_read for group in groups)
    return Proposed(text, is_useful, tuple(remarks), tuple(_steps(groups)))


def _remarks_on_groups(groups: Sequence[LoggedGroup]) -> Iterator[str]:
    unread = [group for group in groups if not group.is_read and not group.is_passing]
    if unread:
        yield f"{plural(len(unread), 'NFLOG group')} not proposed: see the comments"


def _steps(groups: Sequence[LoggedGroup]) -> Iterator[str]:
    """What has to run for the groups that are read."""
    units = [unit_of_group(group.group).removesuffix(".service") for group in groups if group.is_read]
    if units and not ulogd_is_installed():
        yield "install ulogd2 (Fedora: ulogd)"
    if units:
        yield f"run `systemctl enable --now {' '.join(units)}`"


def _remarks(proposal: Proposal, rules: RuleFacts, journal: JournalFacts) -> Iterator[str]:
    if rules.refusals:
        why = "; ".join(f"{tool}: {reason}" for tool, reason in rules.refusals.items())
        yield f"warning: not all rules of the firewall could be read ({why}), so prefixes may be missing"
    if journal.last_kernel_at is None:
        yield f"warning: {journal.source} holds no kernel messages, so nothing shows how often packets are logged"
    for finding in calico_findings(gather_calico(), rules):
        yield f"{finding.level}: {finding.text}; {finding.remedy}"
    if proposal.others:
        count = plural(len(proposal.others), "prefix", "prefixes")
        yield f"{count} not proposed, for it is not certain that a drop follows: see the comments"


def as_text(findings: Sequence[Finding]) -> str:
    """One line each, and one that sums up."""
    lines = []
    for finding in findings:
        line = f"{finding.level:<8} {finding.topic:<11} {one_line(finding.text, _TEXT_LIMIT)}"
        lines.append(line + (f" → {one_line(finding.remedy, _TEXT_LIMIT)}" if finding.remedy else ""))
    counts = [(sum(f.level is level for f in findings), level) for level in (Level.PROBLEM, Level.WARNING)]
    counted = [f"{count} {level}{'' if count == 1 else 's'}" for count, level in counts if count]
    return "\n".join([*lines, ", ".join(counted) or "all is well"]) + "\n"


def as_json(findings: Sequence[Finding]) -> str:
    """One JSON object."""
    document = {
        "version": __version__,
        "ok": all(finding.level is not Level.PROBLEM for finding in findings),
        "findings": [
            {
                "topic": finding.topic,
                "level": finding.level.value,
                "text": one_line(finding.text, _TEXT_LIMIT),
                "remedy": one_line(finding.remedy, _TEXT_LIMIT),
            }
            for finding in findings
        ],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
