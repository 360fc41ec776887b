"""Which journal is read: its name, its ends, and what is said where it cannot be read."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from kiptail.errors import JournalError
from kiptail.journal import source as module
from kiptail.journal.entry import MISSED_MESSAGE_ID
from kiptail.journal.position import Position
from kiptail.journal.reader import position_of
from kiptail.journal.source import Source, reason, unreadable
from tests.support.journald import BOOT, Fields, export_to_journal, kernel_entry

MACHINE_ID = "3000000000000000000000000000000d"
SECOND = 1_000_000
START = 1_700_000_000 * SECOND


def entry(n: int, transport: str = "kernel", **fields: object) -> Fields:
    given = {"_TRANSPORT": transport, **fields}
    return kernel_entry(str(n), realtime_us=START + n * SECOND, monotonic_us=n * SECOND, boot_id=BOOT, **given)


def positions(source: Source) -> list[Position]:
    found = []
    with closing(source.open()) as reader:
        while reader._next():
            found.append(position_of(reader))
    return found


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    found = tmp_path / "journal"
    found.mkdir()
    return found


@pytest.fixture
def source(directory: Path) -> Source:
    return Source(directory, ())


# -- which ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "name", "grows"),
    [
        (Source(None, ()), "this machine's journal", True),
        (Source(Path("/j"), ()), "the journal directory /j", True),
        (Source(None, (Path("/a"), Path("/b"))), "the journal file /a, /b", False),
    ],
    ids=["machine", "directory", "files"],
)
def test_its_name_and_whether_files_come_and_go(source: Source, name: str, grows: bool) -> None:
    assert (str(source), source.grows) == (name, grows)


def test_a_reader_begins_at_the_head_without_matches(directory: Path, source: Source) -> None:
    export_to_journal([entry(1, "syslog"), entry(2)], directory / "a.journal")
    export_to_journal([entry(3)], directory / "b.journal")
    first, second, third = positions(source)
    assert (first.realtime_us, third.realtime_us) == (START + SECOND, START + 3 * SECOND)
    assert positions(Source(None, (directory / "a.journal",))) == [first, second]


# -- its ends ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["journal", "syslog", "stdout", "audit"])
def test_the_last_entry_has_a_position_where_no_match_lets_it_through(
    directory: Path, source: Source, transport: str
) -> None:
    export_to_journal([entry(1), entry(2, transport)], directory / "a.journal")
    assert source.end() == (positions(source)[-1], START + 2 * SECOND)


@pytest.mark.parametrize("transport", ["kernel", "driver"])
def test_a_last_entry_that_may_be_let_through_has_a_time_only(directory: Path, source: Source, transport: str) -> None:
    """A notice of missed lines is such an entry, too."""
    export_to_journal([entry(1, "journal"), entry(2, transport, MESSAGE_ID=MISSED_MESSAGE_ID)], directory / "a.journal")
    assert source.end() == (None, START + 2 * SECOND)


def test_the_end_includes_files_that_came_later(directory: Path, source: Source) -> None:
    export_to_journal([entry(1, "journal")], directory / "a.journal")
    before = source.end()
    export_to_journal([entry(2, "journal")], directory / "b.journal")
    last, end_us = source.end()
    assert before[1] == START + SECOND
    assert (last, end_us) == (positions(source)[-1], START + 2 * SECOND)


def test_nothing_was_deleted_where_the_next_entry_is_the_first(directory: Path, source: Source) -> None:
    export_to_journal([entry(n) for n in range(4)], directory / "a.journal")
    read = positions(source)[0]
    assert source.deleted_until(read) is None
    before = int(read.cursor.split(";")[1].removeprefix("i="), 16) - 1
    earlier = read.cursor.replace(read.cursor.split(";")[1], f"i={before:x}")
    assert source.deleted_until(replace(read, cursor=earlier)) is None


def test_entries_are_missing_up_to_the_first_one_that_is_left(directory: Path, source: Source, tmp_path: Path) -> None:
    export_to_journal([entry(n) for n in range(4)], tmp_path / "before" / "a.journal")
    read = positions(Source(tmp_path / "before", ()))[1]
    export_to_journal([entry(n) for n in (3, 4)], directory / "a.journal")
    assert source.deleted_until(read) == START + 3 * SECOND, "of another file"
    assert source.deleted_until(replace(read, cursor="")) == START + 3 * SECOND, "nobody knows"


def test_of_an_empty_journal_nothing_is_said_to_be_missing(directory: Path, source: Source) -> None:
    export_to_journal([], directory / "a.journal")
    assert source.deleted_until(Position("", BOOT, 0, START)) is None


# -- why it cannot be read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["system.journal", "system@1.journal~", f"{MACHINE_ID}/system.journal"])
def test_one_file_that_can_be_read_is_enough(directory: Path, source: Source, name: str) -> None:
    (directory / "damaged.journal").write_bytes(b"x" * 10_000)
    whole = directory.parent / "whole.journal"
    export_to_journal([entry(1)], whole)
    (directory / name).parent.mkdir(exist_ok=True)
    whole.rename(directory / name)
    source.check()


@pytest.mark.parametrize("name", ["journal.txt", "system.journal.bak", "elsewhere/system.journal"])
def test_other_files_and_directories_are_none_of_a_journal(directory: Path, source: Source, name: str) -> None:
    (directory / name).parent.mkdir(exist_ok=True)
    (directory / name).write_bytes(b"")
    with pytest.raises(JournalError, match=r"no \*\.journal files in the journal directory .*, nor in a MACHINE_ID"):
        source.check()


def test_each_of_the_given_files_has_to_be_readable(directory: Path) -> None:
    good, bad = directory / "good.journal", directory / "bad.journal"
    export_to_journal([entry(1)], good)
    Source(None, (good,)).check()
    bad.write_bytes(b"x" * 10_000)
    with pytest.raises(
        JournalError, match=r"cannot read the journal file .*/bad\.journal: .*it is damaged, no journal"
    ):
        Source(None, (good, bad)).check()


class Machine:
    """A reader of this machine's journal, with the files that it was given."""

    def __init__(self, *, runtime: bool, persistent: bool) -> None:
        self._runtime, self._persistent = runtime, persistent
        self.closed = False

    def has_runtime_files(self) -> bool:
        return self._runtime

    def has_persistent_files(self) -> bool:
        return self._persistent

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("runtime", "persistent"), [(True, False), (False, True)])
def test_a_machines_journal_in_either_place_will_do(
    monkeypatch: pytest.MonkeyPatch, runtime: bool, persistent: bool
) -> None:
    machine = Machine(runtime=runtime, persistent=persistent)
    monkeypatch.setattr(module, "open_machine", lambda: machine)
    Source(None, ()).check()
    assert machine.closed


