from __future__ import annotations

import json
import logging
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kiptail.errors import JournalError
from kiptail.flows.known_lines import KnownLines
from kiptail.journal import follow as module
from kiptail.journal import reader as journal_reader
from kiptail.journal import recovery, scanner
from kiptail.journal.entry import MESSAGE_LIMIT, MISSED_MESSAGE_ID
from kiptail.journal.follow import Journal
from kiptail.journal.position import Position
from kiptail.journal.scanner import Batch
from kiptail.journal.source import Source
from kiptail.netfilter.prefixes import Prefixes, PrefixRule, Verdict
from tests.support.clock import own_clock
from tests.support.journald import (
    BOOT,
    ROOT_NEEDED,
    Fields,
    Journald,
    export_to_journal,
    kernel_entry,
    kmsg,
    netfilter_log,
    until,
)

MACHINE_ID = "3000000000000000000000000000000d"
OTHER_BOOT = "b0070000000000000000000000000002"
SECOND = 1_000_000
START = 1_700_000_000 * SECOND
HOUR = 3600 * SECOND
#: Of programs that import kiptail.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(module.__file__).parents[2])}


def any_line(message: bytes) -> bool:
    return True


def drop_lines(message: bytes) -> bool:
    return b"drop" in message


def drop(n: int, **fields: object) -> Fields:
    """The n-th second's packet drop."""
    return line(n, f"drop {n}", **fields)


def line(n: int, message: str, *, transport: str = "kernel", boot_id: str = BOOT, shift_us: int = 0) -> Fields:
    return kernel_entry(
        message,
        realtime_us=START + n * SECOND + shift_us,
        monotonic_us=(n + 100) * SECOND,
        boot_id=boot_id,
        _TRANSPORT=transport,
    )


def noise(n: int) -> Fields:
    """An entry that is no kernel line."""
    return line(n, f"drop {n}", transport="journal")


def drain(journal: Journal) -> list[str]:
    """What is left, to the journal's end."""
    messages: list[str] = []
    while True:
        batch = journal.read(100)
        messages += batch.lines
        if batch.at_end:
            return messages


def follow(journal: Journal) -> list[str]:
    """What comes next."""
    messages: list[str] = []

    def some() -> bool:
        journal.wait(1, None)
        messages.extend(drain(journal))
        return bool(messages)

    until(some, "an entry")
    return messages


def drops(numbers: Sequence[int]) -> list[str]:
    return [f"drop {n}" for n in numbers]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def read_all(directory: Path, position: Position | None = None, **arguments: object) -> tuple[list[str], Journal]:
    """Read to the end; the journal is closed, what it counted and its position can be asked."""
    with Journal(directory=directory, wanted=drop_lines, position=position, **arguments) as journal:  # type: ignore[arg-type]
        return drain(journal), journal


def position_after(directory: Path, count: int) -> Position:
    """Where a reader is that has read this many wanted entries."""
    with Journal(directory=directory, wanted=drop_lines) as journal:
        assert len(journal.read(count).lines) == count
        position = journal.position()
    assert position is not None
    return position


def position_at_start(directory: Path, since_us: int) -> Position:
    """Where a reader is that has read nothing yet."""
    with Journal(directory=directory, wanted=drop_lines, since_us=since_us) as journal:
        position = journal.position()
    assert position is not None
    return position


# Which entries are given out


def test_wanted_kernel_lines_come_in_order_with_their_times(directory: Path) -> None:
    late = kernel_entry(
        "drop 3",
        realtime_us=START + 5 * SECOND,
        monotonic_us=9 * SECOND,
        _SOURCE_MONOTONIC_TIMESTAMP=7 * SECOND,
    )
    entries = [
        kernel_entry("drop 1", realtime_us=START, monotonic_us=5 * SECOND),
        kernel_entry("eth0: link up", realtime_us=START + 1, monotonic_us=5 * SECOND + 1),
        kernel_entry("drop 2", realtime_us=START + 2, monotonic_us=5 * SECOND + 2, _SOURCE_MONOTONIC_TIMESTAMP=None),
        late,
    ]
    export_to_journal(entries, directory / "a.journal")
    with Journal(directory=directory, wanted=drop_lines) as journal:
        batch = journal.read(10)
        assert batch.lines == ["drop 1", "drop 2", "drop 3"]
        # The last one 2 s late, less 200 ppm of 2 s that may be drift.
        assert batch.times_us == [START, START + 2, START + 3 * SECOND + 400]
        assert batch.at_end
        assert (journal.counts.scanned, journal.counts.wanted) == (4, 3)


@pytest.mark.parametrize(
    ("fields", "scanned", "untrusted"),
    [
        pytest.param({"_TRANSPORT": "journal"}, 0, 0, id="native socket"),
        pytest.param({"_TRANSPORT": "syslog"}, 0, 0, id="syslog"),
        pytest.param({"SYSLOG_FACILITY": 1}, 1, 1, id="dev-kmsg"),
        pytest.param({"SYSLOG_FACILITY": None}, 1, 1, id="no facility"),
        pytest.param({"_TRANSPORT": "driver", "MESSAGE_ID": MISSED_MESSAGE_ID}, 1, 1, id="journald itself"),
        pytest.param({"_TRANSPORT": "journal", "MESSAGE_ID": MISSED_MESSAGE_ID}, 0, 0, id="forged message id"),
    ],
)
def test_what_the_kernel_did_not_write_is_not_given_out(
    directory: Path, fields: dict[str, str | int | None], scanned: int, untrusted: int
) -> None:
    forged = kernel_entry("drop forged", realtime_us=START, monotonic_us=1, **fields)
    export_to_journal([forged, drop(1)], directory / "a.journal")
    messages, journal = read_all(directory)
    assert messages == ["drop 1"]
    assert (journal.counts.scanned - 1, journal.counts.untrusted) == (scanned, untrusted)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        pytest.param(b"drop \xff\x00", "drop \\xff\x00", id="not UTF-8"),
        pytest.param(b"drop\nIN=", "drop\nIN=", id="two lines"),
        pytest.param([b"drop first", b"drop second"], "drop first", id="twice"),
        pytest.param(b"drop " + os.urandom(100_000), None, id="huge"),
        pytest.param(b"drop " * 50_000, "drop " * (MESSAGE_LIMIT // 5) + "dr", id="huge and compressed"),
    ],
)
def test_odd_messages(directory: Path, message: bytes | list[bytes], text: str | None) -> None:
    export_to_journal([kernel_entry(message, realtime_us=START, monotonic_us=1), drop(1)], directory / "a.journal")
    (odd, plain), journal = read_all(directory)
    assert plain == "drop 1"
    assert len(odd) <= 4 * MESSAGE_LIMIT if text is None else odd == text
    assert journal.counts.unreadable == 0


def test_an_entry_without_message_is_counted(directory: Path) -> None:
    empty = kernel_entry([], realtime_us=START, monotonic_us=1)
    export_to_journal([empty, drop(1)], directory / "a.journal")
    messages, journal = read_all(directory)
    assert messages == ["drop 1"]
    assert journal.counts.unreadable == 1


