"""systemd's reader: open the journal (sd-journal(3)), say why it cannot be read, go to a place in it.

The only module that imports ``systemd.journal``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, cast

import systemd.journal as systemd_journal

from kiptail.errors import JournalError
from kiptail.journal.entry import MISSED_MESSAGE_ID
from kiptail.text import one_line

__all__ = [
    "Place",
    "Reader",
    "Source",
    "begin",
    "field",
    "go_after",
    "go_to",
    "is_passed_by",
    "match_kernel",
    "news",
    "place_of",
    "reason",
    "running_boot",
    "unreadable",
]

#: The latest time that sd_journal_seek_realtime_usec(3) can be asked for.
_LATEST_US = 2**63 - 1
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_RIGHTS = "add the user to the group systemd-journal, or run as root"
#: The parts of a cursor that tell whether two entries adjoin. Only the text of a report hangs on them.
_SEQUENCE = re.compile(r"s=([0-9a-f]+);i=([0-9a-f]+);")
#: A boot's id, and a machine's: the names of the sub-directories that sd_journal_open_directory(3) enters.
_ID128 = re.compile(r"[0-9a-f]{32}")


class Reader(Protocol):
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
    def _get_all(self) -> dict[str, Any]: ...
    def _get_realtime(self) -> int: ...
    def _get_monotonic(self) -> tuple[int, bytes]: ...
    def _get_cursor(self) -> str: ...
    def _get_start(self) -> int: ...
    def _get_end(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry is: a :class:`~kiptail.journal.entry.Position` less the clock. The cursor may be ""."""

    cursor: str
    boot_id: str
    monotonic_us: int
    realtime_us: int