@pytest.mark.parametrize(
    ("uid", "says"),
    [
        (0, "this machine has no journal: see whether systemd-journald runs; in a container, mount the host's"),
        (
            1000,
            "this machine's journal cannot be read, or there is none: add the user to the group systemd-journal",
        ),
    ],
)
def test_a_machine_without_a_journal(monkeypatch: pytest.MonkeyPatch, uid: int, says: str) -> None:
    """libsystemd opens it all the same, and says nothing of files that it may not read."""
    machine = Machine(runtime=False, persistent=False)
    monkeypatch.setattr(module, "open_machine", lambda: machine)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    with pytest.raises(JournalError) as caught:
        Source(None, ()).check()
    assert str(caught.value).startswith(says)
    assert "--journal-directory" in str(caught.value)
    assert machine.closed


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (errno.EACCES, "permission denied: add the user to the group systemd-journal, or run as root"),
        (errno.EISDIR, "it is a directory: use --journal-directory"),
        (errno.ENOTDIR, "it is not a directory: use --journal-file"),
        (errno.ENOENT, "it does not exist: see --journal-directory and --journal-file"),
        (errno.EBADMSG, "Bad message: it is damaged, no journal, or of a newer systemd"),
        (errno.EPROTONOSUPPORT, "Protocol not supported: it is damaged, no journal, or of a newer systemd"),
        (errno.EMFILE, "Too many open files"),
    ],
    ids=errno.errorcode.get,
)
def test_an_errors_reason_says_what_to_do_where_that_is_known(code: int, says: str) -> None:
    error = OSError(code, os.strerror(code))
    assert reason(error) == says
    assert str(unreadable("the journal", error)) == f"cannot read the journal: {says}"


def test_a_name_cannot_write_lines_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(JournalError) as caught:
        Source(None, (tmp_path / "a\n\x1b[31mb",)).check()
    assert str(caught.value).isprintable()