def test_a_field_that_cannot_be_read_is_asked_for_again(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd-python raised ValueError once while journald rotated."""
    export_to_journal([drop(1), drop(2), drop(3)], directory / "a.journal")
    failures = [ValueError("not a field"), None, None, ValueError("not a field"), OSError(74, "Bad message")]
    with Journal(directory=directory, wanted=any_line) as journal:
        reader = Faulty(journal._open_journal.reader)
        reader.before("_get", "MESSAGE", failures)
        monkeypatch.setattr(journal._open_journal, "reader", reader)
        assert drain(journal) == drops([1, 2])
        assert journal.counts.unreadable == 1


class Faulty:
    """A reader some of whose calls fail."""

    def __init__(self, reader: object) -> None:
        self._reader = reader
        self._faults: dict[tuple[str, ...], list[Exception | None]] = {}

    def before(self, method: str, argument: str | None, faults: list[Exception | None]) -> None:
        """The next calls of ``method`` (with ``argument``) raise these; None lets one through."""
        self._faults[(method,) if argument is None else (method, argument)] = faults

    def __getattr__(self, name: str) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            faults = self._faults.get((name, *map(str, arguments)), [])
            fault = faults.pop(0) if faults else None
            if fault is not None:
                raise fault
            return getattr(self._reader, name)(*arguments)

        return call


def test_journalds_notice_of_missed_messages_is_counted_when_it_is_journalds(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def notice(n: int, count: int, transport: str, message_id: str | None = MISSED_MESSAGE_ID) -> Fields:
        return kernel_entry(
            f"Missed {count} kernel messages",
            realtime_us=START + n,
            monotonic_us=n + 1,
            _TRANSPORT=transport,
            MESSAGE_ID=message_id,
        )

    entries = [
        notice(1, 3, "driver"),
        notice(2, 50, "journal"),
        notice(3, 60, "kernel", None),
        notice(4, 4, "driver"),
    ]
    export_to_journal([*entries, notice(5, 70, "driver", None), drop(1)], directory / "a.journal")
    messages, journal = read_all(directory)
    assert messages == ["drop 1"]
    assert (journal.counts.missed, journal.counts.missed_notices) == (7, 2)
    assert [record.getMessage()[:26] for record in caplog.records] == [
        "journald missed 3 kernel m",
        "journald missed 4 kernel m",
    ]


# Where reading starts and where it stops


def test_a_batch_holds_no_more_than_its_limit(directory: Path) -> None:
    export_to_journal([drop(n) for n in range(7)], directory / "a.journal")
    with Journal(directory=directory, wanted=drop_lines) as journal:
        sizes = [(len(batch.lines), batch.at_end) for batch in (journal.read(3) for _ in range(4))]
    assert sizes == [(3, False), (3, False), (1, True), (0, True)]


def test_a_batch_ends_after_a_while_even_if_nothing_is_wanted(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals and the watchdog are served between batches."""
    monkeypatch.setattr(scanner, "_SCAN_SECONDS", 0.0)
    export_to_journal([line(n, "link up") for n in range(2 * scanner._SCAN_STEP)], directory / "a.journal")
    clock = own_clock(lambda: (START + HOUR) / 1e6)
    with Journal(directory=directory, wanted=drop_lines, clock=clock) as journal:
        assert journal.read(1).at_end is False
        assert journal.counts.scanned == scanner._SCAN_STEP
        assert journal.lag_us() == HOUR - (scanner._SCAN_STEP - 1) * SECOND
        assert drain(journal) == []
        assert journal.counts.scanned == 2 * scanner._SCAN_STEP
        assert journal.lag_us() == 0


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        pytest.param(None, range(6), id="head"),
        pytest.param(START, range(6), id="the first entry's time"),
        pytest.param(-5, range(6), id="before the epoch"),
        pytest.param(START + 2 * SECOND, range(2, 6), id="inclusive"),
        pytest.param(START + 2 * SECOND + 1, range(3, 6), id="between"),
        pytest.param(START + 3 * SECOND, range(3, 6), id="the second file's first"),
        pytest.param(START + 5 * SECOND + 1, (), id="after the last"),
        pytest.param(2**70, (), id="beyond all time"),
    ],
)
def test_since(directory: Path, since: int | None, expected: Sequence[int]) -> None:
    export_to_journal([drop(n) for n in range(3)], directory / "a.journal")
    export_to_journal([drop(n) for n in range(3, 6)], directory / "b.journal")
    assert read_all(directory, since_us=since)[0] == drops(expected)
    if since is not None:
        messages, journal = read_all(directory, position_at_start(directory, since))
        assert messages == drops(expected), "from the position that is known before anything is read"
        assert journal.counts.lost == 0


def test_after_since_nothing_is_hidden_by_a_clock_set_back(directory: Path) -> None:
    export_to_journal([drop(1)], directory / "a.journal")
    with Journal(directory=directory, wanted=drop_lines, since_us=START + HOUR) as journal:
        assert drain(journal) == []
        export_to_journal([drop(2)], directory / "b.journal")
        assert drain(journal) == ["drop 2"]


def test_an_empty_journal_is_read_from_its_first_entry(directory: Path) -> None:
    export_to_journal([drop(1)], directory / "a.journal")
    blank = directory / "blank"
    (blank / MACHINE_ID).mkdir(parents=True)
    export_to_journal([], blank / "a.journal")
    for since in (None, START + HOUR):
        with Journal(directory=blank, wanted=drop_lines, since_us=since) as journal:
            assert drain(journal) == []
            assert (journal.position() is None) is (since is None)
            shutil.copy(directory / "a.journal", blank / MACHINE_ID / "b.journal")
            assert drain(journal) == ["drop 1"]
            assert journal.counts.lost == 0
        (blank / MACHINE_ID / "b.journal").unlink()


