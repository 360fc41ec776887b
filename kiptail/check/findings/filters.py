"""Findings about filters: which of them left out nothing of what was logged, or all of it (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kiptail.check.facts import FilterFacts, FilterTried, Finding, Level
from kiptail.text import one_line, plural

__all__ = ["filter_findings"]

_TOPIC = "filters"
#: Filters that have a line of their own, and characters that are shown of one.
_MOST_SHOWN, _TEXT = 5, 120


def filter_findings(facts: FilterFacts | None) -> Iterator[Finding]:
    """Nothing where none is configured; what the ends of flows decide cannot be tried here."""
    if facts is None:
        return
    day = f"{plural(facts.packets, 'packet')} of the last day"
    all_of_it = [each for each in facts.tried if facts.packets and each.packets == facts.packets]
    nothing = [each for each in facts.tried if facts.packets and not each.packets and not facts.incomplete]
    yield from _named(all_of_it, f"holds for all {day}, so there is nothing to tell of", "add a key to it")
    yield from _named(nothing, f"holds for none of the {day}", "compare its values with the log lines, or remove it")
    some = len(facts.tried) - len(all_of_it) - len(nothing)
    filters = plural(len(facts.tried), "filter")
    said = []
    if facts.tried and facts.packets:
        said.append(f"{some} of {filters} hold for some of the {day}")
    elif facts.tried:
        said.append(f"nothing was logged within the last day to try {filters} on")
    if facts.untried:
        said.append(f"{plural(facts.untried, 'filter')} not tried, as it takes the ends of flows to decide")
    yield Finding(_TOPIC, Level.OK, "; ".join(said))


def _named(filters: Sequence[FilterTried], what: str, remedy: str) -> Iterator[Finding]:
    for each in filters[:_MOST_SHOWN]:
        yield Finding(_TOPIC, Level.WARNING, f"'{one_line(each.text, _TEXT)}' {what}", remedy)
    if len(filters) > _MOST_SHOWN:
        yield Finding(_TOPIC, Level.WARNING, f"and {len(filters) - _MOST_SHOWN} more filters: each {what}", remedy)
