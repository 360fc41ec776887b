from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from kiptail.journal.bookmark import Bookmark
from kiptail.journal.position import Position
from kiptail.journal.source_clock import SourceClock

BOOT = "b0070000000000000000000000000001"
GONE = OSError(99, "Cannot assign requested address")


def entry(n: int, boot: str = BOOT) -> Position:
    return Position(f"cursor {n}", boot, n, 1000 + n)


class Reader:
    """A journal in memory, with what is called of systemd's reader; -1 is its head."""

    def __init__(self, entries: list[Position]) -> None:
        self.entries = entries
        self.at = -1
        self.gone = False

    def _current(self) -> Position:
        if self.gone:
            raise GONE
        return self.entries[self.at]

    def _next(self) -> bool:
        moves = self.at + 1 < len(self.entries)
        self.at += moves
        return moves

    def _previous(self) -> bool:
        moves = self.at > 0
        self.at -= moves
        return moves

    def seek_cursor(self, cursor: str) -> None:
        self.at = next((n for n, entry in enumerate(self.entries) if entry.cursor == cursor), 0) - 1

    def test_cursor(self, cursor: str) -> bool:
        return self._current().cursor == cursor

    def seek_head(self) -> None:
        self.at = -1

    def seek_tail(self) -> None:
        self.at = len(self.entries)

    def seek_realtime(self, realtime: int) -> None:
        after = (n for n, entry in enumerate(self.entries) if entry.realtime_us >= realtime)
        self.at = next(after, len(self.entries)) - 1

    def seek_monotonic(self, monotonic: timedelta, bootid: str) -> None:
        monotonic_us = monotonic // timedelta(microseconds=1)
        after = (n for n, entry in enumerate(self.entries) if entry.monotonic_us >= monotonic_us)
        self.at = next(after, len(self.entries)) - 1

    def add_match(self, match: str) -> None:
        assert match == f"_BOOT_ID={BOOT}"

    def flush_matches(self) -> None: ...

    def _get_cursor(self) -> str:
        return self._current().cursor

    def _get_monotonic(self) -> tuple[int, bytes]:
        return self._current().monotonic_us, bytes.fromhex(self._current().boot_id)

    def _get_realtime(self) -> int:
        return self._current().realtime_us


class Losses:
    """Which positions were looked at for losses."""

    def __init__(self) -> None:
        self.asked: list[Position] = []

    def report(self, reader: object, position: Position) -> None:
        self.asked.append(position)


def bookmark(
    position: Position | None = None, since_us: int | None = None, *, line: Position | None = None
) -> tuple[Any, Losses]:
    losses = Losses()
    return Bookmark(position, since_us, BOOT, losses, lambda: line), losses  # type: ignore[arg-type]


def rest(mark: Bookmark, reader: Any) -> list[int]:
    """The entries that are still to come, by their numbers."""
    found = []
    while reader._next():
        if mark.skip is None or not mark.skip(reader):
            found.append(reader._current().monotonic_us)
        mark.note_moved()
    mark.note_end()
    return found


def test_without_anything_asked_for_reading_begins_at_the_head() -> None:
    mark, losses = bookmark()
    reader = Reader([entry(n) for n in range(3)])
    mark.go_there(reader)
    mark.report_loss(reader)
    assert mark.position(reader) is None
    assert rest(mark, reader) == [0, 1, 2]
    assert mark.position(reader) == entry(2)
    assert losses.asked == []


def test_reading_goes_on_after_the_entry_with_the_cursor() -> None:
    mark, losses = bookmark(replace(entry(1), clock=SourceClock(BOOT, 1, 2)))
    reader = Reader([entry(n) for n in range(4)])
    mark.go_there(reader)
    assert mark.skip is None
    assert mark.position(reader) == entry(1), "without the clocks: an entry's position has none"
    assert rest(mark, reader) == [2, 3]
    assert losses.asked == []


def test_without_the_cursors_entry_what_was_read_is_skipped_until_the_end() -> None:
    mark, losses = bookmark(replace(entry(2), cursor="gone"))
    reader = Reader([entry(n) for n in range(5)])
    mark.go_there(reader)
    assert losses.asked == [replace(entry(2), cursor="gone")]
    assert mark.skip is not None
    assert rest(mark, reader) == [3, 4]
    assert mark.skip is None
    assert mark.position(reader) == entry(4)


def test_while_entries_are_skipped_the_position_stays() -> None:
    known = replace(entry(2), cursor="gone")
    mark, _ = bookmark(known)
    reader = Reader([entry(n) for n in range(5)])
    mark.go_there(reader)
    reader.at = 1
    assert mark.skip(reader)
    mark.note_moved()
    assert mark.position(reader) == known
    reader.gone = True
    assert not mark.skip(reader), "better twice than never"
    assert mark.position(reader) == known


def test_a_time_asked_for_is_known_until_something_was_read() -> None:
    mark, losses = bookmark(since_us=1002)
    reader = Reader([entry(n) for n in range(4)])
    mark.go_there(reader)
    assert (mark.position(reader), mark.asked_for_us) == (entry(1), 1002)
    assert rest(mark, reader) == [2, 3]
    assert (mark.position(reader), mark.asked_for_us) == (entry(3), None)
    mark.report_loss(reader)
    assert losses.asked == [entry(3)]


def test_a_position_wins_over_a_time() -> None:
    mark, _ = bookmark(entry(0), 1003)
    reader = Reader([entry(n) for n in range(4)])
    mark.go_there(reader)
    assert mark.asked_for_us is None
    assert rest(mark, reader) == [1, 2, 3]


@pytest.mark.parametrize("stored", [True, False])
def test_a_beginning_before_all_entries_says_nothing_of_deleted_ones(stored: bool) -> None:
    mark, losses = bookmark(replace(entry(0), cursor="")) if stored else bookmark(since_us=0)
    reader = Reader([entry(n) for n in range(1, 4)])
    mark.go_there(reader)
    mark.report_loss(reader)
    assert mark.position(reader).cursor == ""
    assert losses.asked == []
    assert rest(mark, reader) == [1, 2, 3]


def test_a_reader_that_cannot_tell_has_its_last_lines_position() -> None:
    line = replace(entry(1), cursor="")
    reader = Reader([entry(n) for n in range(3)])
    for last_line, expected in ((line, line), (None, entry(0))):
        mark, _ = bookmark(entry(0), line=last_line)
        reader.gone = False
        mark.go_there(reader)
        reader._next()
        mark.note_moved()
        reader.gone = True
        assert mark.position(reader) == expected
        reader.gone = False
        assert mark.position(reader) == expected, "it is asked for once"


def test_without_a_reader_the_known_position_answers() -> None:
    mark, _ = bookmark(entry(0))
    mark.note_moved()
    assert mark.position(None) == entry(0)


def test_the_position_moves_over_ignored_entries_and_never_back() -> None:
    mark, _ = bookmark(entry(1))
    reader = Reader([entry(n) for n in range(4)])
    mark.go_there(reader)
    mark.pass_to(entry(3), reader)
    mark.pass_to(entry(2), reader)
    assert mark.position(reader) == entry(3)