def test_an_entry_written_while_the_start_is_looked_for_is_read(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came after the search for "that time or later" had found none, and is the last one now."""
    export_to_journal([drop(1)], directory / "a.journal")
    whole_open = Source.open

    def open_slowly(source: Source) -> Slow:
        return Slow(whole_open(source), lambda: export_to_journal([drop(3), drop(4)], directory / "a.journal"))

    with monkeypatch.context() as patch:
        patch.setattr(Source, "open", open_slowly)
        position = position_at_start(directory, START + 2 * SECOND)
    assert position.realtime_us == START + SECOND
    assert read_all(directory, position)[0] == drops([3, 4])


class Slow:
    """A reader to which something happens before it goes to the tail."""

    def __init__(self, reader: Any, happens: Callable[[], None]) -> None:
        self._reader, self._happens = reader, happens

    def __getattr__(self, name: str) -> object:
        return getattr(self._reader, name)

    def seek_tail(self) -> None:
        self._happens()
        self._reader.seek_tail()


class Uptime:
    """Entries of the running boot, at seconds from now by both clocks."""

    def __init__(self) -> None:
        self.boot_id = journal_reader.running_boot()
        self.realtime_us, self.monotonic_us = time.time_ns() // 1000, time.monotonic_ns() // 1000

    def drop(self, name: str, seconds: int, *, shift_us: int = 0) -> Fields:
        """``shift_us``: what the wall clock has been set by."""
        return kernel_entry(
            f"drop {name}",
            realtime_us=self.realtime_us + seconds * SECOND + shift_us,
            monotonic_us=self.monotonic_us + seconds * SECOND,
            boot_id=self.boot_id,
        )


def blank(directory: Path) -> Path:
    """A journal without entries."""
    export_to_journal([], directory / "a.journal")
    return directory


@pytest.mark.parametrize("ago_s", [0, 20, 10**9])
def test_where_reading_begins_in_an_empty_journal_is_a_time(directory: Path, ago_s: int) -> None:
    uptime = Uptime()
    since_us = uptime.realtime_us - ago_s * SECOND
    position = position_at_start(blank(directory), since_us)
    assert (position.cursor, position.boot_id, position.realtime_us) == ("", uptime.boot_id, since_us)
    assert abs(position.monotonic_us - max(0, uptime.monotonic_us - ago_s * SECOND)) < SECOND
    assert position.clock is None


def test_reading_begins_now_and_not_later_where_a_later_time_is_asked_for(directory: Path) -> None:
    """What is written before that is read by this run, so the next one has to read it as well."""
    uptime = Uptime()
    position = position_at_start(blank(directory), uptime.realtime_us + HOUR)
    assert 0 <= position.realtime_us - uptime.realtime_us < 10 * SECOND
    assert 0 <= position.monotonic_us - uptime.monotonic_us < 10 * SECOND


@pytest.mark.parametrize("shift_us", [0, -HOUR, HOUR])
def test_what_came_after_the_start_in_an_empty_journal_is_read_and_nothing_is_said_to_be_lost(
    directory: Path, shift_us: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Also when the wall clock has been set since."""
    uptime = Uptime()
    position = position_at_start(blank(directory), uptime.realtime_us - 20 * SECOND)
    late = uptime.drop("of before", -30)  # written late, as by a flush from /run to /var
    export_to_journal([late, uptime.drop("1", 60, shift_us=shift_us)], directory / "a.journal")
    export_to_journal([uptime.drop("2", 61, shift_us=shift_us)], directory / "b.journal")
    messages, journal = read_all(directory, position)
    assert messages == drops([1, 2])
    assert journal.counts.lost == 0
    assert caplog.records == []


def test_a_start_before_all_entries_is_resumed_in_any_later_boot(directory: Path) -> None:
    export_to_journal([drop(n) for n in range(3)], directory / "a.journal")
    position = position_at_start(directory, START - HOUR)
    assert position.cursor == ""
    # The boot that was running is an older one by now; another one was between.
    position = replace(position, boot_id=OTHER_BOOT)
    export_to_journal([drop(3, boot_id=OTHER_BOOT), Uptime().drop("4", 0)], directory / "a.journal")
    messages, journal = read_all(directory, position)
    assert messages == drops(range(5))
    assert journal.counts.lost == 0


@pytest.mark.parametrize("shift_us", [0, -HOUR])
def test_a_start_at_an_entry_that_is_gone_hides_nothing_later(directory: Path, shift_us: int) -> None:
    """Also when the wall clock was set back after it."""
    export_to_journal([drop(n) for n in range(3)], directory / "a.journal")
    position = position_at_start(directory, START + 10 * SECOND)
    assert position.realtime_us == START + 2 * SECOND
    (directory / "a.journal").unlink()
    export_to_journal([drop(n, shift_us=shift_us) for n in (11, 12)], directory / "b.journal")
    assert read_all(directory, position)[0] == drops([11, 12])


def test_a_start_whose_entry_goes_meanwhile_is_a_time(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_to_journal([drop(1), drop(3)], directory / "a.journal")
    whole_open = Source.open

    def open_vacuumed(source: Source) -> Faulty:
        reader = Faulty(whole_open(source))
        reader.before("_get_cursor", None, [OSError(99, "Cannot assign requested address")])
        return reader

    with monkeypatch.context() as patch:
        patch.setattr(Source, "open", open_vacuumed)
        position = position_at_start(directory, START + 2 * SECOND)
    assert (position.cursor, position.realtime_us) == ("", START + 2 * SECOND)
    assert read_all(directory, position)[0] == ["drop 3"]


def test_nothing_before_the_start_counts_as_lag(directory: Path) -> None:
    """The last entry of a quiet node may be days old, and a reader that fails at once is not at the end."""
    export_to_journal([drop(1)], directory / "a.journal")
    clock = own_clock(lambda: (START + HOUR + 5 * SECOND) / 1e6)
    with Journal(directory=directory, wanted=drop_lines, since_us=START + HOUR, clock=clock) as journal:
        journal._open_journal.reader = Faulty(journal._open_journal.reader)  # type: ignore[assignment]
        journal._open_journal.reader.before("_next", None, [OSError(74, "Bad message")])
        assert not journal.read(10).at_end
        assert journal.lag_us() == 5 * SECOND
        assert drain(journal) == []
        assert (journal.lag_us(), journal.counts.lost) == (0, 0)


@pytest.mark.parametrize("below", ["", MACHINE_ID])
def test_files_may_lie_in_a_machine_id_directory(directory: Path, below: str) -> None:
    export_to_journal([drop(1)], directory / below / "system.journal")
    assert read_all(directory)[0] == ["drop 1"]


def test_given_files_are_read_and_no_others(directory: Path) -> None:
    for n in range(3):
        export_to_journal([drop(n), noise(n)], directory / f"{n}.journal")
    with Journal(files=[directory / "0.journal", directory / "2.journal"], wanted=drop_lines) as journal:
        assert drain(journal) == drops([0, 2])
        assert drain(journal) == []


def test_a_damaged_file_does_not_keep_from_reading_the_others(directory: Path) -> None:
    for n in (0, 1, 2):
        export_to_journal([drop(n)], directory / f"{n}.journal")
    with (directory / "1.journal").open("r+b") as file:
        file.truncate(5000)
    (directory / "3.journal").write_bytes(b"no journal")
    assert read_all(directory)[0] == drops([0, 2])


# Errors at the start


def cause(directory: Path, make: str) -> dict[str, object]:
    """A journal that cannot be read, as Journal's arguments."""
    directory.mkdir()
    junk = directory / "junk.journal"
    if make.startswith("junk"):
        junk.write_bytes(b"x" * 10_000)
    match make:
        case "no directory":
            return {"directory": directory / "none"}
        case "empty directory" | "junk in directory":
            return {"directory": directory}
        case "no file":
            return {"files": [directory / "none.journal"]}
        case "junk file":
            return {"files": [junk]}
        case "directory as file":
            return {"files": [directory]}
    export_to_journal([drop(1)], junk)
    return {"directory": junk} if make == "file as directory" else {"files": [junk, directory / "none.journal"]}


@pytest.mark.parametrize(
    ("make", "names", "says"),
    [
        ("no directory", "none", "does not exist"),
        ("empty directory", "journal directory", "no *.journal files"),
        ("junk in directory", "journal directory", "damaged"),
        ("no file", "none.journal", "does not exist"),
        ("junk file", "junk.journal", "damaged, no journal"),
        ("directory as file", "journal", "use --journal-directory"),
        ("file as directory", "junk.journal", "use --journal-file"),
        ("second file missing", "none.journal", "does not exist"),
    ],
)
def test_a_journal_that_cannot_be_read_is_an_error(directory: Path, make: str, names: str, says: str) -> None:
    with pytest.raises(JournalError) as error:
        Journal(wanted=any_line, **cause(directory, make))  # type: ignore[arg-type]
    assert names in str(error.value)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def as_nobody(program: str, *, prefix: Sequence[str] = ()) -> str:
    """Run Python code as a user without rights and give its output."""
    if os.geteuid() != 0:
        pytest.skip("needs root: becomes another user")
    become = "import os, kiptail.journal.follow; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    done = subprocess.run(
        [*prefix, sys.executable, "-c", become + program],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


TRY_TO_READ = """
from pathlib import Path
from typing import Any
from kiptail.journal.follow import Journal
from kiptail.journal.scanner import Batch
from kiptail.errors import JournalError
try:
    Journal({arguments}wanted=lambda message: True).close()
    print("readable")
except JournalError as error:
    print(error)
"""


@pytest.mark.live
@pytest.mark.parametrize("arguments", ["directory=Path({directory!r}), ", "files=[Path({file!r})], "])
def test_without_the_right_to_read_the_group_is_named(tmp_path_factory: pytest.TempPathFactory, arguments: str) -> None:
    directory = reachable(tmp_path_factory)
    file = directory / "system.journal"
    export_to_journal([drop(1)], file)
    program = TRY_TO_READ.format(arguments=arguments.format(directory=str(directory), file=str(file)))
    file.chmod(0o640)
    assert "permission denied: add the user to the group systemd-journal" in as_nobody(program)
    file.chmod(0o644)
    assert as_nobody(program) == "readable\n"
    directory.chmod(0o700)
    assert "permission denied: add the user to the group systemd-journal" in as_nobody(program)


def reachable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that every user may enter."""
    directory = tmp_path_factory.mktemp("journal")
    directory.chmod(0o755)
    for parent in directory.parents:
        if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    return directory


# Resuming


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(limits=st.lists(st.integers(1, 9), min_size=1, max_size=12), restarts=st.sets(st.integers(0, 12)))
def test_whatever_the_batches_and_restarts_each_entry_comes_once(
    ten_in_three_files: Path, limits: list[int], restarts: set[int]
) -> None:
    journal = Journal(directory=ten_in_three_files, wanted=drop_lines)
    messages: list[str] = []
    for n, limit in enumerate([*limits, 100, 100]):
        if n in restarts:
            journal.close()
            journal = Journal(directory=ten_in_three_files, wanted=drop_lines, position=journal.position())
        messages += journal.read(limit).lines
    journal.close()
    assert messages == drops(range(10))
    assert journal.counts.lost == 0


@pytest.fixture(scope="module")
def ten_in_three_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ten")
    for name, numbers in (("a", range(4)), ("b", range(4, 5)), ("c", range(5, 10))):
        export_to_journal([f(n) for n in numbers for f in (drop, noise)], directory / f"{name}.journal")
    return directory


def test_a_replay_gives_the_same_times(directory: Path) -> None:
    """Also while journald's delay comes and goes: the clock is part of the position."""
    entries = [
        kernel_entry(
            f"drop {n}",
            realtime_us=START + n * SECOND,
            monotonic_us=(100 + n) * SECOND,
            _SOURCE_MONOTONIC_TIMESTAMP=(100 + n) * SECOND - (n % 4) * 300_000 - n * 50,
        )
        for n in range(20)
    ]
    export_to_journal(entries, directory / "a.journal")
    with Journal(directory=directory, wanted=drop_lines) as journal:
        once = journal.read(100)
    assert len({time_us % SECOND for time_us in once.times_us}) > 3
    for count in (1, 7, 19):
        position = position_after(directory, count)
        with Journal(directory=directory, wanted=drop_lines, position=position) as journal:
            assert journal.read(100) == Batch(once.lines[count:], once.times_us[count:], at_end=True)


@pytest.mark.parametrize("cursor", ["", "nonsense", "s=zz;i=1", "s=0;i=99;b=1;m=1;t=1;x=1", "a\0b"])
def test_without_a_usable_cursor_the_times_tell_what_was_read(directory: Path, cursor: str) -> None:
    export_to_journal([drop(n) for n in range(3)], directory / "a.journal")
    export_to_journal([drop(n) for n in range(3, 6)], directory / "b.journal")
    position = replace(position_after(directory, 3), cursor=cursor)
    messages, journal = read_all(directory, position)
    assert messages == drops(range(3, 6))
    assert journal.counts.lost == 0


def test_a_position_of_no_boot_is_told_by_the_wall_clock(directory: Path) -> None:
    export_to_journal([drop(n) for n in range(6)], directory / "a.journal")
    position = replace(position_after(directory, 3), cursor="", boot_id="?", realtime_us=START + 3 * SECOND)
    assert read_all(directory, position)[0] == drops(range(3, 6))


def test_a_loss_is_reported_once(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    export_to_journal([drop(n) for n in range(3)], directory / "a.journal")
    with Journal(directory=directory, wanted=drop_lines) as journal:
        assert len(journal.read(1).lines) == 1
        for n, name in ((5, "b"), (6, "c"), (7, "d")):
            export_to_journal([drop(n)], directory / f"{name}.journal")
            (directory / "a.journal").unlink(missing_ok=True)
            journal._process()
        assert drain(journal) == drops([5, 6, 7])
        assert journal.counts.lost == 1
    assert caplog.text.count("deleted before they were read") == 1


def test_entries_that_journald_moved_elsewhere_are_not_read_again(directory: Path, tmp_path: Path) -> None:
    """As by a flush from /run to /var: the same entries, newly numbered, after those of older boots."""
    export_to_journal([drop(n) for n in range(6)], tmp_path / "run" / "a.journal")
    position = position_after(tmp_path / "run", 4)
    export_to_journal([drop(n, boot_id=OTHER_BOOT, shift_us=-HOUR) for n in range(9)], directory / "old.journal")
    export_to_journal([drop(n) for n in range(6)], directory / "a.journal")
    messages, journal = read_all(directory, position)
    assert messages == drops([4, 5])
    assert journal.counts.lost == 0
    end = journal.position()
    assert end is not None
    assert end.cursor
    assert read_all(directory, end)[0] == []


@pytest.mark.parametrize(
    ("read", "left", "expected", "lost"),
    [
        pytest.param(3, range(5, 8), range(5, 8), 1, id="unread ones are gone"),
        pytest.param(5, range(5, 8), range(5, 8), 1, id="perhaps none between"),
        pytest.param(6, range(5, 8), range(6, 8), 0, id="only read ones are gone"),
        pytest.param(8, range(5, 8), (), 0, id="all was read"),
    ],
)
def test_after_a_vacuum_unread_survivors_are_read(
    directory: Path, read: int, left: Sequence[int], expected: Sequence[int], lost: int
) -> None:
    whole = directory.parent / "whole"
    export_to_journal([drop(n) for n in range(8)], whole / "a.journal")
    position = position_after(whole, read)
    export_to_journal([drop(n) for n in left], directory / "a.journal")
    messages, journal = read_all(directory, position)
    assert messages == drops(expected)
    assert journal.counts.lost == lost


def test_a_position_later_than_the_journals_end_hides_nothing_new(directory: Path) -> None:
    """journald lost its last entries in a power failure."""
    export_to_journal([drop(n) for n in range(6)], directory / "a.journal")
    position = position_after(directory, 6)
    (directory / "a.journal").unlink()
    export_to_journal([drop(n) for n in range(3)], directory / "b.journal")
    with Journal(directory=directory, wanted=drop_lines, position=position) as journal:
        assert drain(journal) == []
        assert journal.counts.lost == 0
        assert journal.position() == position
        export_to_journal([drop(9, shift_us=-6 * SECOND, boot_id=OTHER_BOOT)], directory / "b.journal")
        assert drain(journal) == ["drop 9"]


@pytest.mark.parametrize("shift_us", [-HOUR, 0, HOUR])
def test_the_running_boot_is_later_than_any_position_in_another(directory: Path, shift_us: int) -> None:
    """The wall clock may be behind at the start of a boot, or have been ahead at the end of the last one."""
    running = journal_reader._BOOT_ID.read_text().strip().replace("-", "")
    export_to_journal([drop(n, boot_id=OTHER_BOOT) for n in range(6)], directory / "a.journal")
    position = replace(position_after(directory, 4), cursor="")
    export_to_journal([drop(n, boot_id=running, shift_us=shift_us) for n in range(6, 9)], directory / "b.journal")
    assert set(read_all(directory, position)[0]) == set(drops(range(4, 9)))


def test_a_clock_set_back_within_the_boot_hides_nothing(directory: Path) -> None:
    export_to_journal([drop(n) for n in range(3)], directory / "a.journal")
    position = replace(position_after(directory, 2), cursor="")
    export_to_journal([drop(n, shift_us=-HOUR) for n in range(3, 6)], directory / "b.journal")
    assert sorted(read_all(directory, position)[0]) == drops(range(2, 6))


def test_an_older_boot_is_not_read_again_because_the_clock_was_set_back(directory: Path) -> None:
    """The first unread entry's time is that of an older boot's entries, which have been read."""
    older = [drop(n, boot_id=OTHER_BOOT) for n in range(3)]
    export_to_journal([*older, *(drop(n) for n in range(3, 5))], directory / "a.journal")
    position = replace(position_after(directory, 5), cursor="")
    export_to_journal([drop(n, shift_us=-6 * SECOND) for n in range(5, 7)], directory / "a.journal")
    assert read_all(directory, position)[0] == drops([5, 6])


# Moving over ignored entries


def test_at_the_end_the_position_is_the_journals_last_entry(directory: Path) -> None:
    export_to_journal([drop(1), drop(2), *(noise(n) for n in range(3, 50))], directory / "a.journal")
    _, journal = read_all(directory)
    position = journal.position()
    assert position is not None
    assert position.realtime_us == START + 49 * SECOND
    messages, again = read_all(directory, position)
    assert messages == []
    assert again.position() == position
    export_to_journal([drop(50), noise(51)], directory / "b.journal")
    assert read_all(directory, position)[0] == ["drop 50"]


def test_in_a_backlog_the_position_is_the_last_entry_that_was_read(directory: Path) -> None:
    export_to_journal([f(n) for n in range(9) for f in (drop, noise)], directory / "a.journal")
    position = position_after(directory, 4)
    assert position.realtime_us == START + 3 * SECOND


def test_a_journal_without_kernel_lines_has_a_position_too(directory: Path) -> None:
    export_to_journal([noise(1), noise(2)], directory / "a.journal")
    with Journal(directory=directory, wanted=drop_lines) as journal:
        assert journal.position() is None
        assert drain(journal) == []
        position = journal.position()
    assert position is not None
    assert position.realtime_us == START + 2 * SECOND


def test_a_last_entry_that_matches_is_left_to_the_scan(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """journald adds an entry to the list of all before it adds it to those by field."""
    export_to_journal([drop(1), noise(2), line(3, "link up")], directory / "a.journal")
    with Journal(directory=directory, wanted=drop_lines) as journal:
        monkeypatch.setattr(journal, "_scan", lambda entries, limit: True)
        assert journal.read(10).at_end
        assert journal.position() is None


def test_the_position_passes_no_line_that_came_meanwhile(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel line, then another entry, written between reading to the end and asking for the last entry."""
    export_to_journal([drop(1)], directory / "a.journal")
    whole_open = Source.open

    def open_later(source: Source) -> object:
        if len(list(directory.iterdir())) == 1 and opened:
            export_to_journal([drop(2), noise(3)], directory / "b.journal")
        opened.append(1)
        return whole_open(source)

    opened: list[int] = []
    with Journal(directory=directory, wanted=drop_lines) as journal:
        monkeypatch.setattr(Source, "open", open_later)
        opened.append(1)
        assert journal.read(10).lines == drops([1, 2])
        position = journal.position()
    assert position is not None
    assert position.realtime_us == START + 2 * SECOND


def test_an_older_boot_whose_clock_was_ahead_does_not_move_the_position_back(directory: Path) -> None:
    running = journal_reader._BOOT_ID.read_text().strip().replace("-", "")
    ahead = kernel_entry("x", realtime_us=START + HOUR, monotonic_us=5, boot_id=OTHER_BOOT, _TRANSPORT="journal")
    export_to_journal([ahead], directory / "a.journal")
    export_to_journal([drop(1, boot_id=running), drop(2, boot_id=running)], directory / "b.journal")
    _, journal = read_all(directory)
    position = journal.position()
    assert position is not None
    assert position.boot_id == running


def test_the_journal_is_opened_once_more_only_when_it_grew_and_not_each_time(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_to_journal([drop(1), noise(2)], directory / "a.journal")
    with Journal(directory=directory, wanted=drop_lines) as journal:
        assert drain(journal) == ["drop 1"]
        opened = []
        whole_open = Source.open
        monkeypatch.setattr(Source, "open", lambda source: opened.append(1) or whole_open(source))
        export_to_journal([noise(3)], directory / "a.journal")
        drain(journal)
        assert not opened, "not within five seconds"
        journal._pass_due = 0.0
        drain(journal)
        assert len(opened) == 1
        journal._pass_due = 0.0
        drain(journal)
        assert len(opened) == 1, "nothing was written"
        position = journal.position()
    assert position is not None
    assert position.realtime_us == START + 3 * SECOND


# Waiting, and readers that fail


def test_waiting_ends_at_once_by_the_wakeup_descriptor(directory: Path) -> None:
    export_to_journal([noise(1)], directory / "a.journal")
    read_end, write_end = os.pipe()
    try:
        with Journal(directory=directory, wanted=drop_lines) as journal:
            drain(journal)
            os.write(write_end, b"\0")
            started = time.monotonic()
            journal.wait(60, read_end)
            assert time.monotonic() - started < 0.05
    finally:
        os.close(read_end)
        os.close(write_end)


@pytest.mark.parametrize(
    ("entries", "timeout", "least", "most"),
    [
        pytest.param([noise(1)], 0.25, 0.24, 0.4, id="quiet"),
        pytest.param([drop(1)], 60, 0.018, 0.08, id="soon after a kernel line"),
        pytest.param([noise(1)], 0.01, 0.009, 0.08, id="less than a poll"),
        pytest.param([noise(1)], -1, 0, 0.05, id="no time left"),
    ],
)
def test_how_long_a_wait_lasts(
    directory: Path, entries: list[Fields], timeout: float, least: float, most: float
) -> None:
    export_to_journal(entries, directory / "a.journal")
    with Journal(directory=directory, wanted=drop_lines) as journal:
        drain(journal)
        drain(journal)
        times = []
        for _ in range(5):
            started = time.monotonic()
            journal.wait(timeout, None)
            times.append(time.monotonic() - started)
    assert least <= sorted(times)[2] <= most


def test_a_wait_ends_a_poll_after_something_was_written(directory: Path) -> None:
    """And so does the next one: the list of all entries may have it before the list of those that match."""
    export_to_journal([noise(1)], directory / "a.journal")

    def waited(timeout: float) -> float:
        drain(journal)
        started = time.monotonic()
        journal.wait(timeout, None)
        return time.monotonic() - started

    with Journal(directory=directory, wanted=drop_lines) as journal:
        reader = Ends(journal._open_journal.reader)
        journal._open_journal.reader = reader  # type: ignore[assignment]
        assert waited(5) < 0.2, "nothing is known of the end yet"
        threading.Timer(0.15, setattr, (reader, "later_us", 1)).start()
        assert 0.14 < waited(5) < 0.4
        assert waited(5) < 0.2
        assert waited(0.5) > 0.49


class Ends:
    """A reader to which the journal's end seems later than it is."""

    def __init__(self, reader: Any) -> None:
        self._reader, self.later_us = reader, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._reader, name)

    def _get_end(self) -> int:
        return self._reader._get_end() + self.later_us


def test_a_signal_is_served_while_waiting(directory: Path) -> None:
    export_to_journal([noise(1)], directory / "a.journal")
    received: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: received.append(number))
    try:
        with Journal(directory=directory, wanted=drop_lines) as journal:
            drain(journal)
            threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            started = time.monotonic()
            while not received:
                journal.wait(1, None)
            assert time.monotonic() - started < 0.5
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_failing_reader_is_replaced_where_it_was(directory: Path) -> None:
    """As EBADMSG after a vacuum, for ever."""
    export_to_journal([drop(n) for n in range(6)], directory / "a.journal")
    with Journal(directory=directory, wanted=drop_lines) as journal:
        reader = Faulty(journal._open_journal.reader)
        reader.before("_next", None, [None, None, None, OSError(74, "Bad message")])
        journal._open_journal.reader = reader  # type: ignore[assignment]
        first = journal.read(100)
        assert (first.lines, first.at_end) == (drops([0, 1, 2]), False)
        assert drain(journal) == drops([3, 4, 5])
        assert (journal.counts.reopened, journal.counts.lost, journal.trouble) == (1, 0, "")


def test_a_place_that_can_no_longer_be_asked_for_is_known_by_its_times(directory: Path) -> None:
    export_to_journal([drop(0), drop(1), line(2, "link up"), drop(3)], directory / "a.journal")
    with Journal(directory=directory, wanted=drop_lines) as journal:
        reader = Faulty(journal._open_journal.reader)
        reader.before("_next", None, [None, None, None, OSError(74, "Bad message")])
        reader.before("_get_cursor", None, [OSError(99, "Cannot assign requested address")])
        journal._open_journal.reader = reader  # type: ignore[assignment]
        assert journal.read(100).lines == drops([0, 1])
        position = journal.position()
        assert drain(journal) == ["drop 3"]
    assert position is not None
    assert (position.cursor, position.realtime_us) == ("", START + SECOND)
    assert read_all(directory, position)[0] == ["drop 3"]


@pytest.mark.parametrize("fails", ["_next", "_get_realtime", "_get_monotonic", "_get_all"])
def test_the_place_of_the_last_known_line_is_known_by_its_times(fails: str, directory: Path) -> None:
    rules = Prefixes([PrefixRule("drop", Verdict.DROP)])
    head = "drop IN=a OUT=b SRC=10.0.0.1 DST=10.0.0.2 LEN=60 TOS=0x00 PREC=0x00 TTL=63"
    lines = [line(n, f"{head} ID={n} PROTO=UDP SPT=40000 DPT=53 LEN=40 ") for n in range(9)]
    export_to_journal(lines, directory / "a.journal")
    # For the first line each of them is called once, or not at all.
    passed = 4 if fails != "_get_all" else 3
    damaged = OSError(74, "Bad message")
    with Journal(directory=directory, wanted=KnownLines(rules).wanted) as journal:
        reader = Faulty(journal._open_journal.reader)
        reader.before(fails, None, [*[None] * passed, *[damaged] * 2])
        reader.before("_next", None, [*[None] * passed, damaged if fails == "_next" else None, damaged])
        reader.before("_get_cursor", None, [damaged])
        journal._open_journal.reader = reader  # type: ignore[assignment]
        found = journal.read(100)
        position = journal.position()
        assert position is not None
        assert (position.cursor, position.realtime_us) == ("", found.times_us[-1])
        found_later = journal.read(100)
    assert [*found.times_us, *found_later.times_us] == [START + n * SECOND for n in range(9)]


def test_a_journal_that_went_away_is_tried_again_and_logged_once(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recovery, "_REOPEN_SECONDS", 0.05)
    caplog.set_level(logging.INFO)
    export_to_journal([drop(1), drop(2)], directory / "a.journal")
    with Journal(directory=directory, wanted=drop_lines) as journal:
        assert len(journal.read(1).lines) == 1
        directory.rename(directory.with_name("away"))
        journal.close()
        position = journal.position()
        for _ in range(5):
            assert journal.read(100) == Batch(at_end=True)
            journal.wait(0.06, None)
        assert "does not exist" in journal.trouble
        assert journal.position() == position
        directory.with_name("away").rename(directory)
        until(lambda: drain(journal) == ["drop 2"], "the rest")
        assert journal.trouble == ""
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


def test_a_journal_that_cannot_be_read_is_not_opened_over_and_over(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each reader fails, and opening works: once a second, and one line in the log."""
    whole_open = Source.open
    opened: list[int] = []

    def open_broken(source: Source) -> Faulty:
        opened.append(1)
        reader = Faulty(whole_open(source))
        reader.before("process", None, [OSError(5, "Input/output error")])
        return reader

    monkeypatch.setattr(Source, "open", open_broken)
    export_to_journal([drop(1)], directory / "a.journal")
    with Journal(directory=directory, wanted=drop_lines) as journal:
        started = time.monotonic()
        batches = [journal.read(100) for _ in range(200)]
        assert len(opened) <= 3 + time.monotonic() - started
        assert [batch.at_end for batch in batches].count(False) <= 1
        assert "Input/output error" in journal.trouble
        assert journal.lag_us() == 0
    assert len(caplog.records) == 1


def test_without_inotify_new_files_are_found_all_the_same(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """fs.inotify.max_user_instances is 128, and a node's root processes may use them all."""
    whole_open = Source.open

    def open_without_inotify(source: Source) -> Faulty:
        reader = Faulty(whole_open(source))
        reader.before("fileno", None, [OSError(24, "Too many open files")])
        return reader

    monkeypatch.setattr(Source, "open", open_without_inotify)
    monkeypatch.setattr(module, "_PASS_SECONDS", 0.05)
    export_to_journal([drop(1), noise(2)], directory / "a.journal")
    with Journal(directory=directory, wanted=drop_lines) as journal:
        assert drain(journal) == ["drop 1"]
        export_to_journal([drop(3), noise(4)], directory / "b.journal")
        assert follow(journal) == ["drop 3"]
        assert journal.counts.lost == 0
    assert caplog.text.count("max_user_instances") == 1


def test_a_directory_that_was_replaced_is_found(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PASS_SECONDS", 0.05)
    monkeypatch.setattr(module, "_UNNOTICED_SECONDS", 0.1)
    export_to_journal([drop(1), noise(2)], directory / "a.journal")
    with Journal(directory=directory, wanted=drop_lines) as journal:
        assert drain(journal) == ["drop 1"]
        export_to_journal([drop(3)], directory.with_name("new") / "a.journal")
        directory.rename(directory.with_name("old"))
        directory.with_name("new").rename(directory)
        assert follow(journal) == ["drop 3"]


def test_a_trouble_is_not_over_while_a_directory_that_was_replaced_cannot_be_opened(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The read before went well, but nothing is read until it is opened."""
    monkeypatch.setattr(module, "_PASS_SECONDS", 0.05)
    monkeypatch.setattr(module, "_UNNOTICED_SECONDS", 0.1)
    monkeypatch.setattr(recovery, "_REOPEN_SECONDS", 0.05)
    caplog.set_level(logging.INFO)

    def fail() -> None:
        raise OSError(24, "Too many open files")

    export_to_journal([drop(1), noise(2)], directory / "a.journal")
    with Journal(directory=directory, wanted=drop_lines) as journal:
        assert drain(journal) == ["drop 1"]
        export_to_journal([drop(3)], directory.with_name("new") / "a.journal")
        directory.rename(directory.with_name("old"))
        directory.with_name("new").rename(directory)
        with monkeypatch.context() as broken:
            broken.setattr(journal._open_journal, "open", fail)
            until(lambda: drain(journal) == [] and caplog.records, "the trouble")
            for _ in range(3):
                assert "Too many open files" in journal.trouble
                assert drain(journal) == []
                journal.wait(0.06, None)
        assert follow(journal) == ["drop 3"]
        assert journal.trouble == ""
    troubles = [record.levelname for record in caplog.records if record.name == "kiptail.journal.recovery"]
    assert troubles == ["ERROR", "INFO"]


# With a real journald


@pytest.fixture
def token() -> str:
    """/dev/kmsg is one for the whole machine."""
    return f"kt{uuid.uuid4().hex[:12]}"


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    if os.geteuid() != 0:
        pytest.skip(ROOT_NEEDED)
    with Journald(tmp_path / "journald") as running:
        yield running


@pytest.fixture
def send(token: str, journald: Journald) -> Iterator[Callable[[], None]]:
    with netfilter_log(token) as packet:
        yield packet


def count(journal: Journal, expected: int, what: str) -> None:
    """Follow until this many more entries have been given out, and see that no more come."""
    found = 0

    def enough() -> bool:
        nonlocal found
        batch = journal.read(10)
        found += len(batch.lines)
        if batch.at_end:
            journal.wait(1, None)
        return batch.at_end and found >= expected

    until(enough, f"{expected} entries {what}")
    assert found == expected, what


@pytest.mark.live
def test_only_real_netfilter_lines_are_believed(journald: Journald, token: str, send: Callable[[], None]) -> None:
    with Journal(directory=journald.directory, wanted=lambda message: token.encode() in message) as journal:
        send()
        kmsg(f"{token} IN= OUT=lo SRC=127.0.0.1")
        journald.systemd_cat("kernel", f"{token} IN= OUT=lo SRC=127.0.0.1")
        journald.send_native(
            {
                "MESSAGE": f"{token} IN=",
                "SYSLOG_FACILITY": 0,
                "SYSLOG_IDENTIFIER": "kernel",
                "_TRANSPORT": "kernel",
            }
        )
        journald.send_native({"MESSAGE": "Missed 7 kernel messages", "MESSAGE_ID": MISSED_MESSAGE_ID})
        journald.sync()
        missed = journal.counts.missed
        messages = drain(journal)
        assert len(messages) == 1
        assert messages[0].startswith(f"{token} IN= OUT=lo SRC=127.0.0.1 DST=127.0.0.1 ")
        assert journal.counts.untrusted == 1
        assert journal.counts.missed - missed != 7


@pytest.mark.live
def test_rotation_and_restarts_of_journald_lose_and_double_nothing(
    journald: Journald, token: str, send: Callable[[], None]
) -> None:
    with Journal(directory=journald.directory, wanted=lambda message: token.encode() in message) as journal:
        journald.sync()
        drain(journal)

        def rotate_by_signal() -> None:
            journald.send_signal(signal.SIGUSR2)

        def restart() -> None:
            journald.stop()
            send()
            journald.start()

        def crash() -> None:
            journald.kill()
            send()
            journald.start()

        for act, expected in ((rotate_by_signal, 6), (journald.rotate, 6), (restart, 7), (crash, 7)):
            for _ in range(3):
                send()
            act()
            for _ in range(3):
                send()
            count(journal, expected, act.__name__)
        position = journal.position()
        assert (journal.counts.lost, journal.counts.reopened) == (0, 0)
    with Journal(
        directory=journald.directory, wanted=lambda message: token.encode() in message, position=position
    ) as journal:
        assert drain(journal) == []
        assert journal.counts.lost == 0


@pytest.mark.live
def test_a_vacuum_under_the_reader_is_survived_and_reported(
    journald: Journald, token: str, send: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    """The file's blocks are gone at once: sd_journal_next(3) gives EBADMSG, or the next file's entry."""
    for _ in range(10):
        send()
    journald.sync()
    asked = []

    def wanted(message: bytes) -> bool:
        if token.encode() not in message:
            return False
        asked.append(message)
        if len(asked) == 5:
            journald.rotate()
            for _ in range(3):
                send()
            journald.sync()
            journald.vacuum()
        return True

    with Journal(directory=journald.directory, wanted=wanted) as journal:
        count(journal, 4 + 3, "before and after the vacuum")
        assert journal.counts.lost == 1
        position = journal.position()
    assert caplog.text.count("deleted before they were read") == 1
    with Journal(
        directory=journald.directory, wanted=lambda message: token.encode() in message, position=position
    ) as journal:
        assert drain(journal) == []


@pytest.mark.live
@pytest.mark.parametrize("unread", [0, 1])
def test_only_what_was_deleted_unread_is_a_loss(tmp_path: Path, unread: int) -> None:
    """Everything up to the position is deleted, and one entry more or none."""
    if os.geteuid() != 0:
        pytest.skip(ROOT_NEEDED)
    with Journald(tmp_path / "journald", settings={"ReadKMsg": "no"}) as journald:

        def log(number: int) -> None:
            for _ in range(number):
                journald.send_native({"MESSAGE": "noise"})
            journald.sync()

        log(3)
        _, journal = read_all(journald.directory)
        log(unread)
        journald.rotate()
        log(1)
        journald.vacuum()
        _, again = read_all(journald.directory, journal.position())
        assert again.counts.lost == unread


@pytest.mark.live
@pytest.mark.parametrize("unread", [0, 1])
def test_a_start_at_the_last_entry_knows_what_was_deleted_after_it(tmp_path: Path, unread: int) -> None:
    """A quiet node, and nothing was read: no loss, unless an entry came and went."""
    if os.geteuid() != 0:
        pytest.skip(ROOT_NEEDED)
    with Journald(tmp_path / "journald", settings={"ReadKMsg": "no"}) as journald:
        journald.send_native({"MESSAGE": "noise"})
        journald.sync()
        position = position_at_start(journald.directory, time.time_ns() // 1000)
        assert position.cursor
        for _ in range(unread):
            journald.send_native({"MESSAGE": "noise"})
        journald.sync()
        journald.rotate()
        journald.send_native({"MESSAGE": "noise"})
        journald.sync()
        journald.vacuum()
        _, journal = read_all(journald.directory, position)
        assert journal.counts.lost == unread


@pytest.mark.live
@pytest.mark.parametrize(("look_back_s", "expected"), [(0, 3), (24 * 3600, 4)], ids=["now", "before all entries"])
def test_a_flush_from_run_to_var_after_the_start_loses_and_doubles_nothing(
    tmp_path: Path, token: str, look_back_s: int, expected: int
) -> None:
    if os.geteuid() != 0:
        pytest.skip(ROOT_NEEDED)
    with Journald(tmp_path / "journald", flushed=False) as journald, netfilter_log(token) as send:
        send()
        until(lambda: token in journald.run("journalctl", "-q", "-o", "cat"), "the first one")
        position = position_at_start(journald.runtime_directory, time.time_ns() // 1000 - look_back_s * SECOND)
        assert bool(position.cursor) is (look_back_s == 0)
        for _ in range(2):
            send()
        journald.flush()
        send()
        wanted = token.encode()
        with Journal(
            directory=journald.directory, wanted=lambda message: wanted in message, position=position
        ) as journal:
            count(journal, expected, "since the start")
            assert journal.counts.lost == 0


@pytest.mark.live
def test_a_stall_of_journald_does_not_change_a_drops_time(
    journald: Journald, token: str, send: Callable[[], None]
) -> None:
    with Journal(directory=journald.directory, wanted=lambda message: token.encode() in message) as journal:
        send()
        count(journal, 1, "before the stall")
        journald.send_signal(signal.SIGSTOP)
        sent_us = time.time_ns() // 1000
        send()
        time.sleep(1.5)  # the stall itself
        journald.send_signal(signal.SIGCONT)
        times_us: list[int] = []

        def received() -> bool:
            journal.wait(1, None)
            times_us.extend(journal.read(10).times_us)
            return bool(times_us)

        until(received, "the entry")
        assert abs(times_us[0] - sent_us) < 100_000
        position = journal.position()
        assert position is not None
        assert position.realtime_us > sent_us + 1_400_000


#: Reads this machine's journal: a JSON line for each entry, and one with the position at the end of standard
#: input.
FOLLOW = """
import dataclasses, json, select, sys
from kiptail.journal.position import Position
from kiptail.journal.follow import Journal
token, stored = sys.argv[1:]
position = Position(**json.loads(stored)) if stored else None
with Journal(wanted=lambda message: token.encode() in message, position=position) as journal:
    print('"ready"', flush=True)
    while not select.select([0], [], [], 0)[0]:
        batch = journal.read(10)
        for line in batch.lines:
            print(json.dumps(line), flush=True)
        if batch.at_end:
            journal.wait(1, 0)
    position = dataclasses.replace(journal.position(), clock=None, times=None)
    print(json.dumps([dataclasses.asdict(position), journal.counts.lost]))
"""


class Follower:
    """Follows the journal from inside a journald's namespace, where that is this machine's journal."""

    def __init__(self, journald: Journald, token: str, stored: str = "") -> None:
        #: Where it had got to, and how often it had found a loss; known after :meth:`close`.
        self.stored = stored
        self.lost = 0
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            journald.command(sys.executable, "-c", FOLLOW, token, stored),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        assert json.loads(self._lines.get(timeout=10)) == "ready"

    def expect(self, count: int) -> None:
        """This many more entries."""
        for _ in range(count):
            self._lines.get(timeout=10)

    def close(self) -> None:
        """End it; it must not have found any more entries."""
        if self._thread.is_alive():
            self._process.stdin.close()  # type: ignore[union-attr]
            self._thread.join(10)
            assert self._process.wait(10) == 0
            position, self.lost = json.loads(self._lines.get(timeout=0))
            self.stored = json.dumps(position)
            assert self._lines.empty()

    def _read(self) -> None:
        with self._process.stdout as output:  # type: ignore[union-attr]
            for line in output:
                self._lines.put(line)


@pytest.mark.live
@pytest.mark.parametrize("live", [True, False], ids=["while reading", "between two runs"])
def test_a_flush_from_run_to_var_loses_and_doubles_nothing(tmp_path: Path, token: str, live: bool) -> None:
    if os.geteuid() != 0:
        pytest.skip(ROOT_NEEDED)
    with Journald(tmp_path / "journald", flushed=False) as journald, netfilter_log(token) as send:
        follower = Follower(journald, token)
        try:
            for _ in range(3):
                send()
            follower.expect(3)
            if not live:
                follower.close()
            assert list(journald.runtime_directory.rglob("*.journal"))
            journald.flush()
            assert not list(journald.runtime_directory.rglob("*.journal"))
            for _ in range(4):
                send()
            if not live:
                follower = Follower(journald, token, follower.stored)
            follower.expect(4)
            journald.rotate()
            send()
            follower.expect(1)
        finally:
            follower.close()
        assert follower.lost == 0


@pytest.mark.live
def test_this_machines_journal_needs_a_group(tmp_path_factory: pytest.TempPathFactory) -> None:
    if os.geteuid() != 0:
        pytest.skip(ROOT_NEEDED)
    program = TRY_TO_READ.format(arguments="")
    with Journald(reachable(tmp_path_factory) / "journald") as journald:
        answer = as_nobody(program, prefix=journald.command())
        assert answer.startswith("this machine's journal cannot be read")
        assert "add the user to the group systemd-journal, or run as root" in answer
        journald.stop()
        for file in journald.directory.rglob("*.journal"):
            file.chmod(0o644)
        assert as_nobody(program, prefix=journald.command()) == "readable\n"
