"""Scan the journal for wanted kernel lines: the loop that decides kiptail's speed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from kiptail.entry import Entry, SourceClock, is_trusted, microseconds, missed_messages, source_delay, text_of
from kiptail.reader import Place, Reader, field

__all__ = ["JournalCounts", "Scanner"]

log = logging.getLogger(__name__)

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

    def __init__(self, wanted: Callable[[bytes], object], clock: SourceClock | None) -> None:
        """``wanted`` is asked with each raw MESSAGE; ``clock`` is an earlier scanner's."""
        self.counts = JournalCounts()
        #: What :func:`~kiptail.entry.source_delay` knows by now.
        self.clock = clock
        #: The place, less the cursor, of the last wanted entry that the last scan found.
        self.mark: Place | None = None
        self._wanted = wanted

    def scan(
        self, reader: Reader, entries: list[Entry], limit: int, skip: Callable[[Reader], bool] | None = None
    ) -> bool:
        """Append wanted entries, up to ``limit`` of them; True at the journal's end. OSError.

        It ends after a quarter of a second, too. Entries for which ``skip`` holds are only counted.
        """
        following, get, wanted = reader._next, reader._get, self._wanted
        deadline = time.monotonic() + _SCAN_SECONDS
        scanned = 0
        self.mark = None
        try:
            while True:
                for _ in range(_SCAN_STEP):
                    if not following():
                        return True
                    scanned += 1
                    if skip is not None and skip(reader):
                        continue
                    try:
                        message = get("MESSAGE")
                    except (LookupError, ValueError, OSError):
                        # A ValueError was seen once during a rotation, and not again for the same entry.
                        try:
                            message = get("MESSAGE")
                        except (LookupError, ValueError, OSError):
                            self.counts.unreadable += 1
                            continue
                    if wanted(message):
                        entry = self._entry(reader, message)
                        if entry is not None:
                            entries.append(entry)
                            if len(entries) >= limit:
                                return False
                    elif message.startswith(b"Missed "):
                        self._count_missed(reader, message)
                if time.monotonic() >= deadline:
                    return False
        finally:
            self.counts.scanned += scanned

    def _entry(self, reader: Reader, message: bytes) -> Entry | None:
        """The entry that the reader is at and whose MESSAGE this is; None when it is not the kernel's."""
        try:
            if not is_trusted(field(reader, "_TRANSPORT"), field(reader, "SYSLOG_FACILITY")):
                self.counts.untrusted += 1
                return None
            realtime_us = reader._get_realtime()
            monotonic_us, boot = reader._get_monotonic()
            source_us = microseconds(field(reader, "_SOURCE_MONOTONIC_TIMESTAMP"))
        except OSError:
            # Damaged, or gone; then _next() will say so. Trying again for ever would help nobody.
            self.counts.unreadable += 1
            return None
        boot_id = boot.hex()
        delay_us = 0
        if source_us is not None:
            self.clock, delay_us = source_delay(self.clock, boot_id, monotonic_us, source_us)
        self.mark = Place("", boot_id, monotonic_us, realtime_us)
        self.counts.wanted += 1
        return Entry(text_of(message), realtime_us - delay_us)

    def _count_missed(self, reader: Reader, message: bytes) -> None:
        """Count journald's notice of lost kernel messages; a kernel line that only reads like one is none."""
        missed = missed_messages(message)
        if missed is not None and field(reader, "_TRANSPORT") == b"driver":
            self.counts.missed_notices += 1
            self.counts.missed += missed
            log.warning("journald missed %d kernel messages: the kernel's ring buffer overran", missed)
