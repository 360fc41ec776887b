"""Where a reader is put, for a position or a time, in journals of several boots and with a clock that was set."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from kiptail.journal.position import Position
from kiptail.journal.reader import Reader, field, open_directory, position_of
from kiptail.journal.seeking import begin, go_after, go_to, is_passed_by
from tests.support.journald import BOOT, Fields, export_to_journal, kernel_entry

OTHER_BOOT = "b0070000000000000000000000000002"
SECOND = 1_000_000
START = 1_700_000_000 * SECOND
HOUR = 3600 * SECOND
Opener = Callable[..., Reader]


def entry(n: int, *, boot_id: str = BOOT, shift_us: int = 0) -> Fields:
    """That of the n-th second, by a wall clock that is set ``shift_us`` too far."""
    realtime_us = START + n * SECOND + shift_us
    return kernel_entry(str(n), realtime_us=realtime_us, monotonic_us=(n + 100) * SECOND, boot_id=boot_id)


def position(n: int, *, boot_id: str = BOOT, cursor: str = "") -> Position:
    return Position(cursor, boot_id, (n + 100) * SECOND, START + n * SECOND)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Opener]:
    """Writes each argument's entries to a file, one after the other, and opens all of them."""
    with ExitStack() as stack:

        def opened(*files: list[Fields]) -> Reader:
            for number, entries in enumerate(files):
                export_to_journal(entries, tmp_path / f"{number}.journal")
            reader = open_directory(tmp_path)
            stack.callback(reader.close)
            return reader

        yield opened


def rest(reader: Reader) -> list[int]:
    """What is read from here on."""
    found = []
    while reader._next():
        found.append(int(field(reader, "MESSAGE")))
    return found


def cursors(reader: Reader) -> list[str]:
    """Of all entries; the reader is at the head again."""
    found = []
    while reader._next():
        found.append(reader._get_cursor())
    reader.seek_head()
    return found


# -- a cursor -----------------------------------------------------------------------------------------------------


def test_a_cursor_leads_to_its_entry(journal: Opener) -> None:
    reader = journal([entry(n) for n in range(4)])
    assert go_to(reader, cursors(reader)[1])
    assert field(reader, "MESSAGE") == b"1"
    assert rest(reader) == [2, 3]


def test_the_cursor_of_an_entry_that_went_leads_nowhere(journal: Opener, tmp_path: Path) -> None:
    """sd_journal_seek_cursor(3) would go to the one that is nearest."""
    export_to_journal([entry(n) for n in range(3)], tmp_path / "whole" / "a.journal")
    whole = open_directory(tmp_path / "whole")
    gone = cursors(whole)[1]
    whole.close()
    assert not go_to(journal([entry(0), entry(2)]), gone)


@pytest.mark.parametrize("cursor", ["", "nonsense", "s=zz;i=1", "a\0b", "s=0;i=1;b=0;m=0;t=0;x=0"])
def test_what_is_no_cursor_leads_nowhere(journal: Opener, cursor: str) -> None:
    assert not go_to(journal([entry(1)]), cursor)


def test_an_empty_journal_has_no_entry_to_go_to(journal: Opener) -> None:
    assert not go_to(journal([]), "s=0;i=1;b=0;m=0;t=0;x=0")


# -- a boot that the order hides ------------------------------------------------------------------------------------


def test_entries_of_the_running_boot_that_are_dated_before_pass_a_position(journal: Opener) -> None:
    """The wall clock was ahead in the boot before."""
    reader = journal([entry(n, boot_id=OTHER_BOOT, shift_us=HOUR) for n in range(3)], [entry(n) for n in range(5, 7)])
    at = cursors(reader)
    assert go_to(reader, at[-1])
    assert is_passed_by(reader, position_of(reader), BOOT)


def test_a_reader_whose_position_nothing_passes_stays_there_and_sees_all_fields(journal: Opener) -> None:
    reader = journal([entry(n, boot_id=OTHER_BOOT) for n in range(3)], [entry(n) for n in range(5, 7)])
    assert go_to(reader, cursors(reader)[1])
    assert not is_passed_by(reader, position_of(reader), BOOT)
    assert rest(reader) == [2, 5, 6], "no match is left behind"


@pytest.mark.parametrize("running", [BOOT, "", "no id"])
def test_only_an_earlier_boots_position_can_be_passed(journal: Opener, running: str) -> None:
    reader = journal([entry(n) for n in range(3)])
    assert go_to(reader, cursors(reader)[1])
    assert not is_passed_by(reader, position_of(reader), running)
    assert rest(reader) == [2]


def test_a_position_whose_entry_went_meanwhile_counts_as_passed(journal: Opener) -> None:
    reader = journal([entry(n, boot_id=OTHER_BOOT) for n in range(3)])
    assert is_passed_by(reader, position(1, boot_id=OTHER_BOOT, cursor="s=0;i=1;b=0;m=0;t=0;x=0"), BOOT)


# -- a position without an entry --------------------------------------------------------------------------------------


