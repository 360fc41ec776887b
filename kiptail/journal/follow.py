"""Follow the kernel's lines in journald's files (sd-journal(3)).

Where it is, and how it goes on whatever happens to the files; :mod:`kiptail.journal.reader` knows systemd's calls and
:mod:`kiptail.journal.scanner` picks out the entries. What it has to put up with, each of it seen for real:

- A cursor never says "gone": sd_journal_seek_cursor(3) lands on some other entry. So a :class:`Position`
  holds the times too, and after a vacuum, or a flush from /run to /var, they decide what has been read
  already.
- When a file is vacuumed under the reader, sd_journal_next(3) fails with EBADMSG for ever: the journal is
  opened anew and resumed.
- A filter that rarely matches leaves its cursor far behind, and a restart then reads for minutes: at the
  journal's end the position moves over the ignored entries as well.
- sd_journal_wait(3) swallows signals, and journald holds its notice of a change back for up to 250 ms: this
  polls.
"""

from __future__ import annotations

import contextlib
import logging
import select
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, Self, cast

from kiptail.clock.dates import log_time
from kiptail.clock.own import OwnClock
from kiptail.clock.steady import Timeline
from kiptail.errors import JournalError
from kiptail.journal.entry import Position
from kiptail.journal.reader import (
    Place,
    Reader,
    Source,
    begin,
    go_after,
    go_to,
    is_passed_by,
    match_kernel,
    news,
    place_of,
    reason,
    running_boot,
    unreadable,
)
from kiptail.journal.scanner import Batch, JournalCounts, Known, Scanner

__all__ = ["Batch", "Journal", "JournalCounts"]

log = logging.getLogger(__name__)

#: Seconds between polls when nothing happens, soon after a kernel line, and how long "soon" lasts.
_QUIET_POLL = 0.1
_BUSY_POLL = 0.02
_BUSY_SECONDS = 2.0

#: Seconds between two moves of the position over ignored entries (each opens the journal once more, some
#: milliseconds), between two looks for files that inotify did not tell of, and between two tries to open the
#: journal.
_PASS_SECONDS = 5.0
_UNTOLD_SECONDS = 60.0
_REOPEN_SECONDS = 1.0


