"""What a position in the journal is, and which of two is later (pure).

Times are whole microseconds: *realtime* since the epoch, *monotonic* since the machine's boot.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from kiptail.clock.steady import Times
from kiptail.journal.source_clock import SourceClock

__all__ = ["Position", "adjoin", "is_later", "was_read"]

#: The parts of a cursor that tell whether two entries adjoin. Only the text of a report depends on them.
_SEQUENCE = re.compile(r"s=([0-9a-f]+);i=([0-9a-f]+);")


@dataclass(frozen=True, slots=True)
class Position:
    """Where an entry is; as the journal's position, the entry after which reading goes on.

    ``cursor`` is sd_journal_get_cursor(3)'s, or "" when the file that held the entry was gone before it was
    asked for, or when reading begins at a time and no entry is before that; the times tell the position then, as they
    do when journald has moved the entry elsewhere.

    What the store keeps, and :class:`kiptail.journal.follow.Journal` resumes, has the clocks as well: what was known of
    them when reading had got there. An entry's position alone has none.
    """

    cursor: str
    boot_id: str
    monotonic_us: int
    realtime_us: int
    #: printk's clock; None where no line has shown it yet.
    clock: SourceClock | None = None
    #: What was seen of the machine's clocks until then; None where an earlier version stored it. Says nothing of where
    #: the entry is.
    times: Times | None = field(default=None, compare=False)


def was_read(entry: Position, until: Position, running_boot: str) -> bool:
    """Whether ``entry`` is not later than ``until``, by their times.

    Within a boot CLOCK_MONOTONIC tells. Between boots only the wall clock can, and it may have been wrong; but all of
    the running boot is later than any other.
    """
    if entry.boot_id == until.boot_id:
        return entry.monotonic_us <= until.monotonic_us
    return entry.boot_id != running_boot and entry.realtime_us < until.realtime_us


def is_later(last: Position, known: Position | None, running_boot: str) -> bool:
    """Whether to move on from ``known`` to the journal's ``last`` entry.

    Never back, also when an older boot's clock was ahead and its entry passes for the last.
    """
    if known is None:
        return True
    if last.boot_id == known.boot_id:
        return last.monotonic_us > known.monotonic_us
    if running_boot in (last.boot_id, known.boot_id):
        return last.boot_id == running_boot
    return last.realtime_us >= known.realtime_us


def adjoin(earlier: str, later: str) -> bool:
    """Whether no entry was between those with these two cursors."""
    first, second = _SEQUENCE.match(earlier), _SEQUENCE.match(later)
    return bool(first and second and first[1] == second[1] and int(second[2], 16) <= int(first[2], 16) + 1)