def test_reading_goes_on_at_the_last_entry_that_was_read(journal: Opener) -> None:
    """What was read may come once more, and the caller skips it."""
    reader = journal([entry(n) for n in range(6)])
    go_after(reader, position(3), BOOT)
    assert rest(reader) == [3, 4, 5]


def test_a_clock_that_was_set_back_within_the_boot_hides_nothing(journal: Opener) -> None:
    reader = journal([entry(n) for n in range(3)], [entry(n, shift_us=-HOUR) for n in range(3, 6)])
    go_after(reader, position(2), BOOT)
    assert {3, 4, 5} <= set(rest(reader))


@pytest.mark.parametrize("shift_us", [-HOUR, 0, HOUR])
def test_the_running_boots_entries_are_all_unread(journal: Opener, shift_us: int) -> None:
    older = [entry(n, boot_id=OTHER_BOOT) for n in range(4)]
    reader = journal(older, [entry(n, shift_us=shift_us) for n in range(5, 8)])
    go_after(reader, position(2, boot_id=OTHER_BOOT), BOOT)
    assert {3, 5, 6, 7} <= set(rest(reader))


def test_entries_of_all_boots_are_read_on(journal: Opener) -> None:
    boots = (OTHER_BOOT, OTHER_BOOT, OTHER_BOOT, "b0070000000000000000000000000003", BOOT)
    reader = journal([entry(n, boot_id=boot_id) for n, boot_id in enumerate(boots)])
    go_after(reader, position(1, boot_id=OTHER_BOOT), BOOT)
    assert rest(reader) == [1, 2, 3, 4], "no match is left behind"


@pytest.mark.parametrize("boot_id", ["", "?"])
def test_without_a_boot_the_wall_clock_says_where_to_go_on(journal: Opener, boot_id: str) -> None:
    reader = journal([entry(n) for n in range(6)])
    go_after(reader, replace(position(4), boot_id=boot_id), boot_id)
    assert rest(reader) == [4, 5]


def test_a_time_beyond_the_end_leaves_the_reader_at_the_last_entry(journal: Opener, tmp_path: Path) -> None:
    """And not at that time, which would hide what is written with a clock that was set back."""
    reader = journal([entry(n) for n in range(3)])
    go_after(reader, replace(position(50), boot_id="?"), "")
    assert rest(reader) == []
    export_to_journal([entry(9, boot_id=OTHER_BOOT, shift_us=-SECOND)], tmp_path / "0.journal")
    reader.process()
    assert rest(reader) == [9]


def test_a_position_beyond_the_end_of_its_boot_hides_nothing_of_the_next(journal: Opener) -> None:
    reader = journal([entry(n, boot_id=OTHER_BOOT) for n in range(3)], [entry(n) for n in range(5, 7)])
    go_after(reader, position(50, boot_id=OTHER_BOOT), BOOT)
    assert {5, 6} <= set(rest(reader))


def test_a_position_before_all_entries_reads_them_all(journal: Opener) -> None:
    reader = journal([entry(n) for n in range(3)])
    go_after(reader, replace(position(0), monotonic_us=0, realtime_us=0), BOOT)
    assert rest(reader) == [0, 1, 2]


# -- a time -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since_us", "last", "left"),
    [
        pytest.param(START + 2 * SECOND, 1, [2, 3], id="that of an entry"),
        pytest.param(START + 2 * SECOND + 1, 2, [3], id="between two"),
        pytest.param(START + HOUR, 3, [], id="after all"),
        pytest.param(2**70, 3, [], id="beyond what can be asked for"),
    ],
)
def test_reading_begins_behind_the_last_entry_from_before(
    journal: Opener, since_us: int, last: int, left: list[int]
) -> None:
    reader = journal([entry(n) for n in range(4)])
    found = begin(reader, since_us, OTHER_BOOT)
    assert replace(found, cursor="") == position(last)
    assert rest(reader) == left
    assert go_to(reader, found.cursor), "it names that entry"


@pytest.mark.parametrize("since_us", [START, 0, -5])
def test_without_an_entry_from_before_the_position_is_a_time_of_the_running_boot(
    journal: Opener, since_us: int
) -> None:
    reader = journal([entry(n) for n in range(2)])
    assert begin(reader, since_us, BOOT) == Position("", BOOT, 0, max(0, since_us)), "before that boot: its beginning"
    assert rest(reader) == [0, 1]


@pytest.mark.parametrize("ago_us", [SECOND, -HOUR], ids=["a second ago", "in an hour"])
def test_in_an_empty_journal_reading_begins_at_that_time_and_never_later_than_now(journal: Opener, ago_us: int) -> None:
    before_us, monotonic_us = time.time_ns() // 1000, time.monotonic_ns() // 1000
    found = begin(journal([]), before_us - ago_us, BOOT)
    spent_us = time.monotonic_ns() // 1000 - monotonic_us
    assert (found.cursor, found.boot_id) == ("", BOOT)
    past_us = max(0, ago_us)
    assert 0 <= found.realtime_us - (before_us - past_us) <= spent_us + SECOND // 100
    assert -SECOND // 100 <= found.monotonic_us - max(0, monotonic_us - past_us) <= spent_us + SECOND // 100
