"""systemd's reader (sd-journal(3)): open one, say what is read, ask for the entry that it is at.

The only module that imports ``systemd.journal``.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, cast

import systemd.journal as systemd_journal

from kiptail.journal.entry import ENDED_MESSAGE_IDS, MISSED_MESSAGE_ID, STARTED_MESSAGE_ID
from kiptail.journal.position import Position

__all__ = [
    "ID128",
    "Reader",
    "changed",
    "field",
    "match_kernel",
    "match_unit",
    "match_words_of_systemd",
    "open_directory",
    "open_files",
    "open_machine",
    "position_of",
    "running_boot",
]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
#: A boot's id, and a machine's: the names of the sub-directories that sd_journal_open_directory(3) enters.
ID128 = re.compile(r"[0-9a-f]{32}")


# More than 15 methods: it mirrors one class of systemd's, and whoever reads an entry needs the one that moved there.
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


def open_files(files: Sequence[Path]) -> Reader:
    """Of these files, at the head, without matches; OSError."""
    return cast(Reader, systemd_journal.Reader(files=[str(file) for file in files]))


def open_directory(directory: Path) -> Reader:
    """Of the files in ``directory``, and in MACHINE_ID directories there, at the head, without matches; OSError."""
    return cast(Reader, systemd_journal.Reader(path=str(directory)))


def open_machine() -> Reader:
    """Of this machine's journal, at the head, without matches; OSError."""
    # Only files of this machine, in /run and in /var. Those of users' sessions never hold a kernel line,
    # and being written to rarely they reach back further, which would hide that the system's were
    # deleted.
    return cast(Reader, systemd_journal.Reader(systemd_journal.LOCAL_ONLY | systemd_journal.SYSTEM_ONLY))


def match_kernel(reader: Reader, units: Sequence[str] = ()) -> None:
    """Let only kernel lines, and journald's notices of missed ones, through; ``reader`` stays where it is.

    And what is logged in these units, of which whoever reads it has to see that ulogd wrote it, with all that journald
    says of itself. A term more, or a field more in one, is looked up for each entry: 0.1 to 0.5 µs of 5.
    """
    reader.add_match("_TRANSPORT=kernel")
    if units:
        reader.add_match("_TRANSPORT=driver")
        reader.add_disjunction()
        reader.add_match(*(f"_SYSTEMD_UNIT={unit}" for unit in units))
        return
    reader.add_disjunction()
    # With the transport, for any user can send the MESSAGE_ID.
    reader.add_match("_TRANSPORT=driver", f"MESSAGE_ID={MISSED_MESSAGE_ID}")


def match_unit(reader: Reader, unit: str, message_ids: Sequence[str]) -> None:
    """Let only entries through that a unit sent to journald itself, with one of these ids.

    Any program may send the id, but only journald says of which unit the sender is, by its control group.
    """
    reader.add_match("_TRANSPORT=journal", f"_SYSTEMD_UNIT={unit}", *(f"MESSAGE_ID={each}" for each in message_ids))


def match_words_of_systemd(reader: Reader, boot: str, unit: str = "") -> None:
    """Let only what systemd itself says of a unit in this boot through, without one what it says to have started.

    A user can send these messages, but not as process 1: journald asks the kernel who wrote them.
    """
    reader.flush_matches()
    reader.add_match("_PID=1", "_TRANSPORT=journal", f"_BOOT_ID={boot}", f"MESSAGE_ID={STARTED_MESSAGE_ID}")
    if unit:
        reader.add_match(f"UNIT={unit}", *(f"MESSAGE_ID={message_id}" for message_id in ENDED_MESSAGE_IDS))


def changed(reader: Reader) -> bool:
    """Take note of new and deleted files; whether entries may have gone, or come before others."""
    return bool(reader.process() == systemd_journal.INVALIDATE)


def position_of(reader: Reader) -> Position:
    """The position of the entry that the reader is at; OSError."""
    monotonic_us, boot = reader._get_monotonic()
    return Position(reader._get_cursor(), boot.hex(), monotonic_us, reader._get_realtime())


def field(reader: Reader, name: str) -> bytes:
    """A field's first value; b"" when the entry has none; OSError."""
    try:
        return reader._get(name)
    except LookupError:
        return b""
    except ValueError as error:
        raise OSError(errno.EBADMSG, str(error)) from error


def running_boot() -> str:
    """The running boot's id; "" where it cannot be read."""
    try:
        return _BOOT_ID.read_text().strip().replace("-", "")
    except OSError:
        return ""
