"""Words for prefixes and the rules that log with them, as findings and a proposed configuration show them (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from kiptail.check.facts import HostFacts
from kiptail.check.firewall.log_rules import Fate, LogRule
from kiptail.text import one_line, plural

__all__ = ["SHOW_RULES", "count_of", "in_the_last_hour", "is_lost", "listed", "quoted", "seen", "toml", "where"]

SHOW_RULES = "`kiptail rules --for nftables` (or iptables, calico, ufw, firewalld)"

#: Most prefixes of a list that are shown.
_MOST_LISTED = 5


def where(rules: Sequence[LogRule]) -> str:
    """Where these rules are, in a few words."""
    places = list(dict.fromkeys(f"{rule.tool} {one_line(rule.place, 80)}" for rule in rules))
    return ", ".join(places[:2]) + (f" and {len(places) - 2} more" if len(places) > 2 else "")


def count_of(rules: Sequence[LogRule]) -> str:
    """How many log, as the beginning of a sentence."""
    return "1 rule logs" if len(rules) == 1 else f"{len(rules)} rules log"


def is_lost(rule: LogRule) -> bool:
    """No packet that it logs arrives."""
    return rule.fate in (Fate.DROP, Fate.REJECT)


def seen(count: int, *, more: bool = False) -> str:
    """How often; ``more``: there were lines that were not read."""
    if not count:
        return "not seen"
    return f"seen at least {plural(count, 'time')}" if more else f"seen {plural(count, 'time')}"


def in_the_last_hour(facts: HostFacts, count: int) -> str:
    """How often lines with a prefix were seen."""
    return f"{seen(count, more=facts.journal.incomplete)} in the last hour"


def quoted(text: str) -> str:
    """Foreign text, bounded and fit for one line."""
    return f"'{one_line(text, 130)}'"


def listed(names: Sequence[str]) -> str:
    """The first of them, each in quotation marks."""
    more = len(names) - _MOST_LISTED
    return ", ".join(map(quoted, names[:_MOST_LISTED])) + (f" and {more} more" if more > 0 else "")


def toml(text: str) -> str:
    """``text`` as a TOML string that stays what it is on one line of a terminal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    # Blanks in a row would be made one.
    escaped = escaped.replace("  ", " \\u0020")
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
