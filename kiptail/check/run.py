"""``kiptail check``: gather, judge, print."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from kiptail import __version__
from kiptail.check.facts import Finding, Level
from kiptail.check.findings.cluster import cluster_findings
from kiptail.check.findings.host import host_findings
from kiptail.check.probes.cluster import gather_cluster
from kiptail.check.probes.host import gather_host
from kiptail.config.settings import Settings
from kiptail.credentials.renewal import TOKEN_FILE, KeptToken
from kiptail.text import one_line

__all__ = ["as_json", "as_text", "check"]

#: Longest text of a finding, in characters.
_TEXT_LIMIT = 400


def check(settings: Settings) -> tuple[str, bool]:
    """What is found, as it is to be printed, and whether there is no problem."""
    now = time.time()
    host = host_findings(gather_host(settings, now=now), now=now)
    tokens = KeptToken(settings.state_directory / TOKEN_FILE)
    findings = [*host, *cluster_findings(gather_cluster(settings, tokens), now=now)]
    text = as_json(findings) if settings.output == "json" else as_text(findings)
    return text, all(finding.level is not Level.PROBLEM for finding in findings)


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
