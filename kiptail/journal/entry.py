"""What the raw fields of a journal entry say (pure): whether the kernel wrote it, when, and what.

Field names are those of systemd.journal-fields(7). Times are whole microseconds: *realtime* since the epoch,
*monotonic* since the machine's boot.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from kiptail.clock.steady import Times

__all__ = [
    "DELAY_LIMIT_US",
    "DRIFT",
    "MESSAGE_LIMIT",
    "MISSED_MESSAGE_ID",
    "MOST_DIGITS",
    "Position",
    "SourceClock",
    "is_trusted",
    "microseconds",
    "missed_messages",
    "source_delay",
    "text_of",
]

#: SD_MESSAGE_JOURNAL_MISSED: journald's own notice that the kernel's ring buffer overran before it was read.
MISSED_MESSAGE_ID = "e9bf28e6e834481bb6f48f548ad13606"

#: A message is cut at this many bytes. The kernel's lines end at 2 KiB (PRINTK_MESSAGE_MAX), so nothing that
#: counts is lost; a file written by something else may hold hundreds of megabytes in one field.
MESSAGE_LIMIT = 8192

#: How fast printk's clock may fall behind CLOCK_MONOTONIC: 1/5000 = 200 ppm. NTP slews the one, not the
#: other.
DRIFT = 5000

#: No journald lags this far behind; a difference that grows by more (µs) is a clock that was set or stood
#: still.
DELAY_LIMIT_US = 600_000_000

#: Digits of a time: 18 are 30,000 years, and fit into SQLite's integers.
MOST_DIGITS = 18

_MISSED = re.compile(rb"Missed ([0-9]{1,20}) kernel messages")


@dataclass(frozen=True, slots=True)
class SourceClock:
    """The difference between CLOCK_MONOTONIC and printk's clock, as far as it is drift and no delay.

    It is stored with the :class:`Position`, so that entries which are read again get the same times again.
    """

    boot_id: str
    #: The time since boot, by printk's clock, that ``offset_us`` is for.
    monotonic_us: int
    #: What CLOCK_MONOTONIC is ahead of printk's clock; negative when behind.
    offset_us: int


@dataclass(frozen=True, slots=True)
class Position:
    """How far the journal has been read: what the store keeps, and :class:`kiptail.journal.follow.Journal` resumes.

    ``cursor`` is sd_journal_get_cursor(3)'s, or "" when the file that held the entry was gone before it was
    asked for, or when reading begins at a time and no entry is before that; the times tell the place then, as they do
    when journald has moved the entry elsewhere.
    """

    cursor: str
    boot_id: str
    monotonic_us: int
    realtime_us: int
    clock: SourceClock | None
    #: What was seen of the machine's clocks until then; None where an earlier version stored it. No part of the place.
    times: Times | None = field(default=None, compare=False)


def is_trusted(transport: bytes, facility: bytes) -> bool:
    """Whether the kernel itself wrote an entry with this ``_TRANSPORT`` and ``SYSLOG_FACILITY``.

    journald sets ``_TRANSPORT``; nobody else can. What root writes to /dev/kmsg has it too, but with another
    facility than the kernel's 0. ``SYSLOG_IDENTIFIER=kernel`` proves nothing: any user can send it.
    """
    return transport == b"kernel" and facility == b"0"


def text_of(message: bytes) -> str:
    r"""``MESSAGE`` as text, cut at :data:`MESSAGE_LIMIT` bytes; bytes that are not UTF-8 become ``\xNN``."""
    return message[:MESSAGE_LIMIT].decode("utf-8", "backslashreplace")


def missed_messages(message: bytes) -> int | None:
    """N of journald's notice "Missed N kernel messages"; None when ``message`` is not that."""
    found = _MISSED.fullmatch(message)
    return int(found[1]) if found else None


def microseconds(field: bytes) -> int | None:
    """The number in a field such as ``_SOURCE_MONOTONIC_TIMESTAMP``; None when it holds anything else."""
    return int(field) if field.isdigit() and len(field) <= MOST_DIGITS else None


def source_delay(clock: SourceClock | None, boot_id: str, monotonic_us: int, source_us: int) -> tuple[SourceClock, int]:
    """How long before its receipt the kernel wrote an entry (µs, never negative), and the clock after it.

    ``monotonic_us`` is ``__MONOTONIC_TIMESTAMP`` (receipt, CLOCK_MONOTONIC), ``source_us`` is
    ``_SOURCE_MONOTONIC_TIMESTAMP`` (printk's clock). Their difference is delay plus drift. Drift is what is
    always there: the smallest difference seen, let grow no faster than a clock may drift. The time in which
    it may grow is printk's, not that of the receipts: while journald stands still for minutes the entries it
    will find were written one after the other, and all of its delay is recovered.
    """
    if clock is None or clock.boot_id != boot_id:
        clock = SourceClock(boot_id, 0, 0)
    difference = monotonic_us - source_us
    passed_us = source_us - clock.monotonic_us
    growth = max(0, passed_us) // DRIFT
    baseline = clock.offset_us + growth
    delay = difference - baseline
    if delay <= 0 or delay > DELAY_LIMIT_US:
        return SourceClock(boot_id, max(clock.monotonic_us, source_us), difference), 0
    # Only as much time is used up as the whole microseconds of growth stand for: at thousands of entries a
    # second each would otherwise round its share down to nothing.
    return SourceClock(boot_id, clock.monotonic_us + growth * DRIFT, baseline), delay
