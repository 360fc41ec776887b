"""Scan the journal for wanted kernel lines: the loop that decides kiptail's speed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from kiptail.entry import (
    DELAY_LIMIT_US,
    DRIFT,
    MOST_DIGITS,
    Entry,
    SourceClock,
    missed_messages,
    source_delay,
    text_of,
)
from kiptail.fastline import KnownLine
from kiptail.reader import Place, Reader, field

__all__ = ["JournalCounts", "Read", "Scanner"]

log = logging.getLogger(__name__)

#: What is given out: an entry that is to be read, or what is known to stand in it and when the kernel wrote it.
Read = Entry | tuple[KnownLine, int]

#: A wanted entry as the reader gives it: line, _TRANSPORT, SYSLOG_FACILITY, _SOURCE_MONOTONIC_TIMESTAMP, receipt
#: (monotonic, with its boot, and real time).
_Found = tuple[KnownLine | bytes, bytes, bytes, bytes, tuple[int, bytes], int]

#: Entries between two looks at the clock, and seconds after which a scan ends in any case: a journal on a slow
#: disk must not keep signals and the watchdog waiting.
_SCAN_STEP = 500
_SCAN_SECONDS = 0.25


@dataclass(slots=True)
class JournalCounts:
    """What has been seen since the start. They only grow."""

    #: Kernel entries (and journald's notices of missed ones) looked at.
    scanned: int = 0
    #: Entries given out.
    wanted: int = 0
    #: Entries that looked wanted but were not written by the kernel.
    untrusted: int = 0
    #: Kernel messages that the ring buffer overwrote before journald read them, and notices of that.
    missed: int = 0
    missed_notices: int = 0
    #: Entries without MESSAGE, or with fields that cannot be read.
    unreadable: int = 0
    #: Times the journal was opened anew.
    reopened: int = 0
    #: Times that entries were found to be deleted before they were read.
    lost: int = 0


class Scanner:
    """Picks the wanted entries out of what a reader gives."""

    def __init__(self, wanted: Callable[[bytes], object], clock: SourceClock | None, needle: bytes = b"") -> None:
        """``wanted`` is asked with each raw MESSAGE that holds ``needle``; ``clock`` is an earlier scanner's.

        When it gives a :class:`KnownLine`, that is given out instead of an :class:`Entry`.
        """
        self.counts = JournalCounts()
        #: What :func:`~kiptail.entry.source_delay` knows by now.
        self.clock = clock
        #: The place, less the cursor, of the last wanted entry that the last scan found.
        self.mark: Place | None = None
        self._wanted, self._needle = wanted, needle

    def scan(
        self, reader: Reader, entries: list[Read], limit: int, skip: Callable[[Reader], bool] | None = None
    ) -> bool:
        """Append wanted entries, up to ``limit`` of them; True at the journal's end. OSError.

        It ends after a quarter of a second, too. Entries for which ``skip`` holds are only counted.
        """
        following, get, wanted, needle = reader._next, reader._get, self._wanted, self._needle
        get_all, get_monotonic, get_realtime = reader._get_all, reader._get_monotonic, reader._get_realtime
        deadline = time.monotonic() + _SCAN_SECONDS
        limit -= len(entries)
        scanned = 0
        in_flood = False
        found: list[_Found] = []
        try:
            while True:
                for _ in range(_SCAN_STEP):
                    if not following():
                        return True
                    scanned += 1
                    if skip is not None and skip(reader):
                        continue
                    if in_flood:
                        # After a known line another one is likely. For those, all fields at once are faster than one
                        # after the other: 10 % of all that a drop takes. A field that occurs twice is a list here.
                        try:
                            fields = get_all()
                            message, source = fields["MESSAGE"], fields["_SOURCE_MONOTONIC_TIMESTAMP"]
                            transport, facility = fields["_TRANSPORT"], fields["SYSLOG_FACILITY"]
                            if (
                                transport == b"kernel" and facility == b"0"
                                and message.__class__ is source.__class__ is bytes
                                and needle in message
                                and (line := wanted(message)).__class__ is KnownLine
                            ):  # fmt: skip
                                found.append((line, transport, facility, source, get_monotonic(), get_realtime()))
                                if len(found) >= limit:
                                    return False
                                continue
                        except (LookupError, ValueError, OSError):
                            pass
                        in_flood = False
                    try:
                        message = get("MESSAGE")
                    except (LookupError, ValueError, OSError):
                        # A ValueError was seen once during a rotation, and not again for the same entry.
                        try:
                            message = get("MESSAGE")
                        except (LookupError, ValueError, OSError):
                            self.counts.unreadable += 1
                            continue
                    if needle in message and (line := wanted(message)):
                        in_flood = isinstance(line, KnownLine)
                        self._find(reader, line if isinstance(line, KnownLine) else message, found)
                        if len(found) >= limit:
                            return False
                    elif message.startswith(b"Missed "):
                        self._count_missed(reader, message)
                if time.monotonic() >= deadline:
                    return False
        finally:
            self.counts.scanned += scanned
            self._give_out(found, entries)

    def _find(self, reader: Reader, line: KnownLine | bytes, found: list[_Found]) -> None:
        """Append the wanted entry that the reader is at."""
        try:
            transport, facility = field(reader, "_TRANSPORT"), field(reader, "SYSLOG_FACILITY")
            source = field(reader, "_SOURCE_MONOTONIC_TIMESTAMP")
            found.append((line, transport, facility, source, reader._get_monotonic(), reader._get_realtime()))
        except OSError:
            # Damaged, or gone; then _next() will say so. Trying again for ever would help nobody.
            self.counts.unreadable += 1

    def _give_out(self, found: list[_Found], entries: list[Read]) -> None:
        """Append those that the kernel wrote, with the time when it did.

        It does what is_trusted(), microseconds() and source_delay() do, and calls them where something is out of the
        ordinary only: three calls for each entry would be 0.25 µs of 5.
        """
        clock, boot_id, hexed = self.clock, "", b""
        #: Until when, by printk's clock, ``clock`` stays as it is.
        offset_us = until_us = 0
        before, last = len(entries), None
        for one in found:
            line, transport, facility, source, (monotonic_us, boot), realtime_us = one
            if transport != b"kernel" or facility != b"0":
                self.counts.untrusted += 1
                continue
            if boot != hexed:
                hexed, boot_id, until_us = boot, boot.hex(), 0
            time_us = realtime_us
            if source.isdigit() and len(source) <= MOST_DIGITS:
                source_us = int(source)
                delay_us = monotonic_us - source_us - offset_us
                if source_us >= until_us or not 0 < delay_us <= DELAY_LIMIT_US:
                    clock, delay_us = source_delay(clock, boot_id, monotonic_us, source_us)
                    offset_us, until_us = clock.offset_us, clock.monotonic_us + DRIFT
                time_us -= delay_us
            entries.append((line, time_us) if isinstance(line, KnownLine) else Entry(text_of(line), time_us))
            last = one
        self.clock = clock
        self.counts.wanted += len(entries) - before
        self.mark = None
        if last is not None:
            *_, (monotonic_us, boot), realtime_us = last
            self.mark = Place("", boot.hex(), monotonic_us, realtime_us)

    def _count_missed(self, reader: Reader, message: bytes) -> None:
        """Count journald's notice of lost kernel messages; a kernel line that only reads like one is none."""
        missed = missed_messages(message)
        if missed is not None and field(reader, "_TRANSPORT") == b"driver":
            self.counts.missed_notices += 1
            self.counts.missed += missed
            log.warning("journald missed %d kernel messages: the kernel's ring buffer overran", missed)
