"""Put systemd's reader at a position in the journal, or at a time."""

from __future__ import annotations

import contextlib
import time
from datetime import timedelta

from kiptail.journal.position import Position
from kiptail.journal.reader import ID128, Reader, position_of

__all__ = ["begin", "go_after", "go_to", "is_passed_by"]

#: The latest time that sd_journal_seek_realtime_usec(3) can be asked for.
_LATEST_US = 2**63 - 1


def go_to(reader: Reader, cursor: str) -> bool:
    """Go to the entry with this cursor; False when there is none."""
    try:
        reader.seek_cursor(cursor)
        return reader._next() and reader.test_cursor(cursor)
    except (ValueError, OSError):
        # ValueError: an empty or broken cursor.
        return False


def is_passed_by(reader: Reader, position: Position, running_boot: str) -> bool:
    """Whether entries of the running boot may be before ``position``, of an earlier one; ``reader`` stays there.

    Files that journald did not close, as after a power failure, are put in order by the wall clock, and that may
    have been ahead before.
    """
    if position.boot_id == running_boot or not ID128.fullmatch(running_boot):
        return False
    reader.add_match(f"_BOOT_ID={running_boot}")
    reader.seek_head()
    passed = reader._next() and reader._get_realtime() <= position.realtime_us
    reader.flush_matches()
    return passed or not go_to(reader, position.cursor)


def go_after(reader: Reader, position: Position, running_boot: str) -> None:
    """Put ``reader``, in which ``position``'s cursor was not found, where nothing unread is before it.

    The wall clock may have been set back since. So the first unread entry of the position's boot and the first one
    of the running boot are looked for by their boots. What has been read is left for the caller to skip.
    """
    moments = [position.realtime_us]
    for boot_id, monotonic_us in {running_boot: 0, position.boot_id: position.monotonic_us + 1}.items():
        if not ID128.fullmatch(boot_id):
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


def begin(reader: Reader, since_us: int, running_boot: str) -> Position:
    """Put ``reader`` before the first entry of ``since_us`` or later (realtime, µs), and tell where that is.

    Without an entry to name, the position is that time in the running boot; never one in the future, for entries
    until then are read as well.
    """
    if _go_before(reader, since_us):
        # Failing that, its file has been vacuumed just now.
        with contextlib.suppress(OSError):
            return position_of(reader)
    now_us, monotonic_us = time.time_ns() // 1000, time.monotonic_ns() // 1000
    realtime_us = min(max(0, since_us), now_us)
    return Position("", running_boot, max(0, monotonic_us - (now_us - realtime_us)), realtime_us)
