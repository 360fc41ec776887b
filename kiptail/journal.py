"""Follow the kernel's lines in journald's files (sd-journal(3)).

The only module that imports systemd.journal's reader. What it has to put up with, each of it seen for real:

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
import errno
import logging
import re
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol, Self, cast

import systemd.journal as systemd_journal

from kiptail.entry import (
    MISSED_MESSAGE_ID,
    Entry,
    Position,
    is_trusted,
    microseconds,
    missed_messages,
    source_delay,
    text_of,
)
from kiptail.errors import JournalError, one_line

__all__ = ["Batch", "Journal", "JournalCounts"]

log = logging.getLogger(__name__)

#: Entries between two looks at the clock, and seconds after which read() returns in any case: a journal on a
#: slow disk must not keep signals and the watchdog waiting.
_SCAN_STEP = 500
_SCAN_SECONDS = 0.25

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

#: The latest time that sd_journal_seek_realtime_usec(3) can be asked for.
_LATEST_US = 2**63 - 1
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_RIGHTS = "add the user to the group systemd-journal, or run as root"
#: The parts of a cursor that tell whether two entries adjoin. Only the text of a report hangs on them.
_SEQUENCE = re.compile(r"s=([0-9a-f]+);i=([0-9a-f]+);")
#: A boot's id, and a machine's: the names of the sub-directories that sd_journal_open_directory(3) enters.
_ID128 = re.compile(r"[0-9a-f]{32}")


class _Reader(Protocol):
    """What is used of systemd.journal.Reader: the low-level calls, such as ``_next``, give raw values."""

    def add_match(self, *args: str) -> None: ...
    def add_disjunction(self) -> None: ...
    def flush_matches(self) -> None: ...
    def seek_head(self) -> None: ...
    def seek_tail(self) -> None: ...
    def seek_cursor(self, cursor: str) -> None: ...
    def seek_realtime(self, realtime: int) -> None: ...
    def seek_monotonic(self, monotonic: timedelta, bootid: str) -> None: ...
    def test_cursor(self, cursor: str) -> bool: ...
    def process(self) -> int: ...
    def fileno(self) -> int: ...
    def has_runtime_files(self) -> bool: ...
    def has_persistent_files(self) -> bool: ...
    def close(self) -> None: ...
    def _next(self) -> bool: ...
    def _previous(self) -> bool: ...
    def _get(self, field: str) -> bytes: ...
    def _get_realtime(self) -> int: ...
    def _get_monotonic(self) -> tuple[int, bytes]: ...
    def _get_cursor(self) -> str: ...
    def _get_start(self) -> int: ...
    def _get_end(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Wanted entries in journal order; ``at_end``: nothing more can be read now, so :meth:`Journal.wait`."""

    entries: list[Entry]
    at_end: bool


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


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an entry is: a :class:`Position` less the clock. The cursor may be ""."""

    cursor: str
    boot_id: str
    monotonic_us: int
    realtime_us: int


class Journal:
    """The journal's kernel lines, from a place on.

    ``directory`` holds journal files, or MACHINE_ID directories of them; ``files`` are read as they are,
    rotation is not followed; with neither it is this machine's journal. ``wanted`` is asked with each raw
    MESSAGE. ``position`` is where an earlier Journal had got to and wins over ``since_us`` (realtime of the
    first entry, inclusive); without both the journal is read from its head.

    JournalError when the journal cannot be read at the start. When that happens later it is tried again each
    second and :attr:`trouble` says why. Belongs to one thread, and does not survive a fork.
    """

    def __init__(
        self,
        *,
        directory: Path | None = None,
        files: Sequence[Path] = (),
        wanted: Callable[[bytes], object],
        position: Position | None = None,
        since_us: int | None = None,
    ) -> None:
        self.counts = JournalCounts()
        #: Why nothing can be read at the moment, in one line; "" while all is well.
        self.trouble = ""
        self._source = _Source(directory, tuple(files))
        self._wanted = wanted
        self._since_us = since_us
        self._clock = position.clock if position else None
        #: The last place that is known. ``_moved``: the reader has got to a later entry since.
        self._place = (
            _Place(position.cursor, position.boot_id, position.monotonic_us, position.realtime_us)
            if position
            else None
        )
        self._moved = False
        #: The last wanted entry's since ``_place``: what is known when the file is gone before it is asked.
        self._mark: _Place | None = None
        #: Set when a cursor was not found, until the journal's end: what is not later has been read already.
        self._skip: _Place | None = None
        self._running_boot = _running_boot()
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
        self._reader: _Reader | None = None
        try:
            self._open()
        except OSError as error:
            raise _unreadable(self._source, error) from error

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

    def read(self, limit: int) -> Batch:
        """The next wanted entries: at most ``limit``, what is there, or what a quarter of a second finds."""
        entries: list[Entry] = []
        try:
            if self._reader is None:
                self._at_end = not self._open_again()
                if self._at_end:
                    return Batch(entries, at_end=True)
            self._process()
            self._at_end = self._scan(entries, limit)
            if self._at_end:
                self._skip = None
                self._at_end = self._pass_ignored(entries, limit)
        except OSError as error:
            self._at_end = not self._recovers(error)
        else:
            if self.trouble:
                log.info("%s can be read again", self._source)
                self.trouble = ""
        return Batch(entries, self._at_end)

    def wait(self, timeout: float, wakeup_fd: int | None) -> None:
        """Wait for new entries, for at most ``timeout`` seconds and never more than 0.1.

        Returns at once when ``wakeup_fd`` (signal.set_wakeup_fd) can be read; it is the caller's to empty.
        """
        pause = _BUSY_POLL if time.monotonic() < self._busy_until else _QUIET_POLL
        poll = select.poll()
        for fd in (self._fd, wakeup_fd):
            if fd is not None:
                poll.register(fd, select.POLLIN)
        poll.poll(max(0.0, min(timeout, pause)) * 1000)

    def position(self) -> Position | None:
        """The place up to which everything has been looked at; None when nothing has been yet."""
        self._know_place()
        place = self._place
        if place is None:
            return None
        return Position(place.cursor, place.boot_id, place.monotonic_us, place.realtime_us, self._clock)

    def lag_us(self, now_us: int) -> int:
        """How far reading is behind ``now_us`` (realtime, µs): 0 at the end, else the last entry's age."""
        self._know_place()
        if self._place is None or (self._at_end and not self.trouble):
            return 0
        return max(0, now_us - self._place.realtime_us)

    # Scanning

    def _scan(self, entries: list[Entry], limit: int) -> bool:
        """Append wanted entries; True at the journal's end. The loop that decides kiptail's speed."""
        reader = cast(_Reader, self._reader)
        following, get, wanted = reader._next, reader._get, self._wanted
        deadline = time.monotonic() + _SCAN_SECONDS
        scanned = 0
        self._mark = None
        try:
            while True:
                for _ in range(_SCAN_STEP):
                    if not following():
                        return True
                    scanned += 1
                    if self._skip is not None and self._was_read(reader, self._skip):
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
            if scanned:
                self.counts.scanned += scanned
                self._busy_until = time.monotonic() + _BUSY_SECONDS
                # While skipping, _was_read() keeps the place.
                self._moved = self._skip is None

    def _entry(self, reader: _Reader, message: bytes) -> Entry | None:
        """The entry that the reader is at and whose MESSAGE this is; None when it is not the kernel's."""
        try:
            if not is_trusted(_field(reader, "_TRANSPORT"), _field(reader, "SYSLOG_FACILITY")):
                self.counts.untrusted += 1
                return None
            realtime_us = reader._get_realtime()
            monotonic_us, boot = reader._get_monotonic()
            source_us = microseconds(_field(reader, "_SOURCE_MONOTONIC_TIMESTAMP"))
        except OSError:
            # Damaged, or gone; then _next() will say so. Trying again for ever would help nobody.
            self.counts.unreadable += 1
            return None
        boot_id = boot.hex()
        delay_us = 0
        if source_us is not None:
            self._clock, delay_us = source_delay(self._clock, boot_id, monotonic_us, source_us)
        self._mark = _Place("", boot_id, monotonic_us, realtime_us)
        self.counts.wanted += 1
        return Entry(text_of(message), realtime_us - delay_us)

    def _count_missed(self, reader: _Reader, message: bytes) -> None:
        """Count journald's notice of lost kernel messages; a kernel line that only reads like one is none."""
        missed = missed_messages(message)
        if missed is not None and _field(reader, "_TRANSPORT") == b"driver":
            self.counts.missed_notices += 1
            self.counts.missed += missed
            log.warning("journald missed %d kernel messages: the kernel's ring buffer overran", missed)

    def _was_read(self, reader: _Reader, until: _Place) -> bool:
        """Whether the entry that the reader is at is not later than ``until``, by its times.

        Within a boot CLOCK_MONOTONIC tells. Between boots only the wall clock can, and it may have been
        wrong; but all of the running boot is later than any other.
        """
        try:
            place = _place_of(reader)
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
            self._place = _place_of(self._reader)
        except OSError:
            # The file is gone. What came after the last wanted entry will be looked at once more.
            self._place = self._mark or self._place

    def _pass_ignored(self, entries: list[Entry], limit: int) -> bool:
        """At the end, move the position over what the matches leave out; True when still at the end.

        The journal's last entry is asked for, and then read on to the end once more. When that finds nothing,
        no kernel line is between: journald writes one entry after the other, and this reader knows every file
        that the other one saw, because the news of it was in inotify's queue already. A last entry that
        matches is left to the scan: journald adds an entry to the list of all before it adds it to those by
        field, so its match may not find it yet.
        """
        reader = cast(_Reader, self._reader)
        now = time.monotonic()
        if not self._source.grows or now < self._pass_due:
            return True
        if reader._get_end() == self._passed_us and now < self._untold_due:
            return True
        self._pass_due = now + _PASS_SECONDS
        with contextlib.closing(self._source.open()) as other:
            last = _last_ignored(other)
            end_us = other._get_end()
        self._process()
        scanned = self.counts.scanned
        if not self._scan(entries, limit):
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

    def _is_later(self, last: _Place) -> bool:
        """Never move back, also when an older boot's clock was ahead and its entry passes for the last."""
        self._know_place()
        place = self._place
        if place is None:
            return True
        if last.boot_id == place.boot_id:
            return last.monotonic_us > place.monotonic_us
        return place.boot_id != self._running_boot and last.realtime_us >= place.realtime_us

    def _process(self) -> None:
        """Take note of new and deleted files."""
        # First: the entry that the reader is at can be in a file that is let go of now.
        self._know_place()
        reader = cast(_Reader, self._reader)
        changed = reader.process()
        if changed == systemd_journal.INVALIDATE and self._place is not None:
            self._report_loss(reader, self._place)

    def _report_loss(self, reader: _Reader, place: _Place) -> None:
        """Count and log it when entries after ``place`` were deleted unread: all that is left is later."""
        if reader._get_start() <= place.realtime_us or place.realtime_us <= self._reported_us:
            return
        with contextlib.closing(self._source.open()) as other:
            start_us = other._get_start()
            if not other._next() or _adjoin(place.cursor, other._get_cursor()):
                return
        self._reported_us = place.realtime_us
        self.counts.lost += 1
        log.warning(
            "journal entries from %s to %s were deleted before they were read: packet drops may be missing",
            _utc(place.realtime_us),
            _utc(start_us),
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
                if not _go_to(reader, self._place.cursor):
                    self._skip = self._place
                    self._report_loss(reader, self._place)
                    self._go_after(reader, self._place)
            elif self._since_us is not None:
                _go_before(reader, self._since_us)
            # Matches leave the reader where it is. The second one: any user can send the MESSAGE_ID, not the
            # transport.
            reader.add_match("_TRANSPORT=kernel")
            reader.add_disjunction()
            reader.add_match("_TRANSPORT=driver", f"MESSAGE_ID={MISSED_MESSAGE_ID}")
            on_error.pop_all()
        self._reader = reader

    def _armed(self, reader: _Reader) -> int | None:
        """inotify's file descriptor; asking for it is what makes process() see new and deleted files."""
        if not self._source.grows:
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

    def _go_after(self, reader: _Reader, place: _Place) -> None:
        """Put ``reader``, in which ``place``'s cursor was not found, where nothing unread is before it.

        The wall clock may have been set back since. So the first unread entry of the place's boot and the
        first one of the running boot are looked for by their boots. What has been read is skipped while
        scanning.
        """
        moments = [place.realtime_us]
        for boot_id, monotonic_us in {self._running_boot: 0, place.boot_id: place.monotonic_us + 1}.items():
            if not _ID128.fullmatch(boot_id):
                continue
            reader.add_match(f"_BOOT_ID={boot_id}")
            reader.seek_monotonic(timedelta(microseconds=monotonic_us), boot_id)
            if reader._next():
                moments.append(reader._get_realtime())
            reader.flush_matches()
        _go_before(reader, min(moments))

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
        log.debug("%s: %s; opening it anew", self._source, _reason(error))
        opened = self._open_again()
        if not opened:
            self._say(error)
        return opened

    def _say(self, error: OSError | JournalError) -> None:
        """Log a trouble when it begins, not each time that it is met."""
        if not self.trouble:
            self.trouble = str(error if isinstance(error, JournalError) else _unreadable(self._source, error))
            log.error("%s; trying again every %d s", self.trouble, _REOPEN_SECONDS)


@dataclass(frozen=True, slots=True)
class _Source:
    """Which journal is read, and how it is opened."""

    directory: Path | None
    files: tuple[Path, ...]

    def __str__(self) -> str:
        if self.files:
            return "the journal file " + ", ".join(map(str, self.files))
        return f"the journal directory {self.directory}" if self.directory else "this machine's journal"

    @property
    def grows(self) -> bool:
        """Whether files may come and go: a given list of files stays as it is."""
        return not self.files

    def open(self) -> _Reader:
        """A reader at the journal's head, without matches; OSError."""
        if self.files:
            return cast(_Reader, systemd_journal.Reader(files=[str(file) for file in self.files]))
        if self.directory is not None:
            return cast(_Reader, systemd_journal.Reader(path=str(self.directory)))
        # Only files of this machine, in /run and in /var. Those of users' sessions never hold a kernel line,
        # and being written to rarely they reach back further, which would hide that the system's were
        # deleted.
        flags = systemd_journal.LOCAL_ONLY | systemd_journal.SYSTEM_ONLY
        return cast(_Reader, systemd_journal.Reader(flags))

    def check(self) -> None:
        """JournalError when there is nothing to read: libsystemd says nothing of what it may not read."""
        if self.files:
            for file in self.files:
                refusal = _refusal(file)
                if refusal is not None:
                    raise _unreadable(f"the journal file {file}", refusal) from refusal
        elif self.directory is not None:
            _check_directory(self.directory)
        else:
            with contextlib.closing(self.open()) as reader:
                if not reader.has_runtime_files() and not reader.has_persistent_files():
                    raise JournalError(
                        f"this machine's journal cannot be read, or there is none: {_RIGHTS}; "
                        "in a container, mount the host's and name it with --journal-directory"
                    )


def _check_directory(directory: Path) -> None:
    """JournalError unless some file in ``directory``, or in a MACHINE_ID directory there, can be read."""
    name = f"the journal directory {directory}"
    refusals = []
    try:
        inner = [entry for entry in directory.iterdir() if _ID128.fullmatch(entry.name) and entry.is_dir()]
        for place in [directory, *inner]:
            for file in place.iterdir():
                if file.name.endswith((".journal", ".journal~")):
                    refusal = _refusal(file)
                    if refusal is None:
                        return
                    refusals.append(refusal)
    except OSError as error:
        raise _unreadable(name, error) from error
    if refusals:
        raise _unreadable(f"any file of {name}", refusals[0]) from refusals[0]
    raise JournalError(one_line(f"no *.journal files in {name}, nor in a MACHINE_ID directory there"))


def _refusal(file: Path) -> OSError | None:
    """Why ``file`` cannot be read as a journal; None when it can."""
    try:
        systemd_journal.Reader(files=[str(file)]).close()
    except OSError as error:
        return error
    return None


def _unreadable(name: object, error: OSError) -> JournalError:
    return JournalError(one_line(f"cannot read {name}: {_reason(error)}"))


def _reason(error: OSError) -> str:
    """What is wrong and what to do, where more is known than the system's text."""
    match error:
        case PermissionError():
            return f"permission denied: {_RIGHTS}"
        case IsADirectoryError():
            return "it is a directory: use --journal-directory"
        case NotADirectoryError():
            return "it is not a directory: use --journal-file"
        case FileNotFoundError():
            return "it does not exist"
        case OSError(errno=errno.EBADMSG | errno.ENODATA | errno.EPROTONOSUPPORT):
            return f"{error.strerror}: it is damaged, no journal, or of a newer systemd"
    return str(error.strerror)


def _go_to(reader: _Reader, cursor: str) -> bool:
    """Go to the entry with this cursor; False when there is none."""
    try:
        reader.seek_cursor(cursor)
        return reader._next() and reader.test_cursor(cursor)
    except (ValueError, OSError):
        # ValueError: an empty or broken cursor.
        return False


def _go_before(reader: _Reader, realtime_us: int) -> None:
    """Put ``reader`` on the entry before the first of ``realtime_us`` or later.

    Leaving it at "that time" instead would hide later entries whose time is earlier, after the clock was set
    back.
    """
    reader.seek_realtime(min(max(0, realtime_us), _LATEST_US))
    if reader._next():
        if not reader._previous():
            reader.seek_head()
    else:
        reader.seek_tail()
        if not reader._previous():
            reader.seek_head()


def _last_ignored(reader: _Reader) -> _Place | None:
    """The journal's last entry, unless it may be one that the matches let through."""
    reader.seek_tail()
    if not reader._previous() or _field(reader, "_TRANSPORT") in (b"kernel", b"driver"):
        return None
    return _place_of(reader)


def _place_of(reader: _Reader) -> _Place:
    monotonic_us, boot = reader._get_monotonic()
    return _Place(reader._get_cursor(), boot.hex(), monotonic_us, reader._get_realtime())


def _field(reader: _Reader, name: str) -> bytes:
    """A field's first value; b"" when the entry has none; OSError."""
    try:
        return reader._get(name)
    except LookupError:
        return b""
    except ValueError as error:
        raise OSError(errno.EBADMSG, str(error)) from error


def _adjoin(earlier: str, later: str) -> bool:
    """Whether no entry was between those with these two cursors."""
    first, second = _SEQUENCE.match(earlier), _SEQUENCE.match(later)
    return bool(first and second and first[1] == second[1] and int(second[2], 16) <= int(first[2], 16) + 1)


def _running_boot() -> str:
    """The running boot's id; "" where it cannot be read."""
    try:
        return _BOOT_ID.read_text().strip().replace("-", "")
    except OSError:
        return ""


def _utc(realtime_us: int) -> str:
    return datetime.fromtimestamp(realtime_us / 1e6, UTC).isoformat(timespec="seconds")
