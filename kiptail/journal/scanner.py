"""Scan the journal for wanted lines of the kernel and of ulogd: the loop that decides kiptail's speed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, TypeVar

from kiptail.clock.steady import JITTER_US, Timeline
from kiptail.journal.counts import JournalCounts, count_notice
from kiptail.journal.entry import MOST_DIGITS, is_of_ulogd, is_trusted, microseconds, text_of
from kiptail.journal.position import Position
from kiptail.journal.reader import Reader, field
from kiptail.journal.source_clock import DELAY_LIMIT_US, DRIFT, SourceClock, source_delay, syslog_delay

__all__ = ["Batch", "JournalCounts", "OfUnit", "Scanner"]

#: Entries between two looks at the clock, and seconds after which a scan ends in any case: a journal on a slow
#: disk must not keep signals and the watchdog waiting.
_SCAN_STEP = 500
_SCAN_SECONDS = 0.25


#: What is known to stand in a line, for those who want it.
Known = TypeVar("Known")

#: Asked with each raw MESSAGE of one unit: what stands in it; None when it is not wanted.
OfUnit = Callable[[bytes], Known | None]


@dataclass(slots=True)
class Batch(Generic[Known]):
    """Wanted lines of the kernel and of ulogd, in journal order: two columns, for an object a line is 0.15 µs of 4."""

    #: What is known to stand in each line, or its text.
    lines: list[Known | str] = dataclasses.field(default_factory=list)
    #: When each was written, in steady time (:mod:`kiptail.clock.steady`), µs since the epoch.
    times_us: list[int] = dataclasses.field(default_factory=list)
    #: Nothing more can be read now.
    at_end: bool = False


class Scanner(Generic[Known]):
    """Picks the wanted lines out of what a reader gives."""

    def __init__(
        self,
        wanted: Callable[[bytes], Known | bool],
        clock: SourceClock | None,
        timeline: Timeline,
        needle: bytes = b"",
        units: Mapping[str, OfUnit[Known]] = MappingProxyType({}),
    ) -> None:
        """``wanted`` is asked with each raw MESSAGE that holds ``needle``; ``clock`` is an earlier scanner's.

        What it gives that is no bool is given out instead of the text. ``units``: what is asked instead with those of
        ulogd in a unit, by the unit's name. ``timeline`` observes each line.
        """
        self.counts = JournalCounts()
        #: The boots of the lines that were taken.
        self.boots: set[bytes] = set()
        #: What :func:`~kiptail.journal.source_clock.source_delay` knows by now.
        self.clock = clock
        #: The last line's receipt, if the last scan found any: monotonic time, with its boot, and real time.
        self._last: tuple[int, bytes, int] | None = None
        self._wanted = wanted
        self._timeline = timeline
        self._needle = needle
        self._units = {name.encode(): of_unit for name, of_unit in units.items()}

    def last_position(self) -> Position | None:
        """Of the last line that the last scan found, without its cursor."""
        if self._last is None:
            return None
        monotonic_us, boot, realtime_us = self._last
        return Position("", boot.hex(), monotonic_us, realtime_us)

    def scan(
        self, reader: Reader, batch: Batch[Known], limit: int, skip: Callable[[Reader], bool] | None = None
    ) -> bool:
        """Append wanted lines, until the batch has ``limit``; True at the journal's end. OSError.

        It ends after a quarter of a second, too. Entries for which ``skip`` holds are only counted.
        """
        following, get, wanted, needle = reader._next, reader._get, self._wanted, self._needle
        units = self._units
        deadline = time.monotonic() + _SCAN_SECONDS
        before = len(batch.lines)
        scanned = 0
        unread = False
        self._last = None
        try:
            while True:
                for _ in range(_SCAN_STEP):
                    if unread:
                        unread = False
                    elif not following():
                        return True
                    else:
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
                    of_unit = self._of_unit(reader) if units else None
                    if needle in message and (line := (of_unit or wanted)(message)):
                        line_or_text = text_of(message) if isinstance(line, bool) else line
                        self._take(reader, line_or_text, batch, of_ulogd=of_unit is not None)
                        if not isinstance(line, bool) and skip is None:
                            unread = self._take_known(reader, batch, limit)
                        if len(batch.lines) >= limit:
                            return False
                    elif of_unit is not None or message.startswith((b"Missed ", b"Suppressed ")):
                        count_notice(self.counts, reader, message, units, of_ulogd=of_unit is not None)
                if not unread and time.monotonic() >= deadline:
                    return False
        finally:
            self.counts.scanned += scanned
            self.counts.wanted += len(batch.lines) - before

    def _of_unit(self, reader: Reader) -> OfUnit[Known] | None:
        """What to ask of the entry that the reader is at, if ulogd wrote it in one of the units."""
        try:
            if not is_of_ulogd(field(reader, "_TRANSPORT"), field(reader, "SYSLOG_IDENTIFIER")):
                return None
            return self._units.get(field(reader, "_SYSTEMD_UNIT"))
        except OSError:
            # What reads more of it finds so, too.
            return None

    def _take(self, reader: Reader, line: Known | str, batch: Batch[Known], *, of_ulogd: bool) -> None:
        """Append the line of the entry that the reader is at, if ulogd or the kernel wrote it."""
        try:
            if not of_ulogd and not is_trusted(field(reader, "_TRANSPORT"), field(reader, "SYSLOG_FACILITY")):
                self.counts.untrusted += 1
                return
            name = "_SOURCE_REALTIME_TIMESTAMP" if of_ulogd else "_SOURCE_MONOTONIC_TIMESTAMP"
            source_us = microseconds(field(reader, name))
            realtime_us, (monotonic_us, boot) = reader._get_realtime(), reader._get_monotonic()
        except OSError:
            # Damaged, or gone; then _next() will say so. Trying again for ever would help nobody.
            self.counts.unreadable += 1
            return
        delay_us = 0
        if of_ulogd:
            delay_us = syslog_delay(realtime_us, source_us)
        elif source_us is not None:
            self.clock, delay_us = source_delay(self.clock, boot.hex(), monotonic_us, source_us)
        self.boots.add(boot)
        batch.lines.append(line)
        batch.times_us.append(self._timeline.observe(boot.hex(), monotonic_us, realtime_us) - delay_us)
        self._last = monotonic_us, boot, realtime_us

    def _take_known(self, reader: Reader, batch: Batch[Known], limit: int) -> bool:
        """Append known lines as long as one follows the other; True when the reader is then at an entry to be read.

        After a known line another one is likely. For those, all fields at once are faster than one after the other,
        and what :meth:`_take` calls is done in place, with the clock as it stays for a while: 3.5 µs instead of 6.
        Whatever is out of the ordinary is left to be read like any other entry.
        """
        following, get_all, wanted = reader._next, reader._get_all, self._wanted
        get_monotonic, get_realtime = reader._get_monotonic, reader._get_realtime
        add_line, add_time = batch.lines.append, batch.times_us.append
        # Of the entry before.
        monotonic_us, boot, realtime_us = 0, b"", 0
        # printk's clock as it stays, in this boot, until its time is ``until_us``; and the wall clock, until it is set.
        known_boot, offset_us, until_us = b"", 0, 0
        ahead_us, least_us, most_us = 0, 0, 0
        units = self._units
        line: Known | bool | None
        scanned = 0
        try:
            for _ in range(limit - len(batch.lines)):
                if not following():
                    return False
                scanned += 1
                try:
                    fields = get_all()
                    message, transport = fields["MESSAGE"], fields["_TRANSPORT"]
                    # A field that occurs twice is a list here.
                    if transport == b"kernel":
                        source = fields["_SOURCE_MONOTONIC_TIMESTAMP"]
                        if not (
                            fields["SYSLOG_FACILITY"] == b"0"
                            and message.__class__ is source.__class__ is bytes
                            and source.isdigit()
                            and len(source) <= MOST_DIGITS
                            and not isinstance(line := wanted(message), bool)
                        ):
                            return True
                    else:
                        source, unit = fields["_SOURCE_REALTIME_TIMESTAMP"], fields["_SYSTEMD_UNIT"]
                        if not (
                            transport == b"syslog"
                            and fields["SYSLOG_IDENTIFIER"] == b"ulogd"
                            and message.__class__ is source.__class__ is unit.__class__ is bytes
                            and source.isdigit()
                            and len(source) <= MOST_DIGITS
                            and (line := units[unit](message)) is not None
                        ):
                            return True
                    realtime_us, (monotonic_us, boot) = get_realtime(), get_monotonic()  # both or neither
                except (LookupError, ValueError, OSError):
                    return True
                if boot != known_boot or not least_us <= realtime_us - monotonic_us <= most_us:
                    self.boots.add(boot)
                    steady_us = self._timeline.observe(boot.hex(), monotonic_us, realtime_us)
                    ahead_us, wall_offset_us = realtime_us - steady_us, realtime_us - monotonic_us
                    least_us, most_us = wall_offset_us - JITTER_US, wall_offset_us + JITTER_US
                source_us = int(source)
                if transport != b"kernel":
                    add_line(line)
                    add_time(realtime_us - ahead_us - syslog_delay(realtime_us, source_us))
                    continue
                delay_us = monotonic_us - source_us - offset_us
                if source_us >= until_us or not 0 < delay_us <= DELAY_LIMIT_US or boot != known_boot:
                    self.clock, delay_us = source_delay(self.clock, boot.hex(), monotonic_us, source_us)
                    known_boot, offset_us, until_us = boot, self.clock.offset_us, self.clock.monotonic_us + DRIFT
                add_line(line)
                add_time(realtime_us - ahead_us - delay_us)
            return False
        finally:
            self.counts.scanned += scanned
            if boot:
                self._last = monotonic_us, boot, realtime_us
                self._timeline.observe(boot.hex(), monotonic_us, realtime_us)