@dataclass(frozen=True, slots=True)
class Source:
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

    def open(self) -> Reader:
        """A reader at the journal's head, without matches; OSError."""
        if self.files:
            return cast(Reader, systemd_journal.Reader(files=[str(file) for file in self.files]))
        if self.directory is not None:
            return cast(Reader, systemd_journal.Reader(path=str(self.directory)))
        # Only files of this machine, in /run and in /var. Those of users' sessions never hold a kernel line,
        # and being written to rarely they reach back further, which would hide that the system's were
        # deleted.
        flags = systemd_journal.LOCAL_ONLY | systemd_journal.SYSTEM_ONLY
        return cast(Reader, systemd_journal.Reader(flags))

    def end(self) -> tuple[Place | None, int]:
        """The last entry's place, unless it may be one that :func:`match_kernel` lets through, and time; OSError."""
        with contextlib.closing(self.open()) as reader:
            return _last_ignored(reader), reader._get_end()

    def deleted_until(self, place: Place) -> int | None:
        """The first entry's time (realtime, µs), unless it is the next one after ``place``; OSError."""
        with contextlib.closing(self.open()) as reader:
            start_us = reader._get_start()
            return start_us if reader._next() and not _adjoin(place.cursor, reader._get_cursor()) else None

    def check(self) -> None:
        """JournalError when there is nothing to read: libsystemd says nothing of what it may not read."""
        if self.files:
            for file in self.files:
                refusal = _refusal(file)
                if refusal is not None:
                    raise unreadable(f"the journal file {file}", refusal) from refusal
        elif self.directory is not None:
            _check_directory(self.directory)
        else:
            with contextlib.closing(self.open()) as reader:
                if not reader.has_runtime_files() and not reader.has_persistent_files():
                    # Root may read every journal.
                    problem = "this machine has no journal: see whether systemd-journald runs"
                    if os.geteuid() != 0:
                        problem = f"this machine's journal cannot be read, or there is none: {_RIGHTS}"
                    raise JournalError(
                        f"{problem}; in a container, mount the host's and name it with --journal-directory"
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
        raise unreadable(name, error) from error
    if refusals:
        raise unreadable(f"any file of {name}", refusals[0]) from refusals[0]
    raise JournalError(one_line(f"no *.journal files in {name}, nor in a MACHINE_ID directory there"))


def _refusal(file: Path) -> OSError | None:
    """Why ``file`` cannot be read as a journal; None when it can."""
    try:
        systemd_journal.Reader(files=[str(file)]).close()
    except OSError as error:
        return error
    return None


def unreadable(name: object, error: OSError) -> JournalError:
    return JournalError(one_line(f"cannot read {name}: {reason(error)}"))


def reason(error: OSError) -> str:
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


def match_kernel(reader: Reader) -> None:
    """Let only kernel lines, and journald's notices of missed ones, through; ``reader`` stays where it is."""
    reader.add_match("_TRANSPORT=kernel")
    reader.add_disjunction()
    # With the transport, for any user can send the MESSAGE_ID.
    reader.add_match("_TRANSPORT=driver", f"MESSAGE_ID={MISSED_MESSAGE_ID}")


def news(reader: Reader) -> bool:
    """Take note of new and deleted files; whether entries may have gone, or come before others."""
    return bool(reader.process() == systemd_journal.INVALIDATE)


def go_to(reader: Reader, cursor: str) -> bool:
    """Go to the entry with this cursor; False when there is none."""
    try:
        reader.seek_cursor(cursor)
        return reader._next() and reader.test_cursor(cursor)
    except (ValueError, OSError):
        # ValueError: an empty or broken cursor.
        return False


def is_passed_by(reader: Reader, place: Place, running: str) -> bool:
    """Whether entries of the ``running`` boot may be before ``place``, of an earlier one; ``reader`` stays there.

    Files that journald did not close, as after a power failure, are put in order by the wall clock, and that may
    have been ahead before.
    """
    if place.boot_id == running or not _ID128.fullmatch(running):
        return False
    reader.add_match(f"_BOOT_ID={running}")
    reader.seek_head()
    passed = reader._next() and reader._get_realtime() <= place.realtime_us
    reader.flush_matches()
    return passed or not go_to(reader, place.cursor)


def go_after(reader: Reader, place: Place, running: str) -> None:
    """Put ``reader``, in which ``place``'s cursor was not found, where nothing unread is before it.

    The wall clock may have been set back since. So the first unread entry of the place's boot and the first one
    of the ``running`` boot are looked for by their boots. What has been read is left for the caller to skip.
    """
    moments = [place.realtime_us]
    for boot_id, monotonic_us in {running: 0, place.boot_id: place.monotonic_us + 1}.items():
        if not _ID128.fullmatch(boot_id):
            continue
        reader.add_match(f"_BOOT_ID={boot_id}")
        reader.seek_monotonic(timedelta(microseconds=monotonic_us), boot_id)
        if reader._next():
            moments.append(reader._get_realtime())
        reader.flush_matches()
    _go_before(reader, min(moments))


def _go_before(reader: Reader, realtime_us: int) -> bool:
    """Put ``reader`` on the entry before the first of ``realtime_us`` or later; False, and at the head, without one.

    Leaving it at "that time" instead would hide later entries whose time is earlier, after the clock was set
    back.
    """
    since_us = min(max(0, realtime_us), _LATEST_US)
    reader.seek_realtime(since_us)
    if reader._next():
        found = reader._previous()
    else:
        reader.seek_tail()
        found = reader._previous()
        # The last entry may have been written just now, after the search for one of that time.
        while found and reader._get_realtime() >= since_us:
            found = reader._previous()
    if not found:
        reader.seek_head()
    return found


def begin(reader: Reader, since_us: int, running: str) -> Place:
    """Put ``reader`` before the first entry of ``since_us`` or later (realtime, µs), and tell where that is.

    Without an entry to name, the place is that time in the ``running`` boot; never one in the future, for entries
    until then are read as well.
    """
    if _go_before(reader, since_us):
        # Failing that, its file has been vacuumed just now.
        with contextlib.suppress(OSError):
            return place_of(reader)
    now_us, monotonic_us = time.time_ns() // 1000, time.monotonic_ns() // 1000
    realtime_us = min(max(0, since_us), now_us)
    return Place("", running, max(0, monotonic_us - (now_us - realtime_us)), realtime_us)


def _last_ignored(reader: Reader) -> Place | None:
    """The journal's last entry, unless it may be one that the matches let through."""
    reader.seek_tail()
    if not reader._previous() or field(reader, "_TRANSPORT") in (b"kernel", b"driver"):
        return None
    return place_of(reader)


def place_of(reader: Reader) -> Place:
    monotonic_us, boot = reader._get_monotonic()
    return Place(reader._get_cursor(), boot.hex(), monotonic_us, reader._get_realtime())


def field(reader: Reader, name: str) -> bytes:
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


def running_boot() -> str:
    """The running boot's id; "" where it cannot be read."""
    try:
        return _BOOT_ID.read_text().strip().replace("-", "")
    except OSError:
        return ""
