"""Follow the kernel's lines in journald's files (sd-journal(3)): the parts of that, composed.

:mod:`~kiptail.journal.scanner` picks out the entries, :mod:`~kiptail.journal.bookmark` knows what has been read,
:mod:`~kiptail.journal.recovery` opens the journal again when it fails, :mod:`~kiptail.journal.poller` waits. Left for
here is to read to the end, and to move the position there: a filter that rarely matches leaves its cursor far behind,
and a restart would then read for minutes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Generic, Self, cast

from kiptail.clock.own import OwnClock
from kiptail.clock.steady import Timeline
from kiptail.journal.bookmark import Bookmark
from kiptail.journal.losses import Losses
from kiptail.journal.poller import Poller
from kiptail.journal.position import Position
from kiptail.journal.reader import Reader, changed, running_boot
from kiptail.journal.recovery import OpenJournal
from kiptail.journal.scanner import Batch, JournalCounts, Known, OfUnit, Scanner
from kiptail.journal.source import Source, unreadable

__all__ = ["Batch", "Journal", "JournalCounts"]

#: Seconds between two moves of the position over ignored entries (each opens the journal once more, some
#: milliseconds), and between two looks for files that inotify did not report.
_PASS_SECONDS = 5.0
_UNNOTICED_SECONDS = 60.0


class Journal(Generic[Known]):
    """The journal's kernel lines, and those of units that run ulogd, from a position on.

    ``directory`` holds journal files, or MACHINE_ID directories of them; ``files`` are read as they are, rotation is
    not followed; with neither it is this machine's journal. ``wanted`` is asked with each raw MESSAGE that holds
    ``needle``, and may give what is known to stand in it; ``units`` has, by the unit's name, what is asked in its place
    with those of ulogd. ``position`` is where an earlier Journal had got to and wins over ``since_us`` (realtime of the
    first entry, inclusive); without both the journal is read from its head. Without ``follow`` it is read to its end
    once: inotify, whose end takes 20 ms, is not asked for. ``clock``'s timeline is what the lines' times are reckoned
    by; without it, this reader has one of its own.

    JournalError when the journal cannot be read at the start. When that happens later it is tried again each
    second and :attr:`trouble` says why. Belongs to one thread, and does not survive a fork.
    """

    def __init__(
        self,
        *,
        directory: Path | None = None,
        files: Sequence[Path] = (),
        wanted: Callable[[bytes], Known | bool],
        needle: bytes = b"",
        position: Position | None = None,
        since_us: int | None = None,
        follow: bool = True,
        clock: OwnClock | None = None,
        units: Mapping[str, OfUnit[Known]] = MappingProxyType({}),
    ) -> None:
        boot = running_boot()
        self._source = Source(directory, tuple(files), tuple(units))
        self._follow = follow
        self._clock = clock or OwnClock(Timeline(position.times if position else None), boot_id=boot)
        self._scanner = Scanner(wanted, position.clock if position else None, self._clock.timeline, needle, units)
        losses = Losses(self._source, self.counts)
        self._bookmark = Bookmark(position, since_us, boot, losses, self._scanner.last_position)
        self._open_journal = OpenJournal(
            self._source, self._bookmark.go_there, self.counts, follow=follow, units=tuple(units)
        )
        self._poller = Poller()
        self._at_end = False
        # Of time.monotonic(), seconds.
        self._pass_due = 0.0
        self._unnoticed_due = 0.0
        #: The journal's end (realtime, µs) when the position was last moved over ignored entries.
        self._passed_us = -1
        try:
            self._open_journal.open()
        except OSError as error:
            raise unreadable(self._source, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the files back. :meth:`position` still answers."""
        self._bookmark.position(self._open_journal.reader)
        self._open_journal.close()

    def read(self, limit: int) -> Batch[Known]:
        """The next wanted lines: at most ``limit``, what is there, or what a quarter of a second finds."""
        batch: Batch[Known] = Batch()
        try:
            if self._open_journal.reader is None:
                self._at_end = not self._open_journal.open_again()
                if self._at_end:
                    return Batch(at_end=True)
            self._process()
            self._poller.note_end(self._reader)
            self._at_end = self._scan(batch, limit)
            if self._at_end:
                self._bookmark.note_end()
                self._at_end = self._pass_ignored(batch, limit)
            if self._at_end and self._follow:
                # Not before: what is still to be read may be of an earlier boot.
                self._clock.check()
        except OSError as error:
            self.close()
            self._at_end = not self._open_journal.recovers(error)
        else:
            self._open_journal.end_trouble()
        batch.at_end = self._at_end
        return batch

    def wait(self, timeout: float, wakeup_fd: int | None) -> None:
        """Wait for ``timeout`` seconds, or until something was written: what, only :meth:`read` can tell.

        Returns at once when ``wakeup_fd`` (signal.set_wakeup_fd) can be read; it is the caller's to empty.
        """
        self._poller.wait(timeout, self._open_journal.reader, self._open_journal.fd, wakeup_fd)

    @property
    def counts(self) -> JournalCounts:
        """What has been seen since the start."""
        return self._scanner.counts

    @property
    def boots(self) -> frozenset[str]:
        """The ids of the boots in which the wanted lines were written that have been read."""
        return frozenset(boot.hex() for boot in self._scanner.boots)

    @property
    def trouble(self) -> str:
        """Why nothing can be read at the moment, in one line; "" while all is well."""
        return self._open_journal.trouble

    def position(self) -> Position | None:
        """The position after which reading goes on, with the clocks; known from the start.

        None as long as nothing has been read of a journal that is read from its head.
        """
        position = self._bookmark.position(self._open_journal.reader)
        if position is None:
            return None
        return dataclasses.replace(position, clock=self._scanner.clock, times=self._clock.timeline.times)

    def lag_us(self) -> int:
        """How far reading is behind: 0 at the end, else the last entry's age, in µs."""
        position = self._bookmark.position(self._open_journal.reader)
        if position is None or (self._at_end and not self.trouble):
            return 0
        done_us = self._clock.timeline.at(position.boot_id, position.monotonic_us, position.realtime_us)
        asked_for_us = self._bookmark.asked_for_us
        if asked_for_us is not None:
            # That entry may be days old, and nothing before the time asked for was to be read.
            done_us = max(done_us, self._clock.steady_us(asked_for_us))
        return max(0, self._clock.now_us() - done_us)

    @property
    def _reader(self) -> Reader:
        """While the journal is open."""
        return cast(Reader, self._open_journal.reader)

    def _process(self) -> None:
        """Take note of new and deleted files."""
        # First: the entry that the reader is at can be in a file that is closed now.
        self._bookmark.position(self._reader)
        if changed(self._reader):
            self._bookmark.report_loss(self._reader)

    def _scan(self, batch: Batch[Known], limit: int) -> bool:
        """Append wanted lines; True at the journal's end."""
        scanned = self.counts.scanned
        try:
            return self._scanner.scan(self._reader, batch, limit, self._bookmark.skip)
        finally:
            if self.counts.scanned > scanned:
                self._poller.note_entries()
                self._bookmark.note_moved()

    def _pass_ignored(self, batch: Batch[Known], limit: int) -> bool:
        """At the end, move the position over what the matches leave out; True when still at the end.

        The journal's last entry is asked for, and then read on to the end once more. When that finds nothing,
        no kernel line is between: journald writes one entry after the other, and this reader knows every file
        that the other one saw, because the notice of it was in inotify's queue already. A last entry that
        matches is left to the scan: journald adds an entry to the list of all before it adds it to those by
        field, so its match may not find it yet.
        """
        now = time.monotonic()
        if not self._source.grows or now < self._pass_due:
            return True
        if self._reader._get_end() == self._passed_us and now < self._unnoticed_due:
            return True
        self._pass_due = now + _PASS_SECONDS
        last, end_us = self._source.end()
        self._process()
        scanned = self.counts.scanned
        if not self._scan(batch, limit):
            return False
        knows_all = self._reader._get_end() >= end_us
        if not knows_all and now < self._unnoticed_due:
            return True
        self._unnoticed_due = now + (_PASS_SECONDS if self._open_journal.fd is None else _UNNOTICED_SECONDS)
        if not knows_all:
            # There is a file that this reader does not know: no inotify, or a directory was replaced.
            self.close()
            return not self._open_journal.open_again()
        if self.counts.scanned == scanned:
            self._passed_us = end_us
            if last is not None:
                self._bookmark.pass_to(last, self._reader)
        return True
