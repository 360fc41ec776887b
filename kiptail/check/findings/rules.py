"""Findings about the rules that log as a whole: not all could be read, none logs, some log elsewhere (pure)."""

from __future__ import annotations

from collections.abc import Iterator

from kiptail.check.facts import NEEDS_ROOT, NOT_INSTALLED, Finding, HostFacts, Level
from kiptail.check.findings.wording import SHOW_RULES

__all__ = ["SHOWN_RULES", "how_to_read", "log_before_the_drop", "no_log_rule", "unread_rules"]

SHOWN_RULES = "`nft list ruleset | grep log` or `iptables-save | grep LOG`"


def unread_rules(facts: HostFacts) -> Iterator[Finding]:
    if facts.rules.refusals:
        why = "; ".join(f"{tool}: {reason}" for tool, reason in facts.rules.refusals.items())
        text = f"not all rules of the firewall could be read ({why})"
        yield Finding("rules", Level.WARNING, text, how_to_read(facts))


def how_to_read(facts: HostFacts) -> str:
    """What to do where some of the rules could not be read."""
    reasons = set(facts.rules.refusals.values())
    if NEEDS_ROOT in reasons:
        return f"run `kiptail check` as root, or look with {SHOWN_RULES}"
    if NOT_INSTALLED in reasons:
        return "install nftables or iptables to have the rules read, or look at the firewall's own configuration"
    return f"look with {SHOWN_RULES}"


def log_before_the_drop() -> str:
    return f"log directly before the drop: {SHOW_RULES} shows how"


def no_log_rule(facts: HostFacts) -> Finding:
    return Finding(
        "rules",
        Level.PROBLEM,
        f"no LOG rule in {' and '.join(facts.rules.read)}: packets are dropped without a line in the kernel log",
        log_before_the_drop(),
    )
