"""Tries the configured filters on the packets of the last day, for ``kiptail check``."""

from __future__ import annotations

import time
from collections import Counter

from kiptail.check.facts import FilterFacts, FilterTried
from kiptail.clock.own import OwnClock
from kiptail.config.settings import Settings
from kiptail.errors import JournalError
from kiptail.flows.flow import FlowKey
from kiptail.flows.joining import Joining
from kiptail.flows.known_lines import KnownLine, KnownLines, Line, UnknownLine, lines_of_units, understood
from kiptail.journal.follow import Journal
from kiptail.journal.reader import running_boot
from kiptail.netfilter.prefixes import Prefixes
from kiptail.netfilter.reading import ULOGD
from kiptail.quiet.filters import Filters

__all__ = ["gather_filters"]

_WINDOW_S = 86_400.0
#: Lines a batch, and for how long there is reading, in seconds.
_BATCH, _MOST_SECONDS = 8_000, 5.0


def gather_filters(settings: Settings, *, now: float) -> FilterFacts | None:
    """None where no filter is configured, or the journal cannot be read. ``now`` is in seconds since the epoch."""
    tried = [each for each in settings.ignore if not each.needs_ends]
    if not settings.ignore:
        return None
    packets, complete = Counter[tuple[FlowKey, bool]](), True
    try:
        if tried:
            packets, complete = _packets(settings, since_us=max(0, round((now - _WINDOW_S) * 1e6)))
    except (JournalError, OSError):
        return None  # that is a finding of its own
    filters = Filters(tried)
    counts: Counter[int] = Counter()
    for (key, reset), count in packets.items():
        for number in filters.all_by_line(key, reset):
            counts[number] += count
    return FilterFacts(
        tuple(FilterTried(each.text, counts[number]) for number, each in enumerate(tried)),
        packets=sum(packets.values()),
        untried=len(settings.ignore) - len(tried),
        incomplete=not complete,
    )


def _packets(settings: Settings, *, since_us: int) -> tuple[Counter[tuple[FlowKey, bool]], bool]:
    """How many packets there were of each flow, and whether that is all of them."""
    prefixes, joining = Prefixes(settings.prefixes), Joining()
    found: Counter[KnownLine] = Counter()
    until = time.monotonic() + _MOST_SECONDS
    reading: Journal[Line] = Journal(
        directory=settings.journal_directory,
        files=settings.journal_files,
        wanted=KnownLines(prefixes).wanted,
        needle=b" OUT=" if settings.nflog else prefixes.needle,
        units=lines_of_units(settings.nflog, settings.prefixes),
        since_us=since_us,
        follow=False,
        clock=OwnClock(boot_id=running_boot()),
    )
    complete = False
    with reading as journal:
        while not complete and time.monotonic() < until:
            batch = journal.read(_BATCH)
            complete = batch.at_end
            lines = joining.joined(batch.lines, batch.times_us) if settings.nflog else batch.lines
            found.update(known for known in (_understood(line, prefixes) for line in lines) if known is not None)
    packets: Counter[tuple[FlowKey, bool]] = Counter()
    for line, count in found.items():
        packets[line.key, line.reset] += count
    return packets, complete


def _understood(line: Line | str, prefixes: Prefixes) -> KnownLine | None:
    if isinstance(line, KnownLine):
        return line
    if isinstance(line, UnknownLine):
        return understood(line.text, line.prefixes, ULOGD)
    return understood(line, prefixes) if isinstance(line, str) else None