class Journal(Generic[Known]):
    """The journal's kernel lines, from a place on.

    ``directory`` holds journal files, or MACHINE_ID directories of them; ``files`` are read as they are, rotation is
    not followed; with neither it is this machine's journal. ``wanted`` is asked with each raw MESSAGE that holds
    ``needle``, and may give what is known to stand in it. ``position`` is where an earlier Journal had got to and wins
    over ``since_us`` (realtime of the first entry, inclusive); without both the journal is read from its head. Without
    ``follow`` it is read to its end once: inotify, whose end takes 20 ms, is not asked for. ``clock``'s timeline is
    what the lines' times are told by; without it, this reader has one of its own.

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
    ) -> None:
        #: Why nothing can be read at the moment, in one line; "" while all is well.
        self.trouble = ""
        self._source, self._follow = Source(directory, tuple(files)), follow
        self._running_boot = running_boot()
        self._clock = clock or OwnClock(Timeline(position.times if position else None), boot_id=self._running_boot)
        self._scanner = Scanner(wanted, position.clock if position else None, self._clock.timeline, needle)
        self._since_us = since_us if position is None else None
        #: The last place that is known. ``_moved``: the reader has got to a later entry since.
        self._place = (
            Place(position.cursor, position.boot_id, position.monotonic_us, position.realtime_us) if position else None
        )
        self._moved = False
        #: The place where reading began at a time asked for; an earlier Journal's, if it is before all entries.
        self._beginning = self._place if position and not position.cursor else None
        #: Set when a cursor was not found, until the journal's end: what is not later has been read already.
        self._skip: Place | None = None
        #: The journal's end before the last read, as a time, and whether the read before that saw the same: journald
        #: adds an entry to the list of all, which has that time, before it adds it to those that matches look in.
        self._end_us, self._settled = 0, False
        self._at_end = False
        # Of time.monotonic(), seconds.
        self._busy_until = self._pass_due = self._untold_due = self._reopen_due = 0.0
        #: The journal's end (realtime, µs) when the position was last moved over ignored entries.
        self._passed_us = -1
        #: The place (realtime, µs) of the last loss that was reported.
        self._reported_us = -1
        #: inotify's file descriptor; ``_deaf``: there was none to be had.
        self._fd: int | None = None
        self._deaf = False
        self._reader: Reader | None = None
        try:
            self._open()
        except OSError as error:
            raise unreadable(self._source, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the files back. :meth:`position` still answers."""
        self._know_place()
        if self._reader is not None:
            self._reader.close()
        self._reader = self._fd = None

    def read(self, limit: int) -> Batch[Known]:
        """The next wanted lines: at most ``limit``, what is there, or what a quarter of a second finds."""
        batch: Batch[Known] = Batch()
        try:
            if self._reader is None:
                self._at_end = not self._open_again()
                if self._at_end:
                    return Batch(at_end=True)
            self._process()
            self._note_end()
            self._at_end = self._scan(batch, limit)
            if self._at_end:
                self._skip = None
                self._at_end = self._pass_ignored(batch, limit)
            if self._at_end and self._follow:
                # Not before: what is still to be read may be of an earlier boot.
                self._clock.check()
        except OSError as error:
            self._at_end = not self._recovers(error)
        else:
            if self.trouble:
                log.info("%s can be read again", self._source)
                self.trouble = ""
        batch.at_end = self._at_end
        return batch

    def wait(self, timeout: float, wakeup_fd: int | None) -> None:
        """Wait for ``timeout`` seconds, or until something was written: what, only :meth:`read` can tell.

        Returns at once when ``wakeup_fd`` (signal.set_wakeup_fd) can be read; it is the caller's to empty.
        """
        poll = select.poll()
        for fd in (self._fd, wakeup_fd):
            if fd is not None:
                poll.register(fd, select.POLLIN)
        deadline = time.monotonic() + timeout
        while True:
            now = time.monotonic()
            busy = now < self._busy_until
            pause = max(0.0, min(deadline - now, _BUSY_POLL if busy else _QUIET_POLL))
            if poll.poll(pause * 1000) or busy or now + pause >= deadline or self._has_news():
                return

    def _has_news(self) -> bool:
        """Whether a read may find something. To ask that instead halves what kiptail costs while nothing happens."""
        if self._reader is None or not self._settled:
            return True
        try:
            return self._reader._get_end() != self._end_us
        except OSError:
            return True

    @property
    def counts(self) -> JournalCounts:
        """What has been seen since the start."""
        return self._scanner.counts

    def position(self) -> Position | None:
        """The place after which reading goes on, known from the start.

        None as long as nothing has been read of a journal that is read from its head.
        """
        self._know_place()
        place = self._place
        if place is None:
            return None
        times = self._clock.timeline.times
        return Position(place.cursor, place.boot_id, place.monotonic_us, place.realtime_us, self._scanner.clock, times)

    def lag_us(self) -> int:
        """How far reading is behind: 0 at the end, else the last entry's age, in µs."""
        self._know_place()
        place = self._place
        if place is None or (self._at_end and not self.trouble):
            return 0
        done_us = self._clock.timeline.at(place.boot_id, place.monotonic_us, place.realtime_us)
        if place == self._beginning and self._since_us is not None:
            # That entry may be days old, and nothing before the time asked for was to be read.
            done_us = max(done_us, self._clock.steady_us(self._since_us))
        return max(0, self._clock.now_us() - done_us)

    # Scanning

    def _scan(self, batch: Batch[Known], limit: int) -> bool:
        """Append wanted lines; True at the journal's end."""
        scanned = self.counts.scanned
        try:
            skip = self._was_read if self._skip is not None else None
            return self._scanner.scan(cast(Reader, self._reader), batch, limit, skip)
        finally:
            if self.counts.scanned > scanned:
                self._busy_until = time.monotonic() + _BUSY_SECONDS
                # While skipping, _was_read() keeps the place.
                self._moved = self._skip is None

    def _note_end(self) -> None:
        end_us = cast(Reader, self._reader)._get_end()
        self._settled, self._end_us = end_us == self._end_us, end_us

    def _was_read(self, reader: Reader) -> bool:
        """Whether the entry that the reader is at is not later than the place to skip to, by its times.

        Within a boot CLOCK_MONOTONIC tells. Between boots only the wall clock can, and it may have been
        wrong; but all of the running boot is later than any other.
        """
        until = cast(Place, self._skip)
        try:
            place = place_of(reader)
        except OSError:
            return False
        if place.boot_id == until.boot_id:
            read = place.monotonic_us <= until.monotonic_us
        else:
            read = place.boot_id != self._running_boot and place.realtime_us < until.realtime_us
        if not read:
            self._place = place
        return read

    # Where it is

    def _know_place(self) -> None:
        """Ask for the place of the entry that the reader is at, if it has moved."""
        if not self._moved or self._reader is None:
            return
        self._moved = False
        try:
            self._place = place_of(self._reader)
        except OSError:
            # The file is gone. What came after the last wanted entry will be looked at once more.
            self._place = self._scanner.mark or self._place

    def _pass_ignored(self, batch: Batch[Known], limit: int) -> bool:
        """At the end, move the position over what the matches leave out; True when still at the end.

        The journal's last entry is asked for, and then read on to the end once more. When that finds nothing,
        no kernel line is between: journald writes one entry after the other, and this reader knows every file
        that the other one saw, because the news of it was in inotify's queue already. A last entry that
        matches is left to the scan: journald adds an entry to the list of all before it adds it to those by
        field, so its match may not find it yet.
        """
        reader = cast(Reader, self._reader)
        now = time.monotonic()
        if not self._source.grows or now < self._pass_due:
            return True
        if reader._get_end() == self._passed_us and now < self._untold_due:
            return True
        self._pass_due = now + _PASS_SECONDS
        last, end_us = self._source.end()
        self._process()
        scanned = self.counts.scanned
        if not self._scan(batch, limit):
            return False
        told = reader._get_end() >= end_us
        if not told and now < self._untold_due:
            return True
        self._untold_due = now + (_PASS_SECONDS if self._fd is None else _UNTOLD_SECONDS)
        if not told:
            # There is a file that this reader has not heard of: no inotify, or a directory was replaced.
            self.close()
            return not self._open_again()
        if self.counts.scanned == scanned:
            self._passed_us = end_us
            if last is not None and self._is_later(last):
                self._place = last
        return True

    def _is_later(self, last: Place) -> bool:
        """Never move back, also when an older boot's clock was ahead and its entry passes for the last."""
        self._know_place()
        place = self._place
        if place is None:
            return True
        if last.boot_id == place.boot_id:
            return last.monotonic_us > place.monotonic_us
        if self._running_boot in (last.boot_id, place.boot_id):
            return last.boot_id == self._running_boot
        return last.realtime_us >= place.realtime_us

    def _process(self) -> None:
        """Take note of new and deleted files."""
        # First: the entry that the reader is at can be in a file that is let go of now.
        self._know_place()
        reader = cast(Reader, self._reader)
        if news(reader) and self._place is not None:
            self._report_loss(reader, self._place)

    def _report_loss(self, reader: Reader, place: Place) -> None:
        """Count and log it when entries after ``place`` were deleted unread: all that is left is later."""
        if place == self._beginning and not place.cursor:
            # There was no entry before it, so the first one there is now says nothing of deleted ones.
            return
        if reader._get_start() <= place.realtime_us or place.realtime_us <= self._reported_us:
            return
        start_us = self._source.deleted_until(place)
        if start_us is None:
            return
        self._reported_us = place.realtime_us
        self.counts.lost += 1
        log.warning(
            "journal entries from %s to %s were deleted before they were read: packet drops may be missing",
            log_time(place.realtime_us),
            log_time(start_us),
        )

    # Opening

    def _open(self) -> None:
        """Open the journal at the known place, else at the time asked for; OSError, JournalError."""
        self._source.check()
        with contextlib.ExitStack() as on_error:
            reader = self._source.open()
            on_error.callback(reader.close)
            self._fd = self._armed(reader)
            self._skip = None
            if self._place is not None:
                found = go_to(reader, self._place.cursor)
                if not found or is_passed_by(reader, self._place, self._running_boot):
                    self._skip = self._place
                    if not found:
                        self._report_loss(reader, self._place)
                    go_after(reader, self._place, self._running_boot)
            elif self._since_us is not None:
                # Before the matches are set, for after that the reader is at no entry.
                self._place = self._beginning = begin(reader, self._since_us, self._running_boot)
            match_kernel(reader)
            on_error.pop_all()
        self._reader = reader

    def _armed(self, reader: Reader) -> int | None:
        """inotify's file descriptor; asking for it is what makes process() see new and deleted files."""
        if not self._source.grows or not self._follow:
            return None
        try:
            return reader.fileno()
        except OSError as error:
            if not self._deaf:
                self._deaf = True
                log.warning(
                    "no inotify (%s; see fs.inotify.max_user_instances): new journal files are found late",
                    error.strerror,
                )
            return None

    def _open_again(self) -> bool:
        """Open the journal anew where reading had got to, unless that was tried within a second."""
        now = time.monotonic()
        if now < self._reopen_due:
            return False
        self._reopen_due = now + _REOPEN_SECONDS
        try:
            self._open()
        except (OSError, JournalError) as error:
            self._say(error)
            return False
        self.counts.reopened += 1
        return True

    def _recovers(self, error: OSError) -> bool:
        """After a failure: whether the journal has been opened anew and reading can go on at once."""
        self.close()
        log.debug("%s: %s; opening it anew", self._source, reason(error))
        opened = self._open_again()
        if not opened:
            self._say(error)
        return opened

    def _say(self, error: OSError | JournalError) -> None:
        """Log a trouble when it begins, not each time that it is met."""
        if not self.trouble:
            self.trouble = str(error if isinstance(error, JournalError) else unreadable(self._source, error))
            log.error("%s; trying again every %d s", self.trouble, _REOPEN_SECONDS)
